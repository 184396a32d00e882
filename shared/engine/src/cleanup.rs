//! Clean-up: the target against the host, for what no import can tell. A record that an import does not meet is a
//! candidate already; this walk also finds what the marks do not know.

use fides_core::port::Expect;
use fides_core::{Fault, FaultKind};
use serde::{Deserialize, Serialize};

use crate::admin::{self, Allowance, Orders};
use crate::lease::Held;
use crate::place::{self, Place, RUN_KIND};
use crate::publishing::Worker;
use crate::sweep::Listing;
use crate::{Pipeline, Progress, SweepReport, deletions, epoch, extras, fence, persisted, spool, sweep};

/// A pipeline's latest clean-up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cleaned {
    /// The instant that it was due for, in milliseconds since 1970.
    pub due_ms: u64,
    /// When it came to its end, in milliseconds since 1970.
    #[serde(default)]
    pub ended_ms: u64,
    /// What it did.
    pub report: SweepReport,
}

fn key(pipeline: &Pipeline) -> String {
    format!("cleanup/{}", pipeline.id)
}

/// The lease of whoever cleans a pipeline up.
pub(crate) fn lease(pipeline: &Pipeline) -> String {
    format!("cleanup-lease/{}", pipeline.id)
}

/// A pipeline's latest clean-up that came to its end.
pub(crate) async fn latest(pipeline: &Pipeline) -> Result<Option<Cleaned>, Fault> {
    let latest = persisted::load::<Cleaned>(&*pipeline.backplane.state, &key(pipeline)).await?;
    Ok(latest.map(|(latest, _)| latest))
}

/// The instant for which a pipeline's latest clean-up was due, in milliseconds since 1970.
pub async fn last_due_ms(pipeline: &Pipeline) -> Result<Option<u64>, Fault> {
    Ok(latest(pipeline).await?.map(|latest| latest.due_ms))
}

/// Walks over target and host, spools every record that only the target has, and deletes what is still absent when it is
/// fetched again, if that is allowed (L8). `None` while another process is at it, and where one of this instant or a later
/// one is done. Needs consumers at work.
///
/// While the pipeline is paused it waits; when it is cancelled it ends, and the report says so.
pub async fn clean_up(pipeline: &Pipeline, worker: &Worker, due_ms: u64) -> Result<Option<SweepReport>, Fault> {
    let worker = &worker.at("clean-up");
    let orders = Orders::begin(pipeline, &worker.progress).await?;
    match orders.obey(|| Box::pin(clean_up_allowed(pipeline, worker, due_ms, orders.number, None))).await? {
        Ok(report) => Ok(report),
        Err(stopped) => {
            tracing::warn!(pipeline = %pipeline.id, by = stopped.requester, "clean-up cancelled");
            deletions::forget(pipeline, RUN_KIND).await?;
            let report = SweepReport { cancelled: Some(stopped.told()), ..SweepReport::default() };
            let ended_ms = pipeline.backplane.state.now_ms().await?;
            let latest = Cleaned { due_ms, ended_ms, report: report.clone() };
            persisted::store(&*pipeline.backplane.state, &key(pipeline), &latest, Expect::Any).await?;
            Ok(Some(report))
        }
    }
}

/// The same, with an approval if there is one, by somebody who obeys orders.
pub(crate) async fn clean_up_allowed(
    pipeline: &Pipeline,
    worker: &Worker,
    due_ms: u64,
    number: u64,
    allowance: Option<&Allowance<'_>>,
) -> Result<Option<SweepReport>, Fault> {
    let state = &*pipeline.backplane.state;
    let Some(lease) = Held::take(state, lease(pipeline), &worker.holder, pipeline.limits.lease_ms).await? else {
        return Ok(None);
    };
    if last_due_ms(pipeline).await?.is_some_and(|last_ms| last_ms >= due_ms) {
        lease.release().await;
        return Ok(None);
    }
    let walk = async {
        worker.progress.enter("waiting for earlier changes to settle");
        epoch::establish(pipeline).await?;
        // L7: what is queued may create or delete what the walk compares.
        let before = fence::raise(pipeline).await?;
        fence::wait_settled(pipeline, before).await?;
        worker.progress.enter("comparing the target with the host");
        let mut place = place::open(pipeline, due_ms, number, allowance).await?;
        let run = place.run.clone();
        spool::clear_others(pipeline, RUN_KIND, &run).await?;
        if let Err(fault) = extras::spool_extras(pipeline, &mut place, true).await {
            // An alert until a clean-up comes to its end; a refusal that waits for a person stays.
            if admin::refusal(pipeline).await?.is_none() {
                let why = format!("the listing is not proven complete: {fault}");
                tracing::error!(pipeline = %pipeline.id, run, why, "clean-up refused: nothing was deleted");
                Progress::add(&worker.progress.refused, 1);
                admin::refuse(pipeline, &run, 0, &why).await?;
            }
            if fault.kind == FaultKind::Permanent {
                state.remove(&place::entry(pipeline)).await?;
            }
            return Err(fault);
        }
        worker.progress.enter("deleting what is gone");
        let Place { walked, told, .. } = place;
        let host_records = walked.host_records;
        let listing = Listing { run: &run, kind: RUN_KIND, host_records, told, complete: true };
        let mut report = sweep::sweep(pipeline, &listing, allowance, &worker.progress).await?;
        report.foreign = walked.foreign;
        let latest = Cleaned { due_ms, ended_ms: state.now_ms().await?, report: report.clone() };
        // First: one that seems to be unfinished is done again, one that seems to be done is not.
        state.remove(&place::entry(pipeline)).await?;
        persisted::store(state, &key(pipeline), &latest, Expect::Any).await?;
        worker.progress.enter("waiting for the schedule");
        Ok(report)
    };
    let report = lease.during(walk).await;
    lease.release().await;
    report.map(Some)
}
