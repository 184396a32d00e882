//! The life of a lane's consumer: own the lane, work, pause while the target cannot be written, resume.

use std::time::Duration;

use fides_core::decide::backoff_ms_max;
use fides_core::port::Consumer;
use fides_core::{Fault, FaultKind, Lane, Limits};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::Worker;
use super::claim::claim;
use super::gather::Gatherer;
use super::ledger::Ledger;
use super::poison;
use super::portion::Portion;
use super::round::Round;
use super::settler::Settler;
use crate::lease::Held;
use crate::{Pipeline, Progress, epoch, fence, trace};

/// A lane that its last owner has not given back yet is asked for this often in the life of a lease.
const ASKS_PER_LEASE: u64 = 8;

/// Consumes one lane until `stop`: what is in hand is finished, the rest stays in the queue.
///
/// While the target or the backplane cannot be used the lane is paused: its consumer is given up, which returns its
/// deliveries once, and taken again after a growing wait. Nothing is lost and nothing is redelivered in a loop.
pub(super) async fn consume_lane(pipeline: &Pipeline, worker: &Worker, lane: &Lane, stop: &CancellationToken) {
    let mut failures = 0u32;
    let portion = Portion::new(pipeline.limits.apply_records_max, pipeline.limits.write_timeout_ms_max);
    while !stop.is_cancelled() {
        let mut turn = Turn::default();
        // A round is never cut in the middle by a stop: `own` looks at the token between rounds.
        let wait_ms = match own(pipeline, worker, lane, &portion, stop, &mut turn).await {
            Ok(Owned::Stopped) => break,
            Ok(Owned::Elsewhere) => pipeline.limits.lease_ms / ASKS_PER_LEASE,
            Err(fault) => {
                failures = if turn.worked { 1 } else { failures + 1 };
                worker.progress.pause(lane.index, format!("lane {lane} waits: {fault}"));
                tracing::warn!(%lane, failures, %fault, "lane paused");
                match fault.kind {
                    FaultKind::Throttled { after } => {
                        u64::try_from(after.as_millis()).unwrap_or(u64::MAX).min(THROTTLED_MS_MAX)
                    }
                    _ => turn.wait_ms(failures, &pipeline.limits),
                }
            }
        };
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            () = stop.cancelled() => break,
        }
    }
    if let Err(fault) = leave_nothing_aside(pipeline, worker, lane, &portion, stop).await {
        tracing::warn!(%lane, %fault, "documents may still be gone that made room for others: the lane's next owner brings them back");
    }
    worker.progress.resume(lane.index);
    worker.progress.took(lane.index, None);
}

/// What made room for others does not stay gone for as long as nobody consumes the lane: it is owned once more, which brings
/// it back.
async fn leave_nothing_aside(
    pipeline: &Pipeline,
    worker: &Worker,
    lane: &Lane,
    portion: &Portion,
    stop: &CancellationToken,
) -> Result<(), Fault> {
    if Ledger::is_kept(pipeline, lane).await? {
        own(pipeline, worker, lane, portion, stop, &mut Turn::default()).await?;
    }
    Ok(())
}

/// A lane that is paused before it consumes is tried again at least this often: whatever it waits for, it goes on soon
/// after. The guard decides whether a probe reaches the other side.
const PROBE_MS_MAX: u64 = 1_000;
/// One whose deliveries were returned waits longer: a broker counts how often it delivers a message, and gives up on one
/// that it has delivered a million times. That is a year of such waits.
const REDELIVER_MS_MAX: u64 = 30_000;

/// However long the other side asks to be left alone, it is asked again after ten minutes.
const THROTTLED_MS_MAX: u64 = 600_000;

/// How far a lane came before a fault.
#[derive(Default)]
pub(super) struct Turn {
    /// It consumed: its deliveries return.
    consumed: bool,
    /// It settled some, or wrote some of what returns: what is tried again is less.
    pub(super) worked: bool,
}

impl Turn {
    fn wait_ms(&self, failures: u32, limits: &Limits) -> u64 {
        if !self.consumed {
            return fastrand::u64(1..=backoff_ms_max(failures, limits).clamp(1, PROBE_MS_MAX));
        }
        let limits = Limits { retry_cap_ms: REDELIVER_MS_MAX, ..limits.clone() };
        let most = backoff_ms_max(failures, &limits).max(1);
        fastrand::u64(most.div_ceil(2)..=most)
    }
}

/// How owning a lane ended without a fault.
enum Owned {
    /// A stop was asked for.
    Stopped,
    /// Its last owner has not given it back yet.
    Elsewhere,
}

/// Owns the lane and works until `stop`, or until something cannot go on (`Err`).
async fn own(
    pipeline: &Pipeline,
    worker: &Worker,
    lane: &Lane,
    portion: &Portion,
    stop: &CancellationToken,
    turn: &mut Turn,
) -> Result<Owned, Fault> {
    let state = &*pipeline.backplane.state;
    let lease = Held::take(state, format!("lane/{lane}"), &worker.holder, pipeline.limits.lease_ms).await?;
    let Some(lease) = lease else { return Ok(Owned::Elsewhere) };
    lease.during(work(pipeline, worker, lane, &lease, portion, stop, turn)).await?;
    lease.release().await;
    Ok(Owned::Stopped)
}

async fn work(
    pipeline: &Pipeline,
    worker: &Worker,
    lane: &Lane,
    lease: &Held<'_>,
    portion: &Portion,
    stop: &CancellationToken,
    turn: &mut Turn,
) -> Result<(), Fault> {
    // L11: a hash store that is not the one of this epoch answers "no mark" for everything: nothing may be applied before
    // the epoch has risen.
    if !epoch::is_current(pipeline).await? {
        epoch::establish(pipeline).await?;
    }
    let token = claim(pipeline, lane, lease).await?;
    let round = Round { pipeline, progress: &worker.progress, lane, token, portion, is_aside: true };
    let round = Round { is_aside: round.restore().await?, ..round };
    // Before anything is consumed, so that nothing is delivered in vain.
    poison::gate(pipeline, &worker.progress).await?;
    let mut consumer = pipeline.backplane.queue.consume(lane).await?;
    turn.consumed = true;
    let _owned = worker.progress.own_lane();
    worker.progress.retry(lane.index);
    let mut settler = Settler::new(consumer.unsettled_max());
    let worked = rounds(&round, worker, &mut *consumer, &mut settler, stop, turn).await;
    // What earlier rounds have done does not come again, whatever became of the last one.
    if let Err(fault) = settler.all(turn).await {
        tracing::debug!(%lane, %fault, "the last deliveries come again");
    }
    worked
}

/// Round after round, until `stop`.
async fn rounds(
    round: &Round<'_>,
    worker: &Worker,
    consumer: &mut dyn Consumer,
    settler: &mut Settler,
    stop: &CancellationToken,
    turn: &mut Turn,
) -> Result<(), Fault> {
    let Round { pipeline, lane, .. } = *round;
    let mut gatherer = Gatherer::new();
    loop {
        let gathered = {
            let mut next = std::pin::pin!(gatherer.next(consumer, &pipeline.limits));
            let mut idle = std::pin::pin!(tokio::time::sleep(Duration::from_millis(pipeline.limits.lease_ms / 3)));
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(()),
                    done = settler.when_due(turn), if !settler.is_idle() => done?,
                    gathered = &mut next => break gathered?,
                    // A lane without work is not in trouble.
                    () = &mut idle, if !idle.is_elapsed() => worker.progress.resume(lane.index),
                }
            }
        };
        Progress::add(&worker.progress.redelivered, gathered.redelivered);
        worker.progress.took(lane.index, gathered.sent_ms);
        let span = trace::consumer(lane, gathered.traces(), gathered.changes.len());
        let mut wrote = false;
        let ran = round.run(&gathered, &mut wrote).instrument(span.clone());
        let (settled, ran) = settler.beside(turn, ran).await;
        turn.worked |= wrote;
        trace::told(&span, ran)?;
        settled?;
        if let Some(fence) = gathered.fence {
            // L7: the rounds before are settled, and this one is written and marked.
            settler.all(turn).await?;
            trace::told(&span, fence::pass(pipeline, lane, fence).instrument(span.clone()).await)?;
        }
        worker.progress.took(lane.index, None);
        worker.progress.resume(lane.index);
        // L2: applied, marked, and only now settled.
        settler.add(&gathered.tags, consumer);
        if gathered.fence.is_some() {
            // Somebody may look whether the lane is empty now.
            settler.hurry();
        }
    }
}
