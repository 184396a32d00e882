//! Values as JSON and canonical text, conversions between their kinds, and the equality that `verify` needs. Nothing is
//! lost on the way: numbers stay text, and only a conversion *to* a float makes a float.

pub mod text;

mod cast;
mod json;
mod same;

pub use cast::{CastError, cast};
pub use json::{document_to_json, parse_json, to_json, write_json};
pub use same::same;
