use std::collections::BTreeMap;
use std::sync::Arc;

use fides_core::port::{BucketInfo, HashStore, Relabel};
use fides_core::{Held, Key, KeyRange, Mark};
use proptest::prelude::*;

use super::{Place, key, mark, pipeline};
use crate::hash_store::Buckets;

/// What may be done to the store, on so few keys that it keeps hitting the same ones.
#[derive(Clone, Debug)]
enum Step {
    Advance(Vec<(i64, u64, Held)>),
    Distrust(Vec<i64>),
    /// Of marks as they are, or were before the step.
    Relabel(Vec<(i64, bool)>),
    Range(Option<i64>, Option<i64>),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let held = prop_oneof![Just(Held::Present), Just(Held::Absent), Just(Held::Dead)];
    let id = || -20i64..60;
    prop_oneof![
        6 => prop::collection::vec((id(), 0u64..6, held), 1..25).prop_map(Step::Advance),
        2 => prop::collection::vec(id(), 1..6).prop_map(Step::Distrust),
        2 => prop::collection::btree_map(id(), any::<bool>(), 1..9)
            .prop_map(|labels| Step::Relabel(labels.into_iter().collect())),
        2 => (proptest::option::of(id()), proptest::option::of(id())).prop_map(|(lower, upper)| Step::Range(lower, upper)),
        1 => Just(Step::Reopen),
    ]
}

/// The store with tiny buckets, and what it should hold.
struct Compared {
    place: Place,
    marks_max: usize,
    /// Absent only while the file is opened again.
    store: Option<Buckets>,
    model: BTreeMap<Key, Mark>,
}

impl Compared {
    async fn new(marks_max: usize) -> Self {
        let mut compared = Self { place: Place::new(), marks_max, store: None, model: BTreeMap::new() };
        compared.reopen().await;
        compared
    }

    async fn reopen(&mut self) {
        // The file has one owner: the old one goes before the new one comes.
        self.store = None;
        self.store = Some(Buckets::new(Arc::clone(&self.place.open().await.file), self.marks_max));
    }

    fn store(&self) -> &Buckets {
        self.store.as_ref().unwrap()
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Advance(marks) => {
                let marks: Vec<_> =
                    marks.into_iter().map(|(id, position, held)| (key(id), Mark { held, ..mark(position) })).collect();
                let summarised = self.summarise().await;
                self.store().advance(&pipeline(), &marks).await.unwrap();
                let mut changed = Vec::new();
                for (key, mark) in marks {
                    let stored = self.model.entry(key.clone()).or_insert(mark);
                    if mark.version >= stored.version {
                        *stored = mark;
                        changed.push(key);
                    }
                }
                self.check_summaries(&summarised, &changed).await;
            }
            Step::Distrust(ids) => {
                let keys: Vec<_> = ids.into_iter().map(key).collect();
                self.store().distrust(&pipeline(), &keys).await.unwrap();
                for key in keys {
                    self.model.entry(key).and_modify(|mark| mark.fingerprint = None);
                }
            }
            Step::Relabel(labels) => {
                let mut given = Vec::new();
                for (id, is_true) in labels {
                    let Some(mark) = self.model.get_mut(&key(id)) else { continue };
                    let mut before = *mark;
                    before.version.position += u64::from(!is_true);
                    given.push(Relabel { key: key(id), before, fingerprint: fides_core::Fingerprint(77) });
                    if is_true {
                        mark.fingerprint = Some(fides_core::Fingerprint(77));
                    }
                }
                self.store().relabel(&pipeline(), &given).await.unwrap();
            }
            Step::Range(lower, upper) => {
                let range = KeyRange { lower: lower.map(key), upper: upper.map(key) };
                let inside = |(key, mark): (&Key, &Mark)| range.contains(key.as_bytes()).then(|| (key.clone(), *mark));
                let expected: Vec<_> = self.model.iter().filter_map(inside).collect();
                assert_eq!(self.store().range(&pipeline(), &range).await.unwrap(), expected);
            }
            Step::Reopen => self.reopen().await,
        }
    }

    /// Summarises every bucket.
    async fn summarise(&self) -> Vec<(BucketInfo, u128)> {
        let buckets = self.store().buckets(&pipeline(), &KeyRange::ALL).await.unwrap();
        let summaries: Vec<_> = buckets.into_iter().zip(1..).collect();
        self.store().summarise(&pipeline(), &summaries).await.unwrap();
        summaries
    }

    /// A bucket with a changed key, and every piece of it, has no summary any more; every other one keeps it.
    async fn check_summaries(&self, summarised: &[(BucketInfo, u128)], changed: &[Key]) {
        for (before, summary) in summarised {
            let now = self.store().buckets(&pipeline(), &before.range).await.unwrap();
            if changed.iter().any(|key| before.range.contains(key.as_bytes())) {
                assert!(now.iter().all(|piece| piece.summary.is_none() && piece.writes > before.writes));
            } else {
                assert_eq!(now, [BucketInfo { summary: Some(*summary), ..before.clone() }]);
            }
        }
    }

    async fn check(&self) {
        let all: Vec<_> = self.model.iter().map(|(key, mark)| (key.clone(), *mark)).collect();
        assert_eq!(self.store().range(&pipeline(), &KeyRange::ALL).await.unwrap(), all);
        let keys: Vec<_> = (-21..61).rev().map(key).collect();
        let expected: Vec<_> = keys.iter().map(|key| self.model.get(key).copied()).collect();
        assert_eq!(self.store().get(&pipeline(), &keys).await.unwrap(), expected);
        let exist = self.model.values().filter(|mark| mark.may_exist()).count() as u64;
        assert_eq!(self.store().size(&pipeline()).await.unwrap().0, exist);
        let mut before = None;
        let buckets = self.store().buckets(&pipeline(), &KeyRange::ALL).await.unwrap();
        for bucket in &buckets {
            assert_eq!(bucket.range.lower, before, "no gap, no overlap");
            before.clone_from(&bucket.range.upper);
            let held = self.store().range(&pipeline(), &bucket.range).await.unwrap().len();
            assert!(held <= self.marks_max, "{held} marks in a bucket");
            // Only the first one may be empty: the others began with a mark, and marks do not go away.
            assert!(held > 0 || bucket.range.lower.is_none());
        }
        assert_eq!(before, None, "the last bucket is open");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn tiny_buckets_hold_what_a_map_holds(steps in prop::collection::vec(step(), 1..20), marks_max in 1usize..6) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut compared = Compared::new(marks_max).await;
            for step in steps {
                compared.take(step).await;
                compared.check().await;
            }
        });
    }
}
