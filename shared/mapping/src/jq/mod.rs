//! jq programs: compiled once, run on many records, kept from everything outside the record and within bounds.

mod budget;
mod functions;
mod program;
mod reads;
mod value;

pub(crate) use program::{Input, Program};
pub(crate) use reads::Reads;

/// Says what is wrong with a jq program, as far as its text alone tells: its grammar, and names that nothing defines.
/// Columns that the host does not have are found by [`crate::compile()`].
pub fn check_program(text: &str) -> Result<(), String> {
    Program::compile(text).map(drop)
}
