use std::sync::Arc;

use crate::{Fault, Shape, Value};

/// Host record -> target document. Pure, compiled once, shared by threads.
pub trait Mapper: Send + Sync {
    /// Changes whenever the mapping could give another document for some record; seeds fingerprints.
    fn revision(&self) -> u64;

    /// Fields of the documents.
    fn shape(&self) -> &Arc<Shape>;

    /// Maps one record (the selection's columns, then its includes) and appends the document's positional row to `out`.
    /// A fault is always Permanent and names the field and the expression; `out` is then left as it was.
    fn map(&self, record: &[Value<'_>], out: &mut Vec<u8>) -> Result<Mapped, Fault>;
}

/// What a record maps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// The document that was appended.
    Document,
    /// The mapping's `when` leaves this record out: the target must not hold it.
    Excluded,
}
