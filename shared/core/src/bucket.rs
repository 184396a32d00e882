//! Marks of neighbouring keys in one sorted binary value (DESIGN §9): small in memory, one read per page of a scan.
//!
//! Keys share prefixes with their predecessor and versions are usually those of the entry before, so that a bigint key
//! with its version and fingerprint takes about 21 bytes.

use crate::{Fault, Fingerprint, Formats, Held, Key, Mark, Reader, Version, put_bytes, put_varint};

/// Formats of a bucket. There was none before 1.
const FORMATS: Formats = Formats::new(1, 1);

/// A bucket is split in halves when it outgrows this many marks.
pub const BUCKET_MARKS_MAX: usize = 1_024;

const HELD: u8 = 0x03;
const FINGERPRINT: u8 = 0x04;
const SAME_VERSION: u8 = 0x08;
/// Epoch and sequence are those of the entry before; the position follows as a varint.
const SAME_EPOCH: u8 = 0x10;

/// Encodes sorted marks.
pub fn encode(marks: &[(Key, Mark)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + marks.len() * 24);
    out.push(FORMATS.own());
    put_varint(&mut out, marks.len() as u64);
    let mut key_before: &[u8] = &[];
    let mut version_before = Version::default();
    for (key, mark) in marks {
        let key = key.as_bytes();
        let shared = key.iter().zip(key_before).take_while(|(a, b)| a == b).count();
        let version = mark.version;
        let same_epoch = version.epoch == version_before.epoch && version.sequence == version_before.sequence;
        let mut flags = match mark.held {
            Held::Present => 0,
            Held::Absent => 1,
            Held::Dead => 2,
        };
        flags |= if mark.fingerprint.is_some() { FINGERPRINT } else { 0 };
        flags |= if version == version_before { SAME_VERSION } else { 0 };
        flags |= if same_epoch { SAME_EPOCH } else { 0 };
        out.push(flags);
        put_varint(&mut out, shared as u64);
        put_bytes(&mut out, &key[shared..]);
        if version != version_before {
            if same_epoch {
                put_varint(&mut out, version.position);
            } else {
                out.extend_from_slice(&version.to_bytes());
            }
        }
        if let Some(Fingerprint(fingerprint)) = mark.fingerprint {
            out.extend_from_slice(&fingerprint.to_be_bytes());
        }
        (key_before, version_before) = (key, version);
    }
    out
}

/// Decodes a bucket. A newer format is an Unavailable fault.
pub fn decode(bytes: &[u8]) -> Result<Vec<(Key, Mark)>, Fault> {
    let mut marks = Vec::new();
    each(bytes, |key, mark| marks.push((Key::from_bytes(key), mark)))?;
    Ok(marks)
}

/// Visits the marks of a bucket, in order of their keys: what most callers want of a bucket is a few of its marks. Faults as
/// [`decode`] does, perhaps after it visited some.
pub fn each(bytes: &[u8], mut visit: impl FnMut(&[u8], Mark)) -> Result<(), Fault> {
    let mut reader = Reader::new(bytes, "bucket of the hash store");
    FORMATS.check("bucket of the hash store", reader.u8()?)?;
    let mut key = Vec::new();
    let mut version = Version::default();
    for at in 0..reader.count()? {
        let flags = reader.u8()?;
        let shared = reader.varint()? as usize;
        let rest = reader.bytes()?;
        if shared > key.len() || (at > 0 && key[shared..] >= *rest) {
            return Err(reader.corrupt());
        }
        key.truncate(shared);
        key.extend_from_slice(rest);
        if flags & SAME_VERSION == 0 {
            version = if flags & SAME_EPOCH == 0 {
                Version::from_bytes(reader.array()?)
            } else {
                Version { position: reader.varint()?, ..version }
            };
        }
        let held = match flags & HELD {
            0 => Held::Present,
            1 => Held::Absent,
            2 => Held::Dead,
            _ => return Err(reader.corrupt()),
        };
        let fingerprint =
            if flags & FINGERPRINT == 0 { None } else { Some(Fingerprint(u128::from_be_bytes(reader.array()?))) };
        visit(&key, Mark { version, fingerprint, held });
    }
    if reader.is_empty() { Ok(()) } else { Err(reader.corrupt()) }
}

/// Digest of the records of a key range: what a bucket's summary is compared with. Equal means that every record of the
/// range has the fingerprint of its mark, and that no mark lacks its record.
#[derive(Clone, Default)]
pub struct Digest(xxhash_rust::xxh3::Xxh3Default);

impl Digest {
    /// Adds a record; keys in order.
    pub fn add(&mut self, key: &[u8], Fingerprint(fingerprint): Fingerprint) {
        self.0.update(&(key.len() as u64).to_be_bytes());
        self.0.update(key);
        self.0.update(&fingerprint.to_be_bytes());
    }

    /// The digest of everything added.
    pub fn finish(&self) -> u128 {
        self.0.digest128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn marks() -> impl Strategy<Value = Vec<(Key, Mark)>> {
        let mark = (0u32..2, 0u64..3, 0u32..2, proptest::option::of(any::<u128>()), 0u8..3).prop_map(
            |(epoch, position, sequence, fingerprint, held)| Mark {
                version: Version { epoch, position, sequence },
                fingerprint: fingerprint.map(Fingerprint),
                held: [Held::Present, Held::Absent, Held::Dead][usize::from(held)],
            },
        );
        let key = prop_oneof![
            any::<i64>().prop_map(|id| vec![Value::I64(id)]),
            "[ab]{0,5}".prop_map(|text| vec![Value::String(text.into())]),
        ];
        prop::collection::btree_map(key.prop_map(|key| Key::encode(&key).unwrap()), mark, 0..40)
            .prop_map(|marks: BTreeMap<Key, Mark>| marks.into_iter().collect())
    }

    proptest! {
        #[test]
        fn a_bucket_survives_its_encoding(marks in marks()) {
            prop_assert_eq!(decode(&encode(&marks)).unwrap(), marks);
        }

        #[test]
        fn foreign_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&bytes);
            bytes.insert(0, FORMATS.own());
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_bigint_key_takes_at_most_32_bytes() {
        let mark = |id: i64| {
            let version = Version::scan(1_700_000_000, 1 << 40);
            (Key::encode(&[Value::I64(id)]).unwrap(), Mark::present(version, Fingerprint(u128::MAX - id as u128)))
        };
        let marks: Vec<_> = (1_000_000..1_000_512).map(mark).collect();
        assert!(encode(&marks).len() <= 512 * 32, "{} bytes", encode(&marks).len());
    }
}
