//! Repair: what verify finds is sent again, through the lanes like every change.

use std::time::Duration;

use fides_core::{Fault, Key, Origin};
use serde::Serialize;

use super::VerifyReport;
use super::verify::Comparison;
use crate::deletions::{self, Wanted};
use crate::lease::Held;
use crate::publishing::Worker;
use crate::{DeletePolicy, Pipeline, Progress, epoch, fence, refresh, spool, sweep};

/// Begins the names of repairs, among other runs.
const RUN_KIND: &str = "repair-";
/// Whoever waits for another repair asks this often in the life of its lease.
const ASKS_PER_LEASE: u64 = 8;

/// What a repair found, did and left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// What differed.
    pub found: VerifyReport,
    /// Records that were sent again.
    pub sent: u64,
    /// Documents whose record is gone, and that were deleted.
    pub deleted: u64,
    /// Why documents without a record were not deleted, if that was refused (L8).
    pub refused: Option<String>,
    /// Differences that are gone.
    pub mended: u64,
    /// What still differs of the keys that differed. Counts only those keys.
    pub left: VerifyReport,
}

/// The right to repair a pipeline: repairs, and what rebuilds marks from what both sides hold, exclude each other.
pub(crate) async fn exclusively<'a>(pipeline: &'a Pipeline, worker: &'a Worker) -> Result<Held<'a>, Fault> {
    await_lease(pipeline, worker, format!("repair-lease/{}", pipeline.id)).await
}

/// Takes a lease, waiting for whoever has it.
pub(crate) async fn await_lease<'a>(
    pipeline: &'a Pipeline,
    worker: &'a Worker,
    key: String,
) -> Result<Held<'a>, Fault> {
    let limits = &pipeline.limits;
    loop {
        let state = &*pipeline.backplane.state;
        if let Some(held) = Held::take(state, key.clone(), &worker.holder, limits.lease_ms).await? {
            return Ok(held);
        }
        tokio::time::sleep(Duration::from_millis(limits.lease_ms / ASKS_PER_LEASE)).await;
    }
}

/// Compares both sides, sends the host's present state of every key that differs, deletes documents whose record is
/// proven absent if that is allowed (L8), waits until all of it is written, and looks at those keys again. Needs consumers
/// at work. Memory is bounded: keys are spooled in the state store.
pub async fn repair(pipeline: &Pipeline, worker: &Worker) -> Result<RepairReport, Fault> {
    let lease = exclusively(pipeline, worker).await?;
    // Large; whoever calls this does not have to carry it.
    let report = Box::pin(lease.during(mend(pipeline, worker))).await;
    lease.release().await;
    report
}

async fn mend(pipeline: &Pipeline, worker: &Worker) -> Result<RepairReport, Fault> {
    let progress = &worker.progress;
    progress.enter("waiting for earlier changes to settle");
    epoch::establish(pipeline).await?;
    // L7: what is queued may be all that is missing.
    settled(pipeline).await?;
    let run = format!("{RUN_KIND}{:013}", pipeline.backplane.state.now_ms().await?);
    spool::clear_others(pipeline, RUN_KIND, &run).await?;
    progress.enter("comparing both sides");
    let found = Comparison::new(pipeline, progress, Some(&run)).run().await?;
    let mut report =
        RepairReport { found, sent: 0, deleted: 0, refused: None, mended: 0, left: VerifyReport::default() };
    if report.found.is_equal() {
        return Ok(report);
    }
    progress.enter("sending what differs");
    send(pipeline, &run, &mut report).await?;
    Progress::add(&progress.refused, usize::from(report.refused.is_some()));
    progress.enter("waiting until it is written");
    settled(pipeline).await?;
    progress.enter("looking again");
    let again = Comparison::new(pipeline, progress, None);
    let mut after: Option<String> = None;
    while let Some((entry, keys)) = spool::next(pipeline, &run, after.as_deref()).await? {
        report.left.add(again.settle(keys).await?);
        pipeline.backplane.state.remove(&entry).await?;
        after = Some(entry);
    }
    report.mended = report.left.in_flight;
    report.left.in_flight = 0;
    Ok(report)
}

/// Waits until everything that is queued is written.
async fn settled(pipeline: &Pipeline) -> Result<(), Fault> {
    let fence = fence::raise(pipeline).await?;
    fence::wait_settled(pipeline, fence).await.map(drop)
}

/// Sends what the host has of the spooled keys, and deletes the others once all of them are counted and judged together.
async fn send(pipeline: &Pipeline, run: &str, report: &mut RepairReport) -> Result<(), Fault> {
    let mut gone = 0;
    let mut after: Option<String> = None;
    while let Some((entry, keys)) = spool::next(pipeline, run, after.as_deref()).await? {
        let (sent, absent) = refresh::send_present(pipeline, &keys, Origin::Repair, true).await?;
        report.sent += sent;
        gone += absent.len() as u64;
        after = Some(entry);
    }
    if gone == 0 || pipeline.delete == DeletePolicy::Never {
        return deletions::forget(pipeline, RUN_KIND).await;
    }
    // The walk came to its proven end on both sides, and each key is fetched once more before it is deleted.
    let host_records = report.found.host_records;
    let wanted = Wanted { deletions: gone, host_records, listing_complete: true, approved: 0 };
    let grant = match deletions::reserve(pipeline, RUN_KIND, &wanted).await? {
        Ok(grant) => grant,
        Err(why) => {
            tracing::error!(pipeline = %pipeline.id, candidates = gone, why, "clean-up refused: nothing was deleted");
            report.refused = Some(why);
            return Ok(());
        }
    };
    let mut after: Option<String> = None;
    while let Some((entry, keys)) = spool::next(pipeline, run, after.as_deref()).await? {
        let absent: Vec<Key> = absent_of(pipeline, keys).await?;
        // Never more than were judged.
        let room = usize::try_from(gone.saturating_sub(report.deleted)).unwrap_or(usize::MAX);
        report.deleted += sweep::delete_absent(pipeline, &absent[..absent.len().min(room)], &grant).await?;
        after = Some(entry);
    }
    grant.end().await;
    Ok(())
}

/// Those of `keys` that the host does not have.
async fn absent_of(pipeline: &Pipeline, keys: Vec<Key>) -> Result<Vec<Key>, Fault> {
    let host = pipeline.peek_host().await?;
    let mut absent = Vec::new();
    for portion in keys.chunks(pipeline.limits.batch_records_max.max(1)) {
        let page = host.fetch(portion).await?;
        absent.extend(portion.iter().filter(|key| page.find(key.as_bytes()).is_none()).cloned());
    }
    Ok(absent)
}
