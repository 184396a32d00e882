use std::sync::Arc;

use bytes::Bytes;

use crate::{Fault, Fingerprint, Key, Value, Version, fingerprint};

/// Many byte strings in one buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slices {
    buffer: Bytes,
    ends: Vec<usize>,
}

impl Slices {
    /// Takes a buffer and where each of its parts ends.
    pub fn new(buffer: Bytes, ends: Vec<usize>) -> Self {
        debug_assert!(ends.is_sorted() && ends.last().is_none_or(|&end| end <= buffer.len()));
        Self { buffer, ends }
    }

    /// How many parts there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Part `at`; panics when there is none, as a slice does.
    pub fn get(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.buffer[start..self.ends[at]]
    }

    /// All parts.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|at| self.get(at))
    }
}

/// Turns the raw bytes of one row into values. Lazy: only rows that changed are decoded.
pub trait Decode: Send + Sync {
    /// Decodes `row` into `values` (emptied first), borrowing where it can: the selection's columns, then its includes.
    fn decode<'a>(&self, row: &'a [u8], values: &mut Vec<Value<'a>>) -> Result<(), Fault>;
}

/// Decodes rows that were written by [`crate::encode_row`].
#[derive(Clone, Copy, Debug, Default)]
pub struct RowCodec;

impl Decode for RowCodec {
    fn decode<'a>(&self, row: &'a [u8], values: &mut Vec<Value<'a>>) -> Result<(), Fault> {
        crate::decode_row_into(row, values)
    }
}

/// Some records of one snapshot, in key order: raw rows, encoded keys and fingerprints, aligned.
#[derive(Clone)]
pub struct Page {
    /// Version of the snapshot that saw these records, and that saw nothing between them (L1).
    pub version: Version,
    /// Encoded keys, strictly ascending.
    pub keys: Slices,
    /// Raw rows.
    pub rows: Slices,
    /// Fingerprints of the raw rows: [`fingerprint`] of a row and the selection's seed, so that they can be told for another
    /// seed, too.
    pub fingerprints: Vec<Fingerprint>,
    /// Reads a raw row.
    pub decoder: Arc<dyn Decode>,
    /// Where the next page starts (after this key); `None` at the end of the range.
    pub next: Option<Key>,
}

impl Page {
    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Position of `key` on this page.
    pub fn find(&self, key: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.keys.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.keys.get(middle).cmp(key) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Decodes row `at`.
    pub fn values(&self, at: usize) -> Result<Vec<Value<'_>>, Fault> {
        let mut values = Vec::new();
        self.decoder.decode(self.rows.get(at), &mut values)?;
        Ok(values)
    }
}

/// Collects rows into a [`Page`].
#[derive(Debug, Default)]
pub struct PageBuilder {
    seed: u64,
    rows: Vec<u8>,
    row_ends: Vec<usize>,
    keys: Vec<u8>,
    key_ends: Vec<usize>,
    fingerprints: Vec<Fingerprint>,
}

impl PageBuilder {
    /// A page whose fingerprints are seeded with `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Rows so far.
    pub fn len(&self) -> usize {
        self.fingerprints.len()
    }

    /// Whether there are no rows yet.
    pub fn is_empty(&self) -> bool {
        self.fingerprints.is_empty()
    }

    /// Bytes of rows so far.
    pub fn row_bytes(&self) -> usize {
        self.rows.len()
    }

    /// Adds a row: `write` appends its encoded key to the first buffer and its raw bytes to the second.
    /// Keys must ascend strictly: an equal or smaller key is a Permanent fault (a key that is not unique, or a store
    /// that does not sort as the key encoding does).
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>) -> Result<(), Fault>) -> Result<(), Fault> {
        let (key_start, row_start) = (self.keys.len(), self.rows.len());
        write(&mut self.keys, &mut self.rows)?;
        let before = self.key_ends.len().checked_sub(2).map_or(0, |at| self.key_ends[at]);
        let last = self.key_ends.last().map(|&end| &self.keys[before..end]);
        if let Some(last) = last.filter(|last| *last >= &self.keys[key_start..]) {
            let shown = |bytes: &[u8]| Key::from_bytes(bytes.to_vec()).to_string();
            let this = &self.keys[key_start..];
            let what = if last == this { "is not unique" } else { "does not follow the order of the keys" };
            return Err(Fault::permanent(format!("key {} {what} (it came after {})", shown(this), shown(last)))
                .advise("the key columns must be unique and not null, and sorted by code point"));
        }
        self.key_ends.push(self.keys.len());
        self.row_ends.push(self.rows.len());
        self.fingerprints.push(fingerprint(&self.rows[row_start..], self.seed));
        Ok(())
    }

    /// The finished page. `more` says whether the range may hold records after the last one.
    pub fn finish(self, version: Version, decoder: Arc<dyn Decode>, more: bool) -> Page {
        let keys = Slices::new(self.keys.into(), self.key_ends);
        let last = keys.len().checked_sub(1).map(|at| Key::from_bytes(keys.get(at).to_vec()));
        Page {
            version,
            keys,
            rows: Slices::new(self.rows.into(), self.row_ends),
            fingerprints: self.fingerprints,
            decoder,
            next: last.filter(|_| more),
        }
    }
}
