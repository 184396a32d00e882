//! Bugs, each put before a port of the real engine, each a law that is broken.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use fides_core::bucket::Digest;
use fides_core::port::{
    Backplane, BucketInfo, Consumer, Delivery, Entry, Expect, HashStore, Host, Lease, Mapper, Outcome, Queue, Relabel,
    Settling, StateStore, Target, Write,
};
use fides_core::{Change, Envelope, Fault, FenceId, Key, KeyRange, Lane, Mark, PipelineId, Selection, Version};

use super::world::World;
use crate::fake::{Applies, Around, FakeHost, FakeMapper};

/// A bug that the simulation must find, or (the last ones) a loss that it must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// L2: deliveries are settled when they come, before anything is applied.
    SettledFirst,
    /// L4: a mark is overwritten by whoever comes last.
    MarksGoBackward,
    /// L5: the writer leaves out a change whose fingerprint equals the mark.
    EqualWritesSkipped,
    /// L5: what an attempt of unknown outcome leaves is believed, and the writer leaves out what equals that.
    UnknownTrusted,
    /// §5: two changes of one row in one transaction have the same version.
    SequenceIgnored,
    /// L7: imports compare before the previous fence has settled.
    FenceNotAwaited,
    /// §9: a summary is stored although a record is published.
    SummaryStoredTooEarly,
    /// L6: a displaced consumer's late write lands.
    LateWriteNotFenced,
    /// L1, L11: rebuilt marks are as new as the host's present state, after everything was lost.
    RebuiltTooNew,
    /// L11: the store lost its last writes, and nobody knows.
    LostLastUnnoticed,
    /// Not a bug: the store lost its last writes, and its sentinel says so.
    LostLastNoticed,
    /// Not a bug: the store lost everything, its sentinel too.
    LostEverything,
    /// Not a bug: the host's log forgot its readers.
    LogForgotten,
    /// Not a bug: the target was restored from a backup.
    TargetRestored,
    /// Not a bug: a standby took over that lacked the last transactions.
    Failover,
    /// Not a bug: the mapping is edited, again and again, process by process.
    MappingEdited,
    /// Not a bug: the target lets no two records have the same value, and the host's records exchange theirs.
    ValuesChangeHands,
}

impl Planted {
    pub(super) fn plant(
        self,
        world: &World,
        pipeline: &PipelineId,
        selection: &Selection,
        mut backplane: Backplane,
        mut target: Arc<dyn Target>,
    ) -> (Backplane, Arc<dyn Target>) {
        match self {
            Planted::SettledFirst => backplane.queue = Arc::new(SettlesFirst(backplane.queue)),
            Planted::FenceNotAwaited => {
                backplane.state = Arc::new(LyingFences { state: backplane.state, drawn: AtomicU64::new(0) });
            }
            Planted::MarksGoBackward => {
                backplane.hashes =
                    Arc::new(BadHashes { hashes: backplane.hashes, bug: HashBug::Overwrites(world.disk.clone()) });
            }
            Planted::RebuiltTooNew => {
                let bug = HashBug::RebuildsTooNew(world.host.clone());
                backplane.hashes = Arc::new(BadHashes { hashes: backplane.hashes, bug });
            }
            Planted::SummaryStoredTooEarly => {
                let bug = HashBug::SummarisesEarly {
                    host: world.host.clone(),
                    selection: selection.clone(),
                    seen: Mutex::default(),
                };
                backplane.hashes = Arc::new(BadHashes { hashes: backplane.hashes, bug });
            }
            Planted::EqualWritesSkipped => {
                let (hashes, pipeline) = (backplane.hashes.clone(), pipeline.clone());
                target = Arc::new(Around { target, how: SkipsEqual { hashes, pipeline, only_after: None } });
            }
            Planted::UnknownTrusted => {
                backplane.hashes = Arc::new(BadHashes { hashes: backplane.hashes, bug: HashBug::Trusts });
                let (hashes, pipeline) = (backplane.hashes.clone(), pipeline.clone());
                let how = SkipsEqual { hashes, pipeline, only_after: Some(Mutex::default()) };
                target = Arc::new(Around { target, how });
            }
            _ => {}
        }
        (backplane, target)
    }
}

/// The next edit of the mapping: no document becomes another one, then some do and less is read, then some are left out.
pub(super) fn edited(mapper: &FakeMapper) -> FakeMapper {
    let revision = mapper.revision() + 1;
    mapper.edited(revision, |edited| match revision {
        2 => {}
        3 => (edited.lifts, edited.columns) = (vec![1], 2),
        _ => edited.excludes = vec![0],
    })
}

struct SettlesFirst(Arc<dyn Queue>);

#[async_trait]
impl Queue for SettlesFirst {
    async fn publish(&self, envelopes: &[Envelope]) -> Result<(), Fault> {
        self.0.publish(envelopes).await
    }

    async fn consume(&self, lane: &Lane) -> Result<Box<dyn Consumer>, Fault> {
        Ok(Box::new(SettlingConsumer(self.0.consume(lane).await?)))
    }

    async fn depth(&self, lane: &Lane) -> Result<u64, Fault> {
        self.0.depth(lane).await
    }
}

struct SettlingConsumer(Box<dyn Consumer>);

#[async_trait]
impl Consumer for SettlingConsumer {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        let delivery = self.0.next().await?;
        self.0.settle(&[delivery.tag]).await?;
        Ok(delivery)
    }

    fn settle(&mut self, _tags: &[u64]) -> Settling {
        Box::pin(async { Ok(()) })
    }

    fn unsettled_max(&self) -> usize {
        self.0.unsettled_max()
    }
}

/// More numbers than are drawn while a fence is waited for.
const DRAWN_MAX: u64 = 64;

struct LyingFences {
    state: Arc<dyn StateStore>,
    /// The latest number.
    drawn: AtomicU64,
}

impl LyingFences {
    /// Of the pipeline whose lane this is.
    async fn epoch(&self, key: &str) -> Result<u32, Fault> {
        let pipeline = key.split('/').nth(1).unwrap_or_default();
        let entry = self.state.get(&format!("epoch/{pipeline}")).await?;
        let json = entry.and_then(|entry| serde_json::from_slice::<serde_json::Value>(entry.value.get(1..)?).ok());
        Ok(json.and_then(|json| json["epoch"].as_u64()?.try_into().ok()).unwrap_or_default())
    }
}

#[async_trait]
impl StateStore for LyingFences {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Fault> {
        if key.starts_with("fences/") {
            let drawn = self.drawn.load(Ordering::Relaxed);
            let epoch = self.epoch(key).await?;
            let numbers = drawn.saturating_sub(DRAWN_MAX)..=drawn;
            let passed: Vec<FenceId> = numbers.map(|number| FenceId { epoch, number }).collect();
            return Ok(Some(Entry { revision: 1, value: serde_json::to_vec(&passed).unwrap_or_default() }));
        }
        self.state.get(key).await
    }

    async fn put(&self, key: &str, value: &[u8], expect: Expect) -> Result<Option<u64>, Fault> {
        if key.starts_with("fences/") {
            return Ok(Some(1));
        }
        self.state.put(key, value, expect).await
    }

    async fn remove(&self, key: &str) -> Result<(), Fault> {
        self.state.remove(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Entry)>, Fault> {
        self.state.list(prefix, after, limit).await
    }

    async fn lease(&self, key: &str, holder: &str, ttl_ms: u64) -> Result<Option<Lease>, Fault> {
        self.state.lease(key, holder, ttl_ms).await
    }

    async fn release(&self, key: &str, holder: &str) -> Result<(), Fault> {
        self.state.release(key, holder).await
    }

    async fn next_position(&self, pipeline: &PipelineId) -> Result<u64, Fault> {
        let number = self.state.next_position(pipeline).await?;
        self.drawn.store(number, Ordering::Relaxed);
        Ok(number)
    }

    async fn now_ms(&self) -> Result<u64, Fault> {
        self.state.now_ms().await
    }
}

enum HashBug {
    Overwrites(crate::fake::Disk),
    /// Fingerprints stay, whatever became of the write.
    Trusts,
    SummarisesEarly {
        host: FakeHost,
        selection: Selection,
        seen: Mutex<Vec<BucketInfo>>,
    },
    RebuildsTooNew(FakeHost),
}

struct BadHashes {
    hashes: Arc<dyn HashStore>,
    bug: HashBug,
}

impl BadHashes {
    /// Summaries of the host as it is now for every bucket of the last comparison, changed or not.
    async fn early(&self, host: &FakeHost, selection: &Selection, seen: Vec<BucketInfo>) -> Vec<(BucketInfo, u128)> {
        let Ok(snapshot) = host.snapshot(selection, Version::default()).await else { return Vec::new() };
        let mut summaries = Vec::new();
        for bucket in seen {
            let mut digest = Digest::default();
            let mut after: Option<Key> = None;
            while let Ok(page) = snapshot.scan(&bucket.range, after.as_ref()).await {
                for at in 0..page.len() {
                    digest.add(page.keys.get(at), page.fingerprints[at]);
                }
                after.clone_from(&page.next);
                if page.next.is_none() {
                    break;
                }
            }
            summaries.push((bucket, digest.finish()));
        }
        summaries
    }
}

#[async_trait]
impl HashStore for BadHashes {
    async fn get(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<Vec<Option<Mark>>, Fault> {
        self.hashes.get(pipeline, keys).await
    }

    async fn range(&self, pipeline: &PipelineId, range: &KeyRange) -> Result<Vec<(Key, Mark)>, Fault> {
        self.hashes.range(pipeline, range).await
    }

    async fn buckets(&self, pipeline: &PipelineId, range: &KeyRange) -> Result<Vec<BucketInfo>, Fault> {
        let buckets = self.hashes.buckets(pipeline, range).await?;
        if let HashBug::SummarisesEarly { seen, .. } = &self.bug
            && let Ok(mut seen) = seen.lock()
        {
            seen.clone_from(&buckets);
        }
        Ok(buckets)
    }

    async fn advance(&self, pipeline: &PipelineId, marks: &[(Key, Mark)]) -> Result<(), Fault> {
        match &self.bug {
            HashBug::Overwrites(disk) => {
                // Written again, late, over whatever came in between.
                self.hashes.advance(pipeline, marks).await?;
                let (disk, pipeline, marks) = (disk.clone(), pipeline.clone(), marks.to_vec());
                let late = std::time::Duration::from_millis(fastrand::u64(1_000..10_000));
                // Not every one: what came in between must not be written again, too.
                if fastrand::u8(..4) != 0 {
                    return Ok(());
                }
                tokio::spawn(async move {
                    tokio::time::sleep(late).await;
                    disk.overwrite_marks(&pipeline, &marks);
                });
                Ok(())
            }
            HashBug::RebuildsTooNew(host) => {
                // What is rebuilt has the lowest position of its epoch.
                let newer = |mark: &Mark| match mark.version.position {
                    0 => Mark { version: Version { position: host.position(), ..mark.version }, ..*mark },
                    _ => *mark,
                };
                let marks: Vec<_> = marks.iter().map(|(key, mark)| (key.clone(), newer(mark))).collect();
                self.hashes.advance(pipeline, &marks).await
            }
            HashBug::Trusts | HashBug::SummarisesEarly { .. } => self.hashes.advance(pipeline, marks).await,
        }
    }

    async fn distrust(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<(), Fault> {
        if matches!(self.bug, HashBug::Trusts) {
            return Ok(());
        }
        self.hashes.distrust(pipeline, keys).await
    }

    async fn relabel(&self, pipeline: &PipelineId, labels: &[Relabel]) -> Result<(), Fault> {
        self.hashes.relabel(pipeline, labels).await
    }

    async fn summarise(&self, pipeline: &PipelineId, summaries: &[(BucketInfo, u128)]) -> Result<(), Fault> {
        match &self.bug {
            HashBug::SummarisesEarly { host, selection, seen } => {
                let seen = seen.lock().map(|seen| seen.clone()).unwrap_or_default();
                let early = self.early(host, selection, seen).await;
                self.hashes.summarise(pipeline, &early).await
            }
            HashBug::Overwrites(_) | HashBug::Trusts | HashBug::RebuildsTooNew(_) => {
                self.hashes.summarise(pipeline, summaries).await
            }
        }
    }

    async fn size(&self, pipeline: &PipelineId) -> Result<(u64, u64), Fault> {
        self.hashes.size(pipeline).await
    }

    async fn incarnation(&self) -> Result<Option<String>, Fault> {
        self.hashes.incarnation().await
    }

    async fn create_incarnation(&self, name: &str) -> Result<(), Fault> {
        self.hashes.create_incarnation(name).await
    }
}

struct SkipsEqual {
    hashes: Arc<dyn HashStore>,
    pipeline: PipelineId,
    /// Only keys whose last attempt had an unknown outcome; every key if there is no such list.
    only_after: Option<Mutex<HashSet<Key>>>,
}

impl SkipsEqual {
    fn may_skip(&self, key: &Key) -> bool {
        self.only_after.as_ref().is_none_or(|unknown| unknown.lock().is_ok_and(|unknown| unknown.contains(key)))
    }

    fn remember(&self, key: &Key, outcome: &Outcome) {
        let Some(Ok(mut unknown)) = self.only_after.as_ref().map(Mutex::lock) else { return };
        if matches!(outcome, Outcome::Unknown(_)) {
            unknown.insert(key.clone());
        } else {
            unknown.remove(key);
        }
    }
}

#[async_trait]
impl Applies for SkipsEqual {
    async fn apply(&self, target: &dyn Target, write: &Write<'_>, changes: &[Change]) -> Vec<Outcome> {
        let keys: Vec<Key> = changes.iter().map(|change| change.key.clone()).collect();
        let marks = self.hashes.get(&self.pipeline, &keys).await.unwrap_or_else(|_| vec![None; keys.len()]);
        let equal = |(change, mark): (&Change, &Option<Mark>)| {
            change.fingerprint.is_some()
                && self.may_skip(&change.key)
                && mark.is_some_and(|mark| mark.fingerprint == change.fingerprint)
        };
        let skipped: Vec<bool> = changes.iter().zip(&marks).map(equal).collect();
        let rest = changes.iter().zip(&skipped).filter(|(_, skipped)| !**skipped);
        let rest: Vec<Change> = rest.map(|(change, _)| change.clone()).collect();
        let mut outcomes = target.apply(write, &rest).await;
        if self.only_after.is_some() && fastrand::u8(..4) == 0 {
            // Answers get lost more often than the weather has it: this bug wants one of them, at one moment.
            let lost = || Outcome::Unknown(Fault::transient("the answer was lost"));
            outcomes.fill_with(lost);
        }
        rest.iter().zip(&outcomes).for_each(|(change, outcome)| self.remember(&change.key, outcome));
        let mut outcomes = outcomes.into_iter();
        let missing = || Outcome::Unknown(Fault::transient("an outcome is missing"));
        skipped
            .into_iter()
            .map(|skipped| if skipped { Outcome::Applied } else { outcomes.next().unwrap_or_else(missing) })
            .collect()
    }
}
