//! One host record as a change.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use fides_core::port::{Mapped, Mapper};
use fides_core::{Change, Fault, Key, Limits, Op, Page, Selection, Value};

/// The host record of a dead letter is shown up to this many bytes.
const SHOWN_BYTES_MAX: usize = 16 << 10;

/// Maps records of pages; keeps its buffers from one record to the next.
pub struct Mapping<'a> {
    mapper: &'a dyn Mapper,
    selection: &'a Selection,
    limits: &'a Limits,
    documents: BytesMut,
    scratch: Vec<u8>,
}

impl<'a> Mapping<'a> {
    /// Maps with `mapper`.
    pub fn new(mapper: &'a dyn Mapper, selection: &'a Selection, limits: &'a Limits) -> Self {
        Self { mapper, selection, limits, documents: BytesMut::new(), scratch: Vec::new() }
    }

    /// Record `at` of a page as a change. A record that cannot be mapped is rejected, which travels like every change
    /// and stops no other.
    pub fn change(&mut self, page: &Page, at: usize, forced: bool) -> Change {
        Change {
            key: Key::from_bytes(page.keys.get(at)),
            version: page.version,
            fingerprint: Some(page.fingerprints[at]),
            op: self.op(page, at),
            forced,
        }
    }

    fn op(&mut self, page: &Page, at: usize) -> Op {
        match self.map(page, at) {
            Ok(Some(document)) => Op::Upsert(document),
            Ok(None) => Op::Delete,
            Err(fault) => Op::Reject { reason: fault.to_string(), record: shown(self.selection, page, at) },
        }
    }

    /// The document of record `at`; `None` when the mapping leaves the record out.
    pub fn map(&mut self, page: &Page, at: usize) -> Result<Option<Bytes>, Fault> {
        let size = page.rows.get(at).len();
        if size > self.limits.record_bytes_max {
            return Err(Fault::permanent(format!(
                "the record has {size} bytes; record_bytes_max allows {}",
                self.limits.record_bytes_max
            )));
        }
        let values = page.values(at)?;
        self.scratch.clear();
        match self.mapper.map(&values, &mut self.scratch)? {
            Mapped::Excluded => Ok(None),
            Mapped::Document => {
                self.documents.extend_from_slice(&self.scratch);
                Ok(Some(self.documents.split().freeze()))
            }
        }
    }
}

/// Record `at` of a page as a change, once.
pub fn change_of(mapper: &dyn Mapper, selection: &Selection, limits: &Limits, page: &Page, at: usize) -> Change {
    Mapping::new(mapper, selection, limits).change(page, at, false)
}

/// A host record as JSON for people, bounded.
pub(crate) fn shown(selection: &Selection, page: &Page, at: usize) -> String {
    let Ok(values) = page.values(at) else { return String::from("(the record cannot be decoded)") };
    let columns = selection.columns.iter().map(|column| column.name.as_str());
    let names = columns.chain(selection.includes.iter().map(|include| include.name.as_str()));
    let fields = names.zip(values).map(|(name, value)| (Cow::Owned(name.to_owned()), value.into_owned())).collect();
    bounded(fides_format::to_json(&Value::Object(fields)))
}

/// Cuts a text that would not fit a screen.
pub(crate) fn bounded(mut text: String) -> String {
    if text.len() > SHOWN_BYTES_MAX {
        let mut end = SHOWN_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}
