mod document;
mod parse;
mod write;

pub use document::document_to_json;
pub use parse::parse_json;
pub use write::{to_json, write_json};
