//! Floor 0: the words of the system as types, the ports as traits, and its decisions as pure functions.
//!
//! Nothing here knows a runtime, a driver, a clock or a file. What must hold is numbered L1 to L12 (ARCHITECTURE.md);
//! the code that enforces a law cites it.

pub mod bucket;
pub mod command;
pub mod decide;
pub mod port;

mod change;
mod codec;
mod fault;
mod fingerprint;
mod format;
mod key;
mod limits;
mod mark;
mod message;
mod page;
mod row;
mod span;
mod table;
mod value;
mod version;

pub use change::{Change, Field, Op, Shape};
pub use codec::{Reader, put_bytes, put_varint};
pub use fault::{Fault, FaultKind};
pub use fingerprint::{Fingerprint, fingerprint};
pub use format::Formats;
pub use key::{Key, KeyRange};
pub use limits::{LagAction, Limits};
pub use mark::{Held, Mark};
pub use message::{Batch, Envelope, FenceId, Lane, Message, Origin, PipelineId};
pub use page::{Decode, Page, PageBuilder, RowCodec, Slices};
pub use row::{decode_row, decode_row_into, encode_row, encode_value, read_value};
pub use span::SPANS;
pub use table::{Arity, Column, Include, Namespace, Selection, Table};
pub use value::{Kind, Value};
pub use version::Version;
