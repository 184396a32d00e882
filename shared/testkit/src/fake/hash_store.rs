use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use fides_core::port::{BucketInfo, HashStore, Relabel};
use fides_core::{Fault, Key, KeyRange, Mark, PipelineId, bucket};

use super::backplane::{Process, Store};
use super::lock;

/// The buckets of one pipeline by their lower bounds; the first one starts below every key.
#[derive(Clone)]
pub(super) struct Marks(BTreeMap<Vec<u8>, Bucket>);

#[derive(Clone, Default)]
struct Bucket {
    marks: BTreeMap<Key, Mark>,
    writes: u64,
    summary: Option<u128>,
}

impl Default for Marks {
    fn default() -> Self {
        Self(BTreeMap::from([(Vec::new(), Bucket::default())]))
    }
}

fn bound(lower: &[u8]) -> Option<Key> {
    (!lower.is_empty()).then(|| Key::from_bytes(lower))
}

impl Marks {
    /// The bucket that a key belongs to.
    fn bucket(&self, key: &[u8]) -> (&Vec<u8>, &Bucket) {
        self.0
            .range::<[u8], _>((std::ops::Bound::Unbounded, std::ops::Bound::Included(key)))
            .next_back()
            .expect("the first bucket starts below every key")
    }

    fn get(&self, key: &Key) -> Option<Mark> {
        self.bucket(key.as_bytes()).1.marks.get(key).copied()
    }

    fn infos(&self) -> impl Iterator<Item = BucketInfo> {
        let uppers = self.0.keys().skip(1).map(|upper| bound(upper)).chain([None]);
        self.0.iter().zip(uppers).map(|((lower, bucket), upper)| BucketInfo {
            range: KeyRange { lower: bound(lower), upper },
            writes: bucket.writes,
            summary: bucket.summary,
        })
    }

    /// Changes the mark of one key; counts a write and drops the summary, whether the mark changed or not.
    pub fn touch(&mut self, key: &Key, marks_max: usize, change: impl FnOnce(&mut BTreeMap<Key, Mark>)) {
        let lower = self.bucket(key.as_bytes()).0.clone();
        let bucket = self.0.entry(lower).or_default();
        bucket.writes += 1;
        bucket.summary = None;
        change(&mut bucket.marks);
        if bucket.marks.len() > marks_max
            && let Some(middle) = bucket.marks.keys().nth(bucket.marks.len() / 2).cloned()
        {
            let upper = Bucket { marks: bucket.marks.split_off(&middle), writes: bucket.writes, summary: None };
            self.0.insert(middle.as_bytes().to_vec(), upper);
        }
    }
}

/// The marks, for one process. It works with the incarnation that it was told of last, and with no other (L11).
pub(super) struct FakeHashes {
    process: Process,
    told: Mutex<Option<String>>,
}

impl FakeHashes {
    pub fn new(process: Process) -> Self {
        Self { process, told: Mutex::default() }
    }

    /// Refuses a store that is another one than this process was told of.
    fn recognise(&self, store: &Store) -> Result<(), Fault> {
        match &*lock(&self.told) {
            Some(told) if store.incarnation.as_ref() != Some(told) => {
                Err(Fault::unavailable("the hash store is a new incarnation: its data was lost"))
            }
            _ => Ok(()),
        }
    }

    fn read_store<T>(&self, work: impl FnOnce(&Store) -> T) -> Result<T, Fault> {
        self.process.read(|store| self.recognise(store).map(|()| work(store)))?
    }

    fn read<T>(&self, pipeline: &PipelineId, work: impl FnOnce(&Marks) -> T) -> Result<T, Fault> {
        self.read_store(|store| match store.marks.get(pipeline) {
            Some(marks) => work(marks),
            None => work(&Marks::default()),
        })
    }

    fn write<T>(&self, work: impl FnOnce(&mut Store) -> T) -> Result<T, Fault> {
        self.read_store(|_| ())?;
        self.process.write(work)
    }
}

#[async_trait]
impl HashStore for FakeHashes {
    async fn get(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<Vec<Option<Mark>>, Fault> {
        self.read(pipeline, |marks| keys.iter().map(|key| marks.get(key)).collect())
    }

    async fn range(&self, pipeline: &PipelineId, range: &KeyRange) -> Result<Vec<(Key, Mark)>, Fault> {
        self.read(pipeline, |marks| {
            let all = marks.0.values().flat_map(|bucket| &bucket.marks);
            all.filter(|(key, _)| range.contains(key.as_bytes())).map(|(key, mark)| (key.clone(), *mark)).collect()
        })
    }

    async fn buckets(&self, pipeline: &PipelineId, range: &KeyRange) -> Result<Vec<BucketInfo>, Fault> {
        let below = |a: &Option<Key>, b: &Option<Key>| match (a, b) {
            (Some(lower), Some(upper)) => lower < upper,
            _ => true,
        };
        let overlaps =
            |info: &BucketInfo| below(&info.range.lower, &range.upper) && below(&range.lower, &info.range.upper);
        // A pipeline that was never marked has no bucket yet, as in the stores.
        self.read_store(|store| store.marks.get(pipeline).into_iter().flat_map(Marks::infos).filter(overlaps).collect())
    }

    async fn advance(&self, pipeline: &PipelineId, marks: &[(Key, Mark)]) -> Result<(), Fault> {
        let marks_max = self.process.disk.bucket_marks_max;
        self.write(|store| {
            let held = store.marks.entry(pipeline.clone()).or_default();
            for (key, mark) in marks {
                held.touch(key, marks_max, |held| {
                    if held.get(key).is_none_or(|before| mark.version >= before.version) {
                        held.insert(key.clone(), *mark);
                    }
                });
            }
        })
    }

    async fn distrust(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<(), Fault> {
        let marks_max = self.process.disk.bucket_marks_max;
        self.write(|store| {
            let Some(held) = store.marks.get_mut(pipeline) else { return };
            for key in keys {
                held.touch(key, marks_max, |held| {
                    if let Some(mark) = held.get_mut(key) {
                        mark.fingerprint = None;
                    }
                });
            }
        })
    }

    async fn relabel(&self, pipeline: &PipelineId, labels: &[Relabel]) -> Result<(), Fault> {
        let marks_max = self.process.disk.bucket_marks_max;
        self.write(|store| {
            let Some(held) = store.marks.get_mut(pipeline) else { return };
            for label in labels {
                held.touch(&label.key, marks_max, |held| {
                    if let Some(mark) = held.get_mut(&label.key).filter(|mark| **mark == label.before) {
                        *mark = label.after();
                    }
                });
            }
        })
    }

    async fn summarise(&self, pipeline: &PipelineId, summaries: &[(BucketInfo, u128)]) -> Result<(), Fault> {
        self.write(|store| {
            let Some(held) = store.marks.get_mut(pipeline) else { return };
            for (info, summary) in summaries {
                let lower = info.range.lower.as_ref().map_or(&[][..], Key::as_bytes);
                if let Some(bucket) = held.0.get_mut(lower).filter(|bucket| bucket.writes == info.writes) {
                    bucket.summary = Some(*summary);
                }
            }
        })
    }

    async fn size(&self, pipeline: &PipelineId) -> Result<(u64, u64), Fault> {
        self.read(pipeline, |marks| {
            let bytes = |bucket: &Bucket| {
                let marks: Vec<_> = bucket.marks.iter().map(|(key, mark)| (key.clone(), *mark)).collect();
                bucket::encode(&marks).len() as u64
            };
            let held = |bucket: &Bucket| bucket.marks.values().filter(|mark| mark.may_exist()).count() as u64;
            (marks.0.values().map(held).sum(), marks.0.values().map(bytes).sum())
        })
    }

    async fn incarnation(&self) -> Result<Option<String>, Fault> {
        let found = self.process.read(|store| store.incarnation.clone())?;
        if found.is_some() {
            lock(&self.told).clone_from(&found);
        }
        Ok(found)
    }

    async fn create_incarnation(&self, name: &str) -> Result<(), Fault> {
        let kept = self.process.write(|store| store.incarnation.get_or_insert_with(|| name.to_owned()).clone())?;
        if kept == name {
            *lock(&self.told) = Some(kept);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Disk, FakeHost};
    use super::*;
    use fides_core::{Fingerprint, Version};
    use std::sync::Arc;

    fn mark(position: u64) -> Mark {
        Mark::present(Version::scan(1, position), Fingerprint(u128::from(position)))
    }

    async fn filled(disk: &Disk) -> (Arc<dyn HashStore>, PipelineId) {
        let (hashes, pipeline) = (disk.open().hashes, PipelineId::new("p"));
        let marks: Vec<_> = (0..20).map(|id| (FakeHost::key(id), mark(5))).collect();
        hashes.advance(&pipeline, &marks).await.unwrap();
        (hashes, pipeline)
    }

    #[tokio::test]
    async fn buckets_split_and_cover_every_key_once() {
        let disk = Disk::new(1);
        let unmarked = disk.open().hashes.buckets(&PipelineId::new("p"), &KeyRange::ALL).await.unwrap();
        assert_eq!(unmarked, []);
        let (hashes, pipeline) = filled(&disk).await;
        let buckets = hashes.buckets(&pipeline, &KeyRange::ALL).await.unwrap();
        assert!(buckets.len() >= 5);
        assert_eq!((&buckets[0].range.lower, &buckets[buckets.len() - 1].range.upper), (&None, &None));
        assert!(buckets.windows(2).all(|pair| pair[0].range.upper == pair[1].range.lower));
        let mut ids = 0;
        for bucket in &buckets {
            ids += hashes.range(&pipeline, &bucket.range).await.unwrap().len();
        }
        assert_eq!(ids, 20);
        let some = KeyRange { lower: Some(FakeHost::key(3)), upper: Some(FakeHost::key(4)) };
        assert_eq!(hashes.buckets(&pipeline, &some).await.unwrap().len(), 1);
        assert_eq!(hashes.size(&pipeline).await.unwrap().0, 20);
    }

    #[tokio::test]
    async fn marks_never_go_backward_and_distrust_keeps_the_version() {
        let (hashes, pipeline) = filled(&Disk::new(1)).await;
        let keys = [FakeHost::key(1), FakeHost::key(99)];
        hashes.advance(&pipeline, &[(keys[0].clone(), mark(4))]).await.unwrap();
        assert_eq!(hashes.get(&pipeline, &keys).await.unwrap(), [Some(mark(5)), None]);
        hashes.distrust(&pipeline, &keys).await.unwrap();
        let distrusted = Mark { fingerprint: None, ..mark(5) };
        assert_eq!(hashes.get(&pipeline, &keys).await.unwrap(), [Some(distrusted), None]);
        hashes.advance(&pipeline, &[(keys[0].clone(), mark(5))]).await.unwrap();
        assert_eq!(hashes.get(&pipeline, &keys).await.unwrap(), [Some(mark(5)), None]);
    }

    #[tokio::test]
    async fn a_summary_needs_an_untouched_bucket_and_goes_with_the_next_write() {
        let (hashes, pipeline) = filled(&Disk::new(1)).await;
        let before = hashes.buckets(&pipeline, &KeyRange::ALL).await.unwrap();
        hashes.distrust(&pipeline, &[FakeHost::key(0)]).await.unwrap();
        let summaries: Vec<_> = before.iter().map(|info| (info.clone(), 7)).collect();
        hashes.summarise(&pipeline, &summaries).await.unwrap();
        let summaries = async || -> Vec<Option<u128>> {
            let buckets = hashes.buckets(&pipeline, &KeyRange::ALL).await.unwrap();
            buckets.iter().map(|info| info.summary).collect()
        };
        let stored = summaries().await;
        assert_eq!(stored[0], None);
        assert!(stored[1..].iter().all(|summary| *summary == Some(7)));
        hashes.advance(&pipeline, &[(FakeHost::key(19), mark(1))]).await.unwrap();
        assert_eq!(summaries().await.last(), Some(&None));
    }

    #[tokio::test]
    async fn the_store_loses_its_last_writes_or_everything() {
        let disk = Disk::with(1, 4, 2);
        let (hashes, pipeline) = filled(&disk).await;
        hashes.create_incarnation("a").await.unwrap();
        let key = [FakeHost::key(1)];
        for position in 6..10 {
            hashes.advance(&pipeline, &[(key[0].clone(), mark(position))]).await.unwrap();
        }
        assert_eq!(disk.lose_last(3, false), 2);
        assert_eq!(hashes.get(&pipeline, &key).await.unwrap(), [Some(mark(7))]);
        assert_eq!(hashes.incarnation().await.unwrap().as_deref(), Some("a"));
        disk.lose_last(0, true);
        assert_eq!(hashes.incarnation().await.unwrap(), None);
        let other = disk.open().hashes;
        assert_eq!(other.get(&pipeline, &key).await.unwrap(), [Some(mark(7))]);
        hashes.get(&pipeline, &key).await.expect_err("it was told of another");
        disk.lose_everything();
        assert_eq!(other.get(&pipeline, &key).await.unwrap(), [None]);
        other.create_incarnation("b").await.unwrap();
        hashes.get(&pipeline, &key).await.expect_err("it was told of another");
        hashes.advance(&pipeline, &[(key[0].clone(), mark(9))]).await.expect_err("it was told of another");
        assert_eq!(hashes.incarnation().await.unwrap().as_deref(), Some("b"));
        assert_eq!(hashes.get(&pipeline, &key).await.unwrap(), [None]);
    }
}
