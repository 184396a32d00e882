use bytes::Bytes;

use crate::{Fingerprint, Key, Kind, Version};

/// One state of one record on its way to the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The host record's key; also its address at the target, whose key fields are the host's, renamed (L12).
    pub key: Key,
    /// Fixed before the state was read (L1).
    pub version: Version,
    /// Of the host record; `None` for a deletion.
    pub fingerprint: Option<Fingerprint>,
    /// What to do.
    pub op: Op,
    /// A repair or full reimport: admitted at equal versions too.
    pub forced: bool,
}

/// What a change does to the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The whole document: a positional row ([`crate::encode_row`]) in the order of the batch's [`Shape`].
    Upsert(Bytes),
    /// The document is not to exist.
    Delete,
    /// The record could not be mapped. It travels like every change, so that it is judged in order, and becomes a dead
    /// letter at the consumer. `record` is the host record as JSON, for people.
    Reject {
        /// Why, naming the field and the expression.
        reason: String,
        /// The host record, bounded.
        record: String,
    },
}

impl Change {
    /// Bytes that this change roughly holds in memory.
    pub fn bytes(&self) -> usize {
        let body = match &self.op {
            Op::Upsert(document) => document.len(),
            Op::Delete => 0,
            Op::Reject { reason, record } => reason.len() + record.len(),
        };
        body + self.key.as_bytes().len() + 64
    }
}

/// The fields of a document, shared by all documents of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Field names and kinds, in the order of the positional row.
    pub fields: Vec<Field>,
    /// Positions of the key fields, in the order of the host key's columns.
    pub key: Vec<usize>,
}

impl Shape {
    /// Names of the key fields.
    pub fn key_names(&self) -> impl Iterator<Item = &str> {
        self.key.iter().filter_map(|&at| self.fields.get(at)).map(|field| field.name.as_str())
    }
}

/// One field of a document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// Its name at the target.
    pub name: String,
    /// What it holds; decides the column's type where the target is created.
    pub kind: Kind,
}
