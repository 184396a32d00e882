//! From a host record to a target document.
//!
//! A [`Spec`] says what a pipeline's documents consist of. [`compile()`] checks it against what the host says of its
//! table, reports every mistake at once, and makes a [`fides_core::port::Mapper`] of it. Columns that are taken over as
//! they are go from the record straight into the document; only jq sees a tree of values.

mod compile;
mod error;
mod evaluate;
mod jq;
mod literal;
mod mapper;
mod operation;
mod resolve;
mod revision;
mod spec;

#[cfg(test)]
mod tests;

pub use compile::{Compiled, compile, mistakes};
pub use error::MappingError;
pub use jq::check_program;
pub use literal::literal;
pub use spec::{Fields, Source, Spec};
