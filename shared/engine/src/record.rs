//! One host record as a change, whether a scan or a log showed it.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use fides_core::port::{LogPage, Mapped, Mapper};
use fides_core::{Change, Decode, Fault, Key, Limits, Op, Page, Selection, Value, Version};

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
            op: self.op(page.rows.get(at), &*page.decoder),
            forced,
        }
    }

    /// Row `at` of a page of a log as a change.
    pub fn logged(&mut self, page: &LogPage, at: usize, key: Key, version: Version) -> Change {
        let op = self.op(page.rows.get(at), &*page.decoder);
        Change { key, version, fingerprint: Some(page.fingerprints[at]), op, forced: false }
    }

    fn op(&mut self, row: &[u8], decoder: &dyn Decode) -> Op {
        match self.map_row(row, decoder) {
            Ok(Some(document)) => Op::Upsert(document),
            Ok(None) => Op::Delete,
            Err(fault) => Op::Reject { reason: fault.to_string(), record: shown(self.selection, row, decoder) },
        }
    }

    /// The document of record `at`; `None` when the mapping leaves the record out.
    pub fn map(&mut self, page: &Page, at: usize) -> Result<Option<Bytes>, Fault> {
        self.map_row(page.rows.get(at), &*page.decoder)
    }

    fn map_row(&mut self, row: &[u8], decoder: &dyn Decode) -> Result<Option<Bytes>, Fault> {
        if row.len() > self.limits.record_bytes_max {
            return Err(Fault::permanent(format!(
                "the record has {} bytes; record_bytes_max allows {}",
                row.len(),
                self.limits.record_bytes_max
            )));
        }
        let mut values = Vec::new();
        decoder.decode(row, &mut values)?;
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
pub(crate) fn shown(selection: &Selection, row: &[u8], decoder: &dyn Decode) -> String {
    let mut values = Vec::new();
    if decoder.decode(row, &mut values).is_err() {
        return String::from("(the record cannot be decoded)");
    }
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
