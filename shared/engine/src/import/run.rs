//! A run: planned once, resumed as often as needed.

use fides_core::port::Expect;
use fides_core::{Fault, PipelineId};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::range::{RangeReader, RangeState};
use super::snapshots::Snapshots;
use crate::{Counts, Pipeline, Progress, SweepReport, epoch, extras, fence, persisted, spool, sweep};

/// Entries read from the state store at a time.
const LIST_MAX: usize = 256;

/// What an import sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Records that differ from their marks.
    Delta,
    /// Every record, whatever its mark says (a full reimport). Never truncates.
    Full,
}

/// The durable state of a pipeline's latest run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) id: String,
    /// The epoch that its comparisons trust; a run of an earlier one is not resumed.
    #[serde(default)]
    pub(crate) epoch: u32,
    pub(crate) mode: Mode,
    pub(crate) started_ms: u64,
    pub(crate) ended_ms: Option<u64>,
    pub(crate) ranges: usize,
    pub(crate) counts: Counts,
    pub(crate) sweep: Option<SweepReport>,
    pub(crate) resumed: u32,
}

/// What an import did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Name of the run.
    pub run: String,
    /// Records, counted over all its starts.
    pub counts: Counts,
    /// What became of the records that the listing did not meet.
    pub sweep: SweepReport,
    /// How often the run was resumed.
    pub resumed: u32,
}

fn run_key(pipeline: &PipelineId) -> String {
    format!("run/{pipeline}")
}

fn range_prefix(pipeline: &PipelineId, run: &str) -> String {
    format!("range/{pipeline}/{run}/")
}

/// The latest run of a pipeline.
pub(crate) async fn latest(pipeline: &Pipeline) -> Result<Option<Run>, Fault> {
    Ok(persisted::load(&*pipeline.backplane.state, &run_key(&pipeline.id)).await?.map(|(run, _)| run))
}

/// Imports: resumes the unfinished run of this pipeline if there is one, else starts one. Returns once everything is
/// confirmed by the queue; whoever needs it written waits for a fence. Needs consumers at work, because it begins with a
/// fence of its own. After a fault a later call resumes.
pub async fn import(pipeline: &Pipeline, mode: Mode, progress: &Progress) -> Result<Report, Fault> {
    progress.enter("waiting for earlier changes to settle");
    epoch::establish(pipeline).await?;
    // L7: marks are compared only behind a fence. It also covers the pages that an interrupted run had published
    // without saving its cursor: they are compared again, and must meet marks that know them.
    let before = fence::raise(pipeline).await?;
    fence::wait_settled(pipeline, before).await?;

    progress.enter("reading");
    let snapshots = Snapshots::new(pipeline);
    let (mut run, revision) = open(pipeline, mode, progress, &snapshots).await?;
    let state = &*pipeline.backplane.state;
    let mut ranges = ranges(pipeline, &run.id).await?;
    if progress.follow(&run.id) {
        for (_, done) in &ranges {
            progress.count(&done.counts);
        }
    }
    let readers: Vec<RangeReader<'_>> = ranges
        .drain(..)
        .filter(|(_, range)| !range.complete)
        .map(|(entry, _)| RangeReader {
            pipeline,
            progress,
            snapshots: &snapshots,
            run: &run.id,
            mode: run.mode,
            entry,
        })
        .collect();
    futures::stream::iter(readers.iter().map(RangeReader::run))
        .buffer_unordered(pipeline.limits.host_partitions.max(1))
        .try_collect::<()>()
        .await?;
    drop(readers);
    drop(snapshots);

    let finished = self::ranges(pipeline, &run.id).await?;
    let mut counts = Counts::default();
    for (_, range) in &finished {
        counts.add(&range.counts);
    }
    let listing_complete = finished.len() == run.ranges && finished.iter().all(|(_, range)| range.complete);

    // A run that began before the epoch was raised has trusted marks that may be wrong: the next run has to do it.
    let compare_target = run.epoch == epoch::current(pipeline).await? && epoch::must_compare_target(pipeline).await?;
    if compare_target {
        progress.enter("comparing the target, because marks may be missing");
        extras::spool_extras(pipeline, &run.id).await?;
    }
    progress.enter("deleting what is gone");
    let swept = sweep::sweep(pipeline, &run.id, counts.read, listing_complete, progress).await?;
    if compare_target {
        epoch::target_compared(pipeline).await?;
    }
    counts.published += swept.deleted;
    counts.deletions += swept.deleted;
    run.counts = counts;
    run.sweep = Some(swept.clone());
    run.ended_ms = Some(state.now_ms().await?);
    let key = run_key(&pipeline.id);
    persisted::store(state, &key, &run, Expect::Revision(revision)).await?.ok_or_else(|| persisted::lost_race(&key))?;
    for (entry, _) in finished {
        state.remove(&entry).await?;
    }
    Ok(Report { run: run.id, counts, sweep: swept, resumed: run.resumed })
}

/// The unfinished run, or a new one.
async fn open(
    pipeline: &Pipeline,
    mode: Mode,
    progress: &Progress,
    snapshots: &Snapshots<'_>,
) -> Result<(Run, u64), Fault> {
    let state = &*pipeline.backplane.state;
    let key = run_key(&pipeline.id);
    let stored = persisted::load::<Run>(state, &key).await?;
    let epoch = epoch::current(pipeline).await?;
    // L11: the marks that survived may be older than what the target holds: nothing is skipped until all are rebuilt.
    let mode = if epoch::must_compare_target(pipeline).await? { Mode::Full } else { mode };
    let expect = match stored {
        Some((mut run, revision)) if run.ended_ms.is_none() && run.epoch == epoch => {
            run.resumed += 1;
            Progress::add(&progress.resumed, 1);
            let revision = persisted::store(state, &key, &run, Expect::Revision(revision)).await?;
            return Ok((run, revision.ok_or_else(|| persisted::lost_race(&key))?));
        }
        Some((_, revision)) => Expect::Revision(revision),
        None => Expect::Absent,
    };
    let started_ms = state.now_ms().await?;
    let id = format!("{started_ms:013}-{:04x}", state.next_position(&pipeline.id).await? & 0xffff);
    let plan = snapshots.current().await?.plan(pipeline.limits.host_partitions.max(1)).await?;
    // Ranges first, the run last: a run that can be seen has all of its ranges.
    for (at, range) in plan.iter().enumerate() {
        let entry = format!("{}{at:05}", range_prefix(&pipeline.id, &id));
        persisted::store(state, &entry, &RangeState::new(range), Expect::Any).await?;
    }
    let run = Run {
        id,
        epoch,
        mode,
        started_ms,
        ended_ms: None,
        ranges: plan.len(),
        counts: Counts::default(),
        sweep: None,
        resumed: 0,
    };
    let revision = persisted::store(state, &key, &run, expect).await?.ok_or_else(|| persisted::lost_race(&key))?;
    spool::clear_others(pipeline, &run.id).await?;
    Ok((run, revision))
}

async fn ranges(pipeline: &Pipeline, run: &str) -> Result<Vec<(String, RangeState)>, Fault> {
    let prefix = range_prefix(&pipeline.id, run);
    let mut ranges: Vec<(String, RangeState)> = Vec::new();
    loop {
        let after = ranges.last().map(|(key, _)| key.as_str());
        let listed = pipeline.backplane.state.list(&prefix, after, LIST_MAX).await?;
        let end = listed.len() < LIST_MAX;
        for (key, entry) in listed {
            let range = persisted::decode(&key, &entry.value)?;
            ranges.push((key, range));
        }
        if end {
            return Ok(ranges);
        }
    }
}
