use std::sync::Arc;

use crate::{Column, Fault, Include, Shape, Value};

/// Host record -> target document. Pure, compiled once, shared by threads.
pub trait Mapper: Send + Sync {
    /// Changes whenever the mapping could give another document for some record; seeds fingerprints.
    fn revision(&self) -> u64;

    /// Everything that this mapper is made of, in a form that lasts: marks outlive the configuration that they were made
    /// with (DESIGN §9).
    fn recipe(&self) -> &[u8];

    /// The mapper of an earlier recipe. A Permanent fault says why it cannot be made again; it never is another one.
    fn recall(&self, recipe: &[u8]) -> Result<Recalled, Fault>;

    /// Fields of the documents.
    fn shape(&self) -> &Arc<Shape>;

    /// Maps one record (the selection's columns, then its includes) and appends the document's positional row to `out`.
    /// A fault is always Permanent and names the field and the expression; `out` is then left as it was.
    fn map(&self, record: &[Value<'_>], out: &mut Vec<u8>) -> Result<Mapped, Fault>;
}

/// A mapper of an earlier edit, and the rows that it maps.
#[derive(Clone)]
pub struct Recalled {
    /// Maps rows of `columns`, then `includes`.
    pub mapper: Arc<dyn Mapper>,
    /// The columns that it reads, as the host described them then, but for their nullability.
    pub columns: Vec<Column>,
    /// The includes that it reads.
    pub includes: Vec<Include>,
    /// The key columns.
    pub key: Vec<String>,
}

/// What a record maps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// The document that was appended.
    Document,
    /// The mapping's `when` leaves this record out: the target must not hold it.
    Excluded,
}
