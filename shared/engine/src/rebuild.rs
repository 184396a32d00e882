//! Marks rebuilt from what both sides hold (L11), without sending anything: after a hash store was lost or a target was
//! restored, most records are equal on both sides, and an import that trusts no mark would write all of them again.
//!
//! A mark says which host record the target holds, and refuses changes that are not newer. Three things make that true
//! here, while consumers go on writing:
//!
//! 1. Nothing older than this epoch is written any more when the target is read. What was queued is settled behind a
//!    fence (L7). A change of an older epoch that is published later meets a mark that was lifted into this epoch, or
//!    none, and is then refreshed from the host instead of applied.
//! 2. A rebuilt mark has the lowest version of this epoch, older than every change of it, although the host was read
//!    later: a label may be older than what it labels, never newer (L1). Every change that is on its way, or that was
//!    applied while the target was read and is marked a moment later, therefore replaces the rebuilt mark (L4). With the
//!    version of the snapshot the mark would refuse the last of several changes that are in flight, of which an earlier
//!    one was written after the target was read.
//! 3. Nobody imports, cleans up or repairs meanwhile: they skip by marks, or take fingerprints away.

use std::ops::AddAssign;

use fides_core::port::BucketInfo;
use fides_core::{Fault, Fingerprint, Held, Key, KeyRange, Mark, Version};
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;

use crate::epoch::Owed;
use crate::import::Lead;
use crate::inspect::judge::{Judge, Judged};
use crate::inspect::walk::{Found, Sources};
use crate::inspect::{await_lease, exclusively};
use crate::publishing::Worker;
use crate::spool::{self, Source};
use crate::sweep::Listing;
use crate::{Pipeline, SweepReport, cleanup, epoch, fence, follow, sweep};

/// Begins the names of rebuilds, among other runs.
const RUN_KIND: &str = "rebuild-";

/// What a rebuild found and marked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RebuildReport {
    /// Records of the host.
    pub host_records: u64,
    /// Of those, records that the target holds as they are, or is not to hold: marked, and not sent by the next import.
    pub marked: u64,
    /// Records that the next import sends.
    pub differing: u64,
    /// What became of the documents without a record.
    pub sweep: SweepReport,
}

impl Lead<'_> {
    /// Rebuilds every mark of the pipeline, whatever the present ones say: the epoch rises unless it has just done so.
    /// Publishes nothing but deletions of documents whose record is proven absent (L8). Needs consumers at work. To be
    /// called inside [`Lead::during`]. What a rebuild that failed has marked is true; a later one begins again.
    pub async fn rebuild(&self) -> Result<RebuildReport, Fault> {
        let (pipeline, worker) = (self.pipeline, self.worker);
        epoch::establish(pipeline).await?;
        if !epoch::owed(pipeline).await?.rebuild_marks {
            let current = epoch::current(pipeline).await?;
            epoch::raise(pipeline, current).await?;
        }
        // Large; whoever calls this does not have to carry it.
        Box::pin(rebuild_owed(pipeline, worker)).await
    }
}

/// Rebuilds the marks after the epoch has risen; afterwards the epoch asks for nothing more, unless deletions were refused.
/// Only for whoever has the lead.
pub(crate) async fn rebuild_owed(pipeline: &Pipeline, worker: &Worker) -> Result<RebuildReport, Fault> {
    worker.progress.enter("waiting for earlier changes to settle");
    let clean_ups = await_lease(pipeline, worker, cleanup::lease(pipeline)).await?;
    let repairs = exclusively(pipeline, worker).await?;
    let report = clean_ups.during(repairs.during(rebuild(pipeline, worker))).await;
    repairs.release().await;
    clean_ups.release().await;
    report
}

async fn rebuild(pipeline: &Pipeline, worker: &Worker) -> Result<RebuildReport, Fault> {
    let epoch = epoch::current(pipeline).await?;
    settle(pipeline).await?;
    if lift(pipeline, epoch).await? > 0 {
        // Rounds that read the marks before they were lifted.
        settle(pipeline).await?;
    }
    worker.progress.enter("rebuilding marks from both sides");
    let run = format!("{RUN_KIND}{:013}", pipeline.backplane.state.now_ms().await?);
    spool::clear_others(pipeline, RUN_KIND, &run).await?;
    let told = follow::told_gone(pipeline).await?;
    let sources = Sources::new(pipeline);
    let ranges = sources.plan().await?;
    let walks = ranges.into_iter().map(|range| {
        let rebuilding = Rebuilding { pipeline, epoch, run: &run, sources: &sources, range };
        async move { rebuilding.walk().await }
    });
    let at_a_time = pipeline.limits.host_partitions.max(1);
    let mut report = futures::stream::iter(walks)
        .buffer_unordered(at_a_time)
        .try_fold(RebuildReport::default(), |mut sum, part| async move {
            sum += part;
            Ok(sum)
        })
        .await?;
    drop(sources);
    worker.progress.enter("deleting what is gone");
    let listing = Listing { run: &run, kind: RUN_KIND, host_records: report.host_records, told, complete: true };
    report.sweep = sweep::sweep(pipeline, &listing, None, &worker.progress).await?;
    let owed = Owed { rebuild_marks: false, compare_target: report.sweep.refused.is_some() };
    epoch::settle(pipeline, epoch, owed).await?;
    tracing::info!(pipeline = %pipeline.id, epoch, marked = report.marked, differing = report.differing,
        "marks rebuilt from both sides");
    Ok(report)
}

async fn settle(pipeline: &Pipeline) -> Result<(), Fault> {
    let before = fence::raise(pipeline).await?;
    fence::wait_settled(pipeline, before).await.map(drop)
}

/// The lowest version of an epoch: newer than every change of an earlier one, older than every change of its own.
fn lowest(epoch: u32) -> Version {
    Version::scan(epoch, 0)
}

/// Lifts marks of earlier epochs into this one, without what they say that the target holds: from then on no change of an
/// earlier epoch is admitted (L4), and no import takes them at their word. Returns how many.
async fn lift(pipeline: &Pipeline, epoch: u32) -> Result<u64, Fault> {
    let hashes = &*pipeline.backplane.hashes;
    let mut lifted = 0;
    for BucketInfo { range, .. } in hashes.buckets(&pipeline.id, &KeyRange::ALL).await? {
        let marks = hashes.range(&pipeline.id, &range).await?.into_iter();
        let old = marks.filter(|(_, mark)| mark.version.epoch < epoch);
        let marks: Vec<(Key, Mark)> =
            old.map(|(key, mark)| (key, Mark { version: lowest(epoch), fingerprint: None, held: mark.held })).collect();
        if !marks.is_empty() {
            hashes.advance(&pipeline.id, &marks).await?;
            lifted += marks.len() as u64;
        }
    }
    Ok(lifted)
}

/// The walk over both sides.
struct Rebuilding<'a> {
    pipeline: &'a Pipeline,
    epoch: u32,
    run: &'a str,
    sources: &'a Sources,
    range: KeyRange,
}

impl Rebuilding<'_> {
    async fn walk(self) -> Result<RebuildReport, Fault> {
        let mut report = RebuildReport::default();
        let mut judge = Judge::new(self.pipeline);
        let mut walk = self.sources.walk(&self.range, None);
        loop {
            let (mut marks, mut extras): (Vec<(Key, Mark)>, Vec<Key>) = Default::default();
            let more = walk
                .step(|host, target| {
                    report.host_records += u64::from(host.is_some());
                    match (host, target) {
                        (Some(host), target) => {
                            let mark = self.mark(&mut judge, host, target);
                            let is_known = mark.is_some_and(|mark| mark.fingerprint.is_some());
                            *(if is_known { &mut report.marked } else { &mut report.differing }) += 1;
                            marks.extend(mark.map(|mark| (key_of(host), mark)));
                        }
                        (None, Some(target)) => extras.push(key_of(target)),
                        (None, None) => {}
                    }
                })
                .await?;
            for portion in marks.chunks(self.pipeline.limits.page_records_max.max(1)) {
                self.pipeline.backplane.hashes.advance(&self.pipeline.id, portion).await?;
            }
            spool::put(self.pipeline, self.run, Source::Walk, &extras).await?;
            if !more {
                return Ok(report);
            }
        }
    }

    /// The mark that what both sides hold proves. What differs is marked without a fingerprint where the target holds
    /// something: were the host to delete the record before an import has met it, nothing else would tell.
    fn mark(&self, judge: &mut Judge<'_>, host: Found<'_>, target: Option<Found<'_>>) -> Option<Mark> {
        let version = lowest(self.epoch);
        let fingerprint: Fingerprint = host.0.fingerprints[host.1];
        match judge.judge(Some(host), target, &mut false) {
            Judged::Equal => Some(Mark::present(version, fingerprint)),
            Judged::Absent => Some(Mark { version, fingerprint: Some(fingerprint), held: Held::Absent }),
            Judged::Differs(_) => target.map(|_| Mark { version, fingerprint: None, held: Held::Present }),
        }
    }
}

fn key_of((page, at): Found<'_>) -> Key {
    Key::from_bytes(page.keys.get(at))
}

impl AddAssign for RebuildReport {
    fn add_assign(&mut self, part: Self) {
        self.host_records += part.host_records;
        self.marked += part.marked;
        self.differing += part.differing;
    }
}
