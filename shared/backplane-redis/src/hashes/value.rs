//! What is stored for a bucket: a header and sorted marks (its *base*), and beside it the patches that came since (its
//! *tail*), in arrival order. Two strings, because Redis doubles the memory of a string that is appended to.

use std::collections::BTreeMap;

use fides_core::{Fault, FaultKind, Key, Mark, Reader, bucket, put_bytes, put_varint};

/// Format number of a base.
const FORMAT: u8 = 1;
/// Format number, generation, write counter, whether there is a summary, summary, bytes of the tail, marks that may exist.
pub(super) const HEADER_BYTES: usize = 1 + 8 + 8 + 1 + 16 + 4 + 4;

const ADVANCE: u8 = 1;
const DISTRUST: u8 = 2;

/// A bucket without its marks. The scripts know the places of these fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Changes whenever the base does.
    pub generation: [u8; 8],
    pub writes: u64,
    pub summary: Option<u128>,
    /// A tail of another length lost something.
    tail_bytes: u32,
    /// Marks of the base that may exist at the target.
    pub present: u32,
}

impl Header {
    /// Reads the header of a base, and gives what follows it.
    pub(super) fn read(base: &[u8]) -> Result<(Self, &[u8]), Fault> {
        if base.is_empty() {
            return Err(Fault::unavailable("a bucket of marks is gone: a part of the data was lost").advise(
                "set maxmemory-policy to noeviction, then delete the keys of this prefix: everything is compared anew",
            ));
        }
        let mut reader = Reader::new(base, "bucket of the hash store");
        let format = reader.u8().map_err(as_unavailable)?;
        if format != FORMAT {
            return Err(unknown_format(format));
        }
        let read = |reader: &mut Reader<'_>| {
            let generation = reader.array()?;
            let writes = u64::from_be_bytes(reader.array()?);
            let summarised = reader.u8()? == 1;
            let summary = u128::from_be_bytes(reader.array()?);
            let tail_bytes = u32::from_be_bytes(reader.array()?);
            let present = u32::from_be_bytes(reader.array()?);
            Ok(Self { generation, writes, summary: summarised.then_some(summary), tail_bytes, present })
        };
        Ok((read(&mut reader).map_err(as_unavailable)?, &base[HEADER_BYTES..]))
    }
}

/// The marks of a bucket: base and tail merged. `inside` says which keys are the bucket's own: after a split its tail may
/// hold patches of its neighbours.
pub(super) fn marks(base: &[u8], tail: &[u8], inside: impl Fn(&[u8]) -> bool) -> Result<Vec<(Key, Mark)>, Fault> {
    let (header, base) = Header::read(base)?;
    if header.tail_bytes as usize != tail.len() {
        return Err(Fault::unavailable(format!(
            "a bucket of marks should have {} bytes of patches and has {}: a part of the data was lost",
            header.tail_bytes,
            tail.len()
        ))
        .advise(
            "set maxmemory-policy to noeviction, then delete the keys of this prefix: everything is compared anew",
        ));
    }
    let base = bucket::decode(base).map_err(as_unavailable)?;
    merge(base, tail, inside)
}

/// Merges patches in arrival order by the rule of [`fides_core::port::HashStore::advance`] (L4).
fn merge(base: Vec<(Key, Mark)>, tail: &[u8], inside: impl Fn(&[u8]) -> bool) -> Result<Vec<(Key, Mark)>, Fault> {
    if tail.is_empty() {
        return Ok(base);
    }
    let mut changed: BTreeMap<Key, Mark> = BTreeMap::new();
    let stored = |key: &Key| base.binary_search_by(|(stored, _)| stored.cmp(key)).ok().map(|at| base[at].1);
    let mut reader = Reader::new(tail, "patches of a bucket");
    while !reader.is_empty() {
        match Patch::read(reader.bytes().map_err(as_unavailable)?)? {
            Patch::Advance(marks) => {
                for (key, mark) in marks.into_iter().filter(|(key, _)| inside(key.as_bytes())) {
                    let present = changed.get(&key).copied().or_else(|| stored(&key));
                    if present.is_none_or(|present| mark.version >= present.version) {
                        changed.insert(key, mark);
                    }
                }
            }
            Patch::Distrust(keys) => {
                for key in keys.into_iter().filter(|key| inside(key.as_bytes())) {
                    if let Some(present) = changed.get(&key).copied().or_else(|| stored(&key)) {
                        changed.insert(key, Mark { fingerprint: None, ..present });
                    }
                }
            }
        }
    }
    Ok(overlay(base, changed))
}

/// Sorted marks, with others in their place or between them.
fn overlay(base: Vec<(Key, Mark)>, changed: BTreeMap<Key, Mark>) -> Vec<(Key, Mark)> {
    let mut merged = Vec::with_capacity(base.len() + changed.len());
    let mut base = base.into_iter().peekable();
    for (key, mark) in changed {
        while let Some(before) = base.next_if(|(stored, _)| *stored < key) {
            merged.push(before);
        }
        base.next_if(|(stored, _)| *stored == key);
        merged.push((key, mark));
    }
    merged.extend(base);
    merged
}

/// What one call does to a bucket, or a part of it; sorted, keys are distinct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Patch {
    Advance(Vec<(Key, Mark)>),
    Distrust(Vec<Key>),
}

impl Patch {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Advance(marks) => marks.len(),
            Self::Distrust(keys) => keys.len(),
        }
    }

    pub(super) fn key(&self, at: usize) -> &Key {
        match self {
            Self::Advance(marks) => &marks[at].0,
            Self::Distrust(keys) => &keys[at],
        }
    }

    /// Encodes the part of a patch that belongs to one bucket, as it is appended to a tail.
    pub(super) fn encode(&self, part: std::ops::Range<usize>) -> Vec<u8> {
        let mut patch = Vec::new();
        match self {
            Self::Advance(marks) => {
                patch.push(ADVANCE);
                patch.extend_from_slice(&bucket::encode(&marks[part]));
            }
            Self::Distrust(keys) => {
                patch.push(DISTRUST);
                put_varint(&mut patch, part.len() as u64);
                keys[part].iter().for_each(|key| put_bytes(&mut patch, key.as_bytes()));
            }
        }
        let mut framed = Vec::with_capacity(patch.len() + 4);
        put_bytes(&mut framed, &patch);
        framed
    }

    fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(bytes, "patch of a bucket");
        match reader.u8().map_err(as_unavailable)? {
            ADVANCE => Ok(Self::Advance(bucket::decode(&bytes[1..]).map_err(as_unavailable)?)),
            DISTRUST => {
                let count = reader.count().map_err(as_unavailable)?;
                let key = |_| reader.bytes().map(Key::from_bytes).map_err(as_unavailable);
                Ok(Self::Distrust((0..count).map(key).collect::<Result<_, _>>()?))
            }
            format => Err(unknown_format(format)),
        }
    }
}

fn unknown_format(format: u8) -> Fault {
    Fault::unavailable(format!("a bucket of the hash store has format {format}; this release reads {FORMAT}"))
        .advise("upgrade this service")
}

/// L9: damaged marks are never the fault of a record.
fn as_unavailable(fault: Fault) -> Fault {
    let advise = fault.advice.is_none();
    let fault = Fault { kind: FaultKind::Unavailable, ..fault };
    if advise { fault.advise("delete the keys of this prefix in Redis: everything is compared anew") } else { fault }
}
