//! A run: planned once, resumed as often as needed.

use std::time::Duration;

use fides_core::port::Expect;
use fides_core::{Fault, FaultKind, PipelineId};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::abandon::{abandon, give_up};
use super::range::{RangeReader, RangeState, range_prefix, ranges};
use super::snapshots::Snapshots;
use crate::admin::{self, Demanded, Orders, Stopped};
use crate::edit::{self, Edit};
use crate::epoch::Owed;
use crate::lease::Held;
use crate::place::Place;
use crate::publishing::Worker;
use crate::sweep::Listing;
use crate::{
    Counts, Pipeline, Progress, SweepReport, deletions, epoch, extras, fence, follow, persisted, rebuild, spool, sweep,
};

/// A process that waits for another to finish looks this often in the life of a lease.
pub(super) const ASKS_PER_LEASE: u64 = 8;
/// A run is planned in more ranges than one process reads at a time, so that processes that join find some to read.
const RANGES_PER_READER: usize = 2;

/// Begins the names of imports, among other runs.
const RUN_KIND: &str = "import-";

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
    /// Revision of the mapping that it maps with; a run of another one is not resumed.
    #[serde(default)]
    pub(crate) mapping: u64,
    pub(crate) mode: Mode,
    /// Gaps of the log before it began, which it closes.
    #[serde(default)]
    pub(crate) log_gaps: u64,
    pub(crate) started_ms: u64,
    /// Deletions that the host's log had told when it began.
    #[serde(default)]
    pub(crate) told: Option<u64>,
    /// The instant for which it was scheduled; when it started, if it was not.
    #[serde(default)]
    pub(crate) due_ms: u64,
    pub(crate) ended_ms: Option<u64>,
    pub(crate) ranges: usize,
    pub(crate) counts: Counts,
    pub(crate) sweep: Option<SweepReport>,
    pub(crate) resumed: u32,
    /// What orders it among cancellations.
    #[serde(default)]
    pub(crate) number: u64,
    /// The commands that it carries out.
    #[serde(default)]
    pub(crate) commands: Vec<String>,
    /// Who ended it early.
    #[serde(default)]
    pub(crate) cancelled: Option<String>,
}

impl Run {
    /// Whether what it has done so far counts for an import in `mode`.
    fn does(&self, epoch: u32, mapping: u64, mode: Mode) -> bool {
        self.epoch == epoch && self.mapping == mapping && (self.mode == mode || self.mode == Mode::Full)
    }
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
    /// Who ended it early.
    pub cancelled: Option<String>,
}

pub(super) fn run_key(pipeline: &PipelineId) -> String {
    format!("run/{pipeline}")
}

/// The latest run of a pipeline.
pub(crate) async fn latest(pipeline: &Pipeline) -> Result<Option<Run>, Fault> {
    Ok(persisted::load(&*pipeline.backplane.state, &run_key(&pipeline.id)).await?.map(|(run, _)| run))
}

/// The right to begin and to end a pipeline's imports: one process has it at a time, and imports of all others help it.
pub struct Lead<'a> {
    pub(crate) pipeline: &'a Pipeline,
    pub(crate) worker: &'a Worker,
    lease: Held<'a>,
}

impl<'a> Lead<'a> {
    /// Takes the lead of a pipeline's imports; `None` while another process has it.
    pub async fn take(pipeline: &'a Pipeline, worker: &'a Worker) -> Result<Option<Self>, Fault> {
        let key = format!("lead/{}", pipeline.id);
        let lease = Held::take(&*pipeline.backplane.state, key, &worker.holder, pipeline.limits.lease_ms).await?;
        Ok(lease.map(|lease| Self { pipeline, worker, lease }))
    }

    /// Does `work` as long as this process has the lead; drops it when the lead is lost.
    pub async fn during<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        self.lease.during(work).await
    }

    /// Gives the lead to whoever asks next.
    pub async fn release(self) {
        self.lease.release().await;
    }

    /// Imports: resumes the unfinished run of this pipeline if there is one, else starts one. Returns once everything is
    /// confirmed by the queue; whoever needs it written waits for a fence. Needs consumers at work, because it begins
    /// with a fence of its own. To be called inside [`Lead::during`]. After a fault a later call resumes.
    ///
    /// `due_ms` is the instant that the schedule named, in milliseconds since 1970, if this is a scheduled import.
    ///
    /// What was asked for by command is done with it. While the pipeline is paused it waits; when it is cancelled its run
    /// ends, and the report says so.
    pub async fn import(&self, mode: Mode, due_ms: Option<u64>) -> Result<Report, Fault> {
        let Self { pipeline, worker, .. } = *self;
        let orders = Orders::begin(pipeline, &worker.progress).await?;
        // A run that was interrupted and then cancelled is not resumed by whoever begins later.
        if let Some(run) = latest(pipeline).await?.filter(|run| run.ended_ms.is_none())
            && let Some(stopped) = admin::cancelled(pipeline, run.number).await?
        {
            return Box::pin(cancel(pipeline, worker, &stopped)).await;
        }
        match orders.obey(|| Box::pin(self.import_now(mode, due_ms, orders.number))).await? {
            Ok(report) => Ok(report),
            Err(stopped) => Box::pin(cancel(pipeline, worker, &stopped)).await,
        }
    }

    async fn import_now(&self, mode: Mode, due_ms: Option<u64>, number: u64) -> Result<Report, Fault> {
        let Self { pipeline, worker, .. } = *self;
        let progress = &*worker.progress;
        progress.enter("waiting for earlier changes to settle");
        epoch::establish(pipeline).await?;
        let asked = admin::demanded(pipeline).await?;
        let mode = if asked.full { Mode::Full } else { mode };
        let mut rebuilt = SweepReport::default();
        let gaps = loop {
            // Before the fence: what a log told until a gap came to be is compared behind it, or the gap is not closed.
            let gaps = follow::debt(pipeline).await?.gaps;
            // L7: marks are compared only behind a fence.
            let before = fence::raise(pipeline).await?;
            let gaps = gaps + fence::wait_settled(pipeline, before).await?;
            // Also where everything is sent: without its marks nobody knows what the mapping left out before (L8).
            if !epoch::owed(pipeline).await?.rebuild_marks {
                break gaps;
            }
            match rebuild_marks(pipeline, worker).await? {
                // What was refused there is a candidate here again.
                Some(swept) if swept.refused.is_some() => {}
                Some(swept) => rebuilt = rebuilt.and(swept),
                None => break gaps,
            }
        };

        progress.enter("reading");
        let snapshots = Snapshots::new(pipeline);
        let edit = Box::pin(Edit::open(pipeline)).await?;
        if let Some(edit) = &edit {
            edit.tell(pipeline);
        }
        let due = Due { due_ms, gaps, asked, number };
        let (run, revision) = Box::pin(open(pipeline, worker, mode, due, &snapshots)).await?;
        if progress.follow(&run.id) {
            for (_, done) in ranges(pipeline, &run.id).await? {
                progress.count_earlier(&done.counts);
            }
        }
        while !Box::pin(share(pipeline, worker, &run, &snapshots, edit.as_ref())).await? {
            tokio::time::sleep(Duration::from_millis(pipeline.limits.lease_ms / ASKS_PER_LEASE)).await;
        }
        drop((snapshots, edit));
        Box::pin(finish(pipeline, progress, run, revision, rebuilt)).await
    }
}

/// Learns anew from both sides what the target holds, for the price of reading both, instead of writing every record
/// again, and tells what became of what only the target held. Where the target cannot be walked it is `None`: the import
/// trusts no mark and sends everything.
async fn rebuild_marks(pipeline: &Pipeline, worker: &Worker) -> Result<Option<SweepReport>, Fault> {
    match Box::pin(rebuild::rebuild_owed(pipeline, worker)).await {
        Err(fault) if fault.kind == FaultKind::Permanent => {
            tracing::warn!(pipeline = %pipeline.id, %fault, "marks cannot be rebuilt: every record is sent");
            Ok(None)
        }
        rebuilt => rebuilt.map(|rebuilt| Some(rebuilt.sweep)),
    }
}

/// Imports alone: takes the lead, waiting for whoever has it, and gives it back. See [`Lead::import`].
pub async fn import(pipeline: &Pipeline, mode: Mode, worker: &Worker) -> Result<Report, Fault> {
    let lead = loop {
        if let Some(lead) = Lead::take(pipeline, worker).await? {
            break lead;
        }
        worker.progress.enter("helping the import of another process");
        Box::pin(assist(pipeline, worker)).await?;
        tokio::time::sleep(Duration::from_millis(pipeline.limits.lease_ms / ASKS_PER_LEASE)).await;
    };
    // Large; whoever calls this does not have to carry it.
    let report = Box::pin(lead.during(lead.import(mode, None))).await;
    lead.release().await;
    report
}

/// A pipeline's latest import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// The instant that it was scheduled for, or when it started, in milliseconds since 1970.
    pub due_ms: u64,
    /// Whether it came to its end.
    pub ended: bool,
}

/// A pipeline's latest import, if there was one in this epoch.
pub async fn last(pipeline: &Pipeline) -> Result<Option<Last>, Fault> {
    let epoch = epoch::current(pipeline).await?;
    let run = latest(pipeline).await?.filter(|run| run.epoch == epoch);
    Ok(run.map(|run| Last { due_ms: run.due_ms, ended: run.ended_ms.is_some() }))
}

/// Whether an import is needed whatever the schedule says: somebody asked for one, or none has ended since the epoch rose
/// (L11), or since the host's log forgot something. Notices a hash store that was lost, and raises the epoch.
pub async fn demanded(pipeline: &Pipeline) -> Result<bool, Fault> {
    epoch::establish(pipeline).await?;
    let owed = epoch::owed(pipeline).await?.rebuild_marks
        || follow::debt(pipeline).await?.is_owed()
        || !admin::demanded(pipeline).await?.commands.is_empty();
    Ok(owed || last(pipeline).await?.is_none_or(|last| !last.ended))
}

/// Reads ranges of the run that another process leads, as long as any is free.
pub async fn assist(pipeline: &Pipeline, worker: &Worker) -> Result<(), Fault> {
    // Who helps time and again asks nowhere else whether the hash store is another one (L11): its handle would go on to
    // refuse every call.
    epoch::establish(pipeline).await?;
    let Some(run) = latest(pipeline).await? else { return Ok(()) };
    // By another mapping nothing would be compared that the run is to compare.
    let is_other = run.mapping != pipeline.mapper.revision() || run.epoch != epoch::current(pipeline).await?;
    if run.ended_ms.is_some() || is_other {
        return Ok(());
    }
    let orders = Orders::begin(pipeline, &worker.progress).await?;
    // Who leads ends the run.
    if admin::cancelled(pipeline, run.number).await?.is_some() {
        return Ok(());
    }
    let (edit, snapshots) = (Box::pin(Edit::open(pipeline)).await?, Snapshots::new(pipeline));
    orders.obey(|| Box::pin(share(pipeline, worker, &run, &snapshots, edit.as_ref()))).await.map(drop)
}

/// Ends the unfinished run for good, behind its readers. What it has published is not taken back.
async fn cancel(pipeline: &Pipeline, worker: &Worker, stopped: &Stopped) -> Result<Report, Fault> {
    let (state, key) = (&*pipeline.backplane.state, run_key(&pipeline.id));
    let report = |run: &Run| Report {
        run: run.id.clone(),
        counts: run.counts,
        sweep: SweepReport::default(),
        resumed: run.resumed,
        cancelled: Some(stopped.told()),
    };
    let Some((run, revision)) = persisted::load::<Run>(state, &key).await?.filter(|(run, _)| run.ended_ms.is_none())
    else {
        // It had not begun.
        let (run, counts) = (String::new(), Counts::default());
        return Ok(Report { run, counts, sweep: SweepReport::default(), resumed: 0, cancelled: Some(stopped.told()) });
    };
    let epoch = run.epoch;
    let commands = run.commands.clone();
    let (mut run, revision) = give_up(pipeline, worker, run, revision).await?;
    // Ended in its epoch: nothing but what else is owed makes another import begin at once.
    run.epoch = epoch;
    run.ended_ms = Some(state.now_ms().await?);
    run.cancelled = Some(stopped.told());
    persisted::store(state, &key, &run, Expect::Revision(revision)).await?.ok_or_else(|| persisted::lost_race(&key))?;
    admin::close_demands(pipeline, &commands, &admin::Outcome::refused(stopped.told())).await?;
    for kind in [RUN_KIND, edit::EXCLUDED_KIND] {
        deletions::forget(pipeline, kind).await?;
    }
    tracing::warn!(pipeline = %pipeline.id, run = run.id, by = stopped.requester, "import cancelled");
    Ok(report(&run))
}

/// Reads the ranges of a run that nobody else is reading, several at a time, until none of them is free. Returns whether
/// all ranges of the run are complete.
async fn share(
    pipeline: &Pipeline,
    worker: &Worker,
    run: &Run,
    snapshots: &Snapshots<'_>,
    edit: Option<&Edit<'_>>,
) -> Result<bool, Fault> {
    let ranges = ranges(pipeline, &run.id).await?.into_iter().enumerate();
    let open: Vec<(usize, String)> =
        ranges.filter(|(_, (_, range))| !range.complete).map(|(place, (entry, _))| (place, entry)).collect();
    let readers = open.into_iter().map(|(place, entry)| {
        let reader = RangeReader { pipeline, worker, snapshots, run: &run.id, mode: run.mode, edit, place, entry };
        async move { reader.run().await }
    });
    let mut reading = futures::stream::iter(readers).buffer_unordered(pipeline.limits.host_partitions.max(1));
    let mut complete = true;
    while let Some(read) = reading.try_next().await? {
        complete &= read;
    }
    Ok(complete)
}

/// Judges what the whole listing did not meet, and ends the run. `rebuilt` is what was deleted while its marks were rebuilt.
async fn finish(
    pipeline: &Pipeline,
    progress: &Progress,
    mut run: Run,
    revision: u64,
    rebuilt: SweepReport,
) -> Result<Report, Fault> {
    let state = &*pipeline.backplane.state;
    let finished = ranges(pipeline, &run.id).await?;
    let mut counts = Counts::default();
    for (_, range) in &finished {
        counts.add(&range.counts);
    }
    let listing_complete = finished.len() == run.ranges && finished.iter().all(|(_, range)| range.complete);

    // A run that began before the epoch was raised has trusted marks that may be wrong: the next run has to do it.
    let is_current = run.epoch == epoch::current(pipeline).await?;
    let mut owed = if is_current { epoch::owed(pipeline).await? } else { Owed::default() };
    let told = match run.told {
        Some(told) => told,
        None => follow::told_gone(pipeline).await?,
    };
    let listing = Listing { run: &run.id, kind: RUN_KIND, host_records: counts.read, told, complete: listing_complete };
    let swept = match judge(pipeline, progress, &listing, owed.compare_target).await {
        // The listing is complete, and what it found is sent. A walk that will never work must not keep the next
        // import from reading what has changed since.
        Err(fault) if fault.kind == FaultKind::Permanent => {
            tracing::error!(pipeline = %pipeline.id, run = run.id, %fault, "nothing was deleted");
            deletions::forget(pipeline, RUN_KIND).await?;
            SweepReport { refused: Some(fault.to_string()), ..SweepReport::default() }
        }
        judged => judged?,
    };
    if owed != Owed::default() {
        owed = Owed { rebuild_marks: false, compare_target: owed.compare_target && swept.refused.is_some() };
        epoch::settle(pipeline, run.epoch, owed).await?;
    }
    let excluded = edit::delete_excluded(pipeline, &run.id, counts.read, listing_complete, progress);
    let excluded = Box::pin(excluded).await?;
    // Until what it leaves out is judged, an edit is not through.
    let is_through = is_current && excluded.refused.is_none();
    let swept = rebuilt.and(swept).and(excluded);
    follow::pay(pipeline, run.log_gaps).await?;
    let told = serde_json::json!({"run": run.id, "read": counts.read, "published": counts.published + swept.deleted,
        "deleted": swept.deleted, "refused": swept.refused});
    admin::close_demands(pipeline, &run.commands, &admin::Outcome::done(told)).await?;
    counts.published += swept.deleted;
    counts.deletions += swept.deleted;
    run.counts = counts;
    run.sweep = Some(swept.clone());
    run.ended_ms = Some(state.now_ms().await?);
    let key = run_key(&pipeline.id);
    persisted::store(state, &key, &run, Expect::Revision(revision)).await?.ok_or_else(|| persisted::lost_race(&key))?;
    if is_through {
        edit::replace(pipeline).await?;
    }
    for (entry, _) in finished {
        state.remove(&entry).await?;
    }
    Ok(Report { run: run.id, counts, sweep: swept, resumed: run.resumed, cancelled: None })
}

/// Compares the target where marks may be missing, and deletes what is gone.
async fn judge(
    pipeline: &Pipeline,
    progress: &Progress,
    listing: &Listing<'_>,
    compare_target: bool,
) -> Result<SweepReport, Fault> {
    if compare_target {
        progress.enter("comparing the target, because marks may be missing");
        let mut place = Place::of(listing.run);
        extras::spool_extras(pipeline, &mut place, false).await?;
    }
    progress.enter("deleting what is gone");
    sweep::sweep(pipeline, listing, None, progress).await
}

/// Why an import begins.
struct Due {
    /// The instant of the schedule.
    due_ms: Option<u64>,
    /// The gaps that it closes.
    gaps: u64,
    /// What it carries out.
    asked: Demanded,
    /// What orders it among cancellations.
    number: u64,
}

/// The unfinished run if it does what is asked for, or a new one.
async fn open(
    pipeline: &Pipeline,
    worker: &Worker,
    mode: Mode,
    due: Due,
    snapshots: &Snapshots<'_>,
) -> Result<(Run, u64), Fault> {
    let state = &*pipeline.backplane.state;
    let key = run_key(&pipeline.id);
    let stored = persisted::load::<Run>(state, &key).await?;
    let epoch = epoch::current(pipeline).await?;
    // L11: the marks that survived may be older than what the target holds: nothing is skipped unless they were rebuilt.
    let mode = if epoch::owed(pipeline).await?.rebuild_marks { Mode::Full } else { mode };
    let expect = match stored {
        Some((mut run, revision)) if run.ended_ms.is_none() && run.does(epoch, pipeline.mapper.revision(), mode) => {
            run.resumed += 1;
            Progress::add(&worker.progress.resumed, 1);
            let revision = persisted::store(state, &key, &run, Expect::Revision(revision)).await?;
            return Ok((run, revision.ok_or_else(|| persisted::lost_race(&key))?));
        }
        Some((run, revision)) if run.ended_ms.is_none() => {
            Expect::Revision(abandon(pipeline, worker, run, revision).await?)
        }
        Some((_, revision)) => Expect::Revision(revision),
        None => Expect::Absent,
    };
    edit::keep(pipeline).await?;
    let started_ms = state.now_ms().await?;
    let id = format!("{RUN_KIND}{started_ms:013}-{:04x}", state.next_position(&pipeline.id).await? & 0xffff);
    let want = pipeline.limits.host_partitions.max(1) * RANGES_PER_READER;
    let told = follow::told_gone(pipeline).await?;
    let plan = snapshots.current().await?.plan(want).await?;
    // Ranges first, the run last: a run that can be seen has all of its ranges.
    for (at, range) in plan.iter().enumerate() {
        let entry = format!("{}{at:05}", range_prefix(&pipeline.id, &id));
        persisted::store(state, &entry, &RangeState::new(range), Expect::Any).await?;
    }
    let run = Run {
        id,
        epoch,
        mapping: pipeline.mapper.revision(),
        mode,
        log_gaps: due.gaps,
        started_ms,
        told: Some(told),
        due_ms: due.due_ms.unwrap_or(started_ms),
        ended_ms: None,
        ranges: plan.len(),
        counts: Counts::default(),
        sweep: None,
        resumed: 0,
        number: due.number,
        commands: due.asked.commands,
        cancelled: None,
    };
    let revision = persisted::store(state, &key, &run, expect).await?.ok_or_else(|| persisted::lost_race(&key))?;
    spool::clear_others(pipeline, RUN_KIND, &run.id).await?;
    edit::clear_others(pipeline, &run.id).await?;
    Ok((run, revision))
}
