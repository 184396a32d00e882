//! jq programs: compiled once, run on many records, kept from everything outside the record and within bounds.

mod budget;
mod functions;
mod program;
mod reads;
mod value;

pub(crate) use program::{Input, Program};
pub(crate) use reads::Reads;
