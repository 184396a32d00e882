//! What is stored for a bucket: a header and sorted marks (its *base*), and beside it the patches that came since (its
//! *tail*), in arrival order. Two strings, because Redis doubles the memory of a string that is appended to.

use std::collections::BTreeMap;

use fides_core::port::Relabel;
use fides_core::{Fault, FaultKind, Fingerprint, Formats, Key, Mark, Reader, bucket, put_bytes, put_varint};

use crate::fault::GIVE_UP;

/// Formats of a base; the scripts know them too. There was none before 1.
const FORMATS: Formats = Formats::new(1, 1);
/// Format number, generation, write counter, whether there is a summary, summary, bytes of the tail, marks that may exist.
pub(super) const HEADER_BYTES: usize = 1 + 8 + 8 + 1 + 16 + 4 + 4;

const ADVANCE: u8 = 1;
const DISTRUST: u8 = 2;
const RELABEL: u8 = 3;

/// A bucket without its marks. The scripts know the places of these fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Changes whenever the base does.
    pub generation: [u8; 8],
    pub writes: u64,
    pub summary: Option<u128>,
    /// A tail of another length lost something.
    pub tail_bytes: u32,
    /// Marks of the base that may exist at the target.
    pub present: u32,
}

impl Header {
    /// Reads the header of a base, and gives what follows it.
    pub(super) fn read(base: &[u8]) -> Result<(Self, &[u8]), Fault> {
        if base.is_empty() {
            return Err(Fault::unavailable("a bucket of marks is gone: a part of the data was lost").advise(GIVE_UP));
        }
        let mut reader = Reader::new(base, "bucket of the hash store");
        FORMATS.check("a bucket of the hash store", reader.u8().map_err(as_unavailable)?)?;
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
    merge(bucket::decode(whole(base, tail)?).map_err(as_unavailable)?, tail, inside)
}

/// Those of sorted keys: an event asks for one mark of a thousand.
pub(super) fn find(base: &[u8], tail: &[u8], keys: &[&Key]) -> Result<Vec<(Key, Mark)>, Fault> {
    let mut found = Vec::with_capacity(keys.len());
    let mut ahead = keys.iter().peekable();
    let visit = |stored: &[u8], mark| {
        while ahead.next_if(|key| key.as_bytes() < stored).is_some() {}
        if let Some(key) = ahead.next_if(|key| key.as_bytes() == stored) {
            found.push(((*key).clone(), mark));
        }
    };
    bucket::each(whole(base, tail)?, visit).map_err(as_unavailable)?;
    merge(found, tail, |stored| keys.binary_search_by(|key| key.as_bytes().cmp(stored)).is_ok())
}

/// The marks of a base, of which the tail is whole.
fn whole<'a>(base: &'a [u8], tail: &[u8]) -> Result<&'a [u8], Fault> {
    let (header, marks) = Header::read(base)?;
    if header.tail_bytes as usize == tail.len() {
        return Ok(marks);
    }
    Err(Fault::unavailable(format!(
        "a bucket of marks should have {} bytes of patches and has {}: a part of the data was lost",
        header.tail_bytes,
        tail.len()
    ))
    .advise(GIVE_UP))
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
        Patch::visit(reader.bytes().map_err(as_unavailable)?, |key, step| {
            if !inside(key) {
                return;
            }
            let key = Key::from_bytes(key);
            let present = changed.get(&key).copied().or_else(|| stored(&key));
            let after = match (step, present) {
                (Step::Advance(mark), present) => {
                    present.is_none_or(|present| mark.version >= present.version).then_some(mark)
                }
                (Step::Distrust, present) => present.map(|present| Mark { fingerprint: None, ..present }),
                // Appended in one order for everybody: what the mark is here is what it was when the patch came.
                (Step::Relabel { before, fingerprint }, present) => {
                    (present == Some(before)).then_some(Mark { fingerprint: Some(fingerprint), ..before })
                }
            };
            if let Some(after) = after {
                changed.insert(key, after);
            }
        })?;
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
    Relabel(Vec<Relabel>),
}

impl Patch {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Advance(marks) => marks.len(),
            Self::Distrust(keys) => keys.len(),
            Self::Relabel(labels) => labels.len(),
        }
    }

    pub(super) fn key(&self, at: usize) -> &Key {
        match self {
            Self::Advance(marks) => &marks[at].0,
            Self::Distrust(keys) => &keys[at],
            Self::Relabel(labels) => &labels[at].key,
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
            Self::Relabel(labels) => {
                patch.push(RELABEL);
                let before: Vec<(Key, Mark)> =
                    labels[part.clone()].iter().map(|label| (label.key.clone(), label.before)).collect();
                put_bytes(&mut patch, &bucket::encode(&before));
                labels[part].iter().for_each(|label| patch.extend_from_slice(&label.fingerprint.0.to_be_bytes()));
            }
        }
        let mut framed = Vec::with_capacity(patch.len() + 4);
        put_bytes(&mut framed, &patch);
        framed
    }

    /// Visits what an encoded patch does to each of its keys.
    fn visit(bytes: &[u8], mut visit: impl FnMut(&[u8], Step)) -> Result<(), Fault> {
        let mut reader = Reader::new(bytes, "patch of a bucket");
        let mut read = |reader: &mut Reader<'_>| match reader.u8()? {
            ADVANCE => bucket::each(&bytes[1..], |key, mark| visit(key, Step::Advance(mark))),
            DISTRUST => {
                for _ in 0..reader.count()? {
                    visit(reader.bytes()?, Step::Distrust);
                }
                Ok(())
            }
            RELABEL => {
                for (key, before) in bucket::decode(reader.bytes()?)? {
                    let fingerprint = Fingerprint(u128::from_be_bytes(reader.array()?));
                    visit(key.as_bytes(), Step::Relabel { before, fingerprint });
                }
                Ok(())
            }
            format => Err(unknown_format(format)),
        };
        read(&mut reader).map_err(as_unavailable)
    }
}

/// What a patch does to the mark of one key.
#[derive(Clone, Copy, Debug)]
enum Step {
    Advance(Mark),
    Distrust,
    Relabel { before: Mark, fingerprint: Fingerprint },
}

fn unknown_format(format: u8) -> Fault {
    Fault::unavailable(format!("a patch of a bucket has format {format}, which this release does not read"))
        .advise("upgrade this service")
}

/// L9: damaged marks are never the fault of a record.
fn as_unavailable(fault: Fault) -> Fault {
    let advise = fault.advice.is_none();
    let fault = Fault { kind: FaultKind::Unavailable, ..fault };
    if advise { fault.advise(GIVE_UP) } else { fault }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fides_core::{Held, Value, Version};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Key> {
        (-9i64..9).prop_map(|id| Key::encode(&[Value::I64(id)]).unwrap())
    }

    fn mark() -> impl Strategy<Value = Mark> {
        (0u32..2, 0u64..4, proptest::option::of(0u128..3), 0usize..3).prop_map(|(epoch, position, found, held)| Mark {
            version: Version::scan(epoch, position),
            fingerprint: found.map(Fingerprint),
            held: [Held::Present, Held::Absent, Held::Dead][held],
        })
    }

    fn patch() -> impl Strategy<Value = Patch> {
        prop_oneof![
            prop::collection::btree_map(key(), mark(), 0..9)
                .prop_map(|marks| Patch::Advance(marks.into_iter().collect())),
            prop::collection::btree_set(key(), 0..5).prop_map(|keys| Patch::Distrust(keys.into_iter().collect())),
            prop::collection::btree_map(key(), (mark(), 0u128..3), 0..9).prop_map(|labels| {
                let label = |(key, (before, label))| Relabel { key, before, fingerprint: Fingerprint(label) };
                Patch::Relabel(labels.into_iter().map(label).collect())
            }),
        ]
    }

    /// What a client may do with a pipeline.
    #[derive(Clone, Debug)]
    enum Action {
        Write(Patch),
        /// Merges the bucket of a key; the last patches came after it was read.
        Merge(Key, usize),
        /// Splits the bucket of the first key at the second; the last patches came after it was read.
        Split(Key, Key, usize),
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            4 => patch().prop_map(Action::Write),
            1 => (key(), 0usize..3).prop_map(|(key, since)| Action::Merge(key, since)),
            1 => (key(), key(), 0usize..3).prop_map(|(key, at, since)| Action::Split(key, at, since)),
        ]
    }

    /// What [`fides_core::port::HashStore`] says of itself, without buckets.
    fn apply(model: &mut BTreeMap<Key, Mark>, patch: &Patch) {
        match patch {
            Patch::Advance(marks) => {
                for (key, mark) in marks {
                    let held = model.entry(key.clone()).or_insert(*mark);
                    if mark.version >= held.version {
                        *held = *mark;
                    }
                }
            }
            Patch::Distrust(keys) => {
                for key in keys {
                    model.entry(key.clone()).and_modify(|mark| mark.fingerprint = None);
                }
            }
            Patch::Relabel(labels) => {
                for label in labels {
                    if let Some(mark) = model.get_mut(&label.key).filter(|mark| **mark == label.before) {
                        mark.fingerprint = Some(label.fingerprint);
                    }
                }
            }
        }
    }

    /// Buckets by lower bound, as the scripts keep them: marks, and patches one by one.
    #[derive(Debug)]
    struct Store(BTreeMap<Vec<u8>, BaseAndTail>);

    type BaseAndTail = (Vec<(Key, Mark)>, Vec<Vec<u8>>);

    impl Store {
        fn upper(&self, lower: &[u8]) -> Option<Vec<u8>> {
            self.0.keys().find(|other| other.as_slice() > lower).cloned()
        }

        fn bucket_of(&self, key: &Key) -> Vec<u8> {
            self.0.keys().rfind(|lower| lower.as_slice() <= key.as_bytes()).unwrap().clone()
        }

        fn write(&mut self, patch: &Patch) {
            let mut from = 0;
            while from < patch.len() {
                let lower = self.bucket_of(patch.key(from));
                let upper = self.upper(&lower);
                let to = (from..patch.len())
                    .find(|&at| upper.as_deref().is_some_and(|upper| patch.key(at).as_bytes() >= upper))
                    .unwrap_or(patch.len());
                self.0.get_mut(&lower).unwrap().1.push(patch.encode(from..to));
                from = to;
            }
        }

        fn merged(&self, lower: &[u8], patches: usize) -> Vec<(Key, Mark)> {
            let upper = self.upper(lower);
            let inside = |key: &[u8]| lower <= key && upper.as_deref().is_none_or(|upper| key < upper);
            let (base, tail) = &self.0[lower];
            let base = bucket::decode(&bucket::encode(base)).unwrap();
            merge(base, &tail[..patches].concat(), inside).unwrap()
        }

        fn merge(&mut self, key: &Key, since: usize) {
            let lower = self.bucket_of(key);
            let read = self.0[&lower].1.len().saturating_sub(since);
            let marks = self.merged(&lower, read);
            let bucket = self.0.get_mut(&lower).unwrap();
            bucket.0 = marks;
            bucket.1.drain(..read);
        }

        fn split(&mut self, key: &Key, at: &Key, since: usize) {
            let lower = self.bucket_of(key);
            if self.bucket_of(at) != lower || at.as_bytes() == lower {
                return;
            }
            self.merge(key, since);
            let bucket = self.0.get_mut(&lower).unwrap();
            let middle = bucket.0.partition_point(|(key, _)| key < at);
            let later = (bucket.0.split_off(middle), bucket.1.clone());
            self.0.insert(at.as_bytes().to_vec(), later);
        }
    }

    /// A base as it is stored.
    fn stored(marks: &[(Key, Mark)], tail: &[u8]) -> Vec<u8> {
        let mut base = vec![0; HEADER_BYTES];
        base[0] = FORMATS.own();
        base[HEADER_BYTES - 8..][..4].copy_from_slice(&u32::try_from(tail.len()).unwrap().to_be_bytes());
        base.extend(bucket::encode(marks));
        base
    }

    proptest! {
        #[test]
        fn merging_agrees_with_a_map_whenever_it_happens(actions in prop::collection::vec(action(), 0..40)) {
            let mut model = BTreeMap::new();
            let mut store = Store(BTreeMap::from([(Vec::new(), Default::default())]));
            for action in &actions {
                match action {
                    Action::Write(patch) => {
                        apply(&mut model, patch);
                        store.write(patch);
                    }
                    Action::Merge(key, since) => store.merge(key, *since),
                    Action::Split(key, at, since) => store.split(key, at, *since),
                }
                let lowers: Vec<_> = store.0.keys().cloned().collect();
                let held: Vec<_> =
                    lowers.iter().flat_map(|lower| store.merged(lower, store.0[lower].1.len())).collect();
                prop_assert_eq!(held, model.clone().into_iter().collect::<Vec<_>>());
            }
        }

        #[test]
        fn a_few_marks_are_those_among_all(
            base in prop::collection::btree_map(key(), mark(), 0..9),
            patches in prop::collection::vec(patch(), 0..5),
            mut wanted in prop::collection::vec(key(), 0..5),
        ) {
            // The same key may be asked for twice.
            wanted.sort();
            let tail: Vec<u8> = patches.iter().flat_map(|patch| patch.encode(0..patch.len())).collect();
            let base = stored(&base.into_iter().collect::<Vec<_>>(), &tail);
            let mut among = marks(&base, &tail, |_| true).unwrap();
            among.retain(|(key, _)| wanted.contains(key));
            prop_assert_eq!(find(&base, &tail, &wanted.iter().collect::<Vec<_>>()).unwrap(), among);
        }

        #[test]
        fn a_patch_survives_its_encoding(patch in patch()) {
            let encoded = patch.encode(0..patch.len());
            let mut reader = Reader::new(&encoded, "patch");
            let mut read = match &patch {
                Patch::Advance(_) => Patch::Advance(Vec::new()),
                Patch::Distrust(_) => Patch::Distrust(Vec::new()),
                Patch::Relabel(_) => Patch::Relabel(Vec::new()),
            };
            Patch::visit(reader.bytes().unwrap(), |key, step| match (&mut read, step, Key::from_bytes(key)) {
                (Patch::Advance(marks), Step::Advance(mark), key) => marks.push((key, mark)),
                (Patch::Distrust(keys), Step::Distrust, key) => keys.push(key),
                (Patch::Relabel(labels), Step::Relabel { before, fingerprint }, key) => {
                    labels.push(Relabel { key, before, fingerprint });
                }
                (_, step, key) => panic!("{step:?} of {key}"),
            })
            .unwrap();
            prop_assert_eq!(read, patch);
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn foreign_bytes_never_panic_and_are_never_permanent(
            mut base in prop::collection::vec(any::<u8>(), 0..90), tail in prop::collection::vec(any::<u8>(), 0..50)
        ) {
            for _ in 0..2 {
                let all = marks(&base, &tail, |_| true);
                if let Err(fault) = &all {
                    prop_assert_eq!(fault.kind, FaultKind::Unavailable);
                    prop_assert!(fault.advice.is_some());
                }
                // Damage is a fault for whoever asks for less.
                let kind = |fault: Fault| (fault.kind, fault.advice);
                prop_assert_eq!(find(&base, &tail, &[]).err().map(kind), all.err().map(kind));
                base.insert(0, FORMATS.own());
            }
            if let Err(fault) = merge(Vec::new(), &tail, |_| true) {
                prop_assert_eq!(fault.kind, FaultKind::Unavailable);
            }
        }
    }
}
