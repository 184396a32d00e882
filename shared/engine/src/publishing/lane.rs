//! The life of a lane's consumer: own the lane, work, pause while the target cannot be written, resume.

use std::sync::Arc;
use std::time::Duration;

use fides_core::decide::backoff_ms_max;
use fides_core::{Fault, FaultKind, Lane};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio_util::sync::CancellationToken;

use super::gather::Gatherer;
use super::round::Round;
use crate::{Pipeline, Progress, epoch, fence};

/// A billion changes of owner in one epoch.
const LEASE_BITS: u32 = 30;

/// Consumes every lane of a pipeline until `stop`. See [`consume_lane`].
pub async fn consume_lanes(pipeline: &Pipeline, progress: &Arc<Progress>, holder: &str, stop: &CancellationToken) {
    let lanes = pipeline.lanes();
    let mut tasks: FuturesUnordered<_> =
        lanes.iter().map(|lane| consume_lane(pipeline, progress, lane, holder, stop)).collect();
    while tasks.next().await.is_some() {}
}

/// Consumes one lane until `stop`: what is in hand is finished, the rest stays in the queue.
///
/// While the target or the backplane cannot be used the lane is paused: its consumer is given up, which returns its
/// deliveries once, and taken again after a growing wait. Nothing is lost and nothing is redelivered in a loop.
pub async fn consume_lane(
    pipeline: &Pipeline,
    progress: &Progress,
    lane: &Lane,
    holder: &str,
    stop: &CancellationToken,
) {
    let mut failures = 0u32;
    while !stop.is_cancelled() {
        let mut worked = false;
        // A round is never cut in the middle by a stop: `own` looks at the token between rounds.
        let Err(fault) = own(pipeline, progress, lane, holder, stop, &mut worked).await else { return };
        failures = if worked { 1 } else { failures + 1 };
        progress.pause(lane.index, format!("lane {lane} waits: {fault}"));
        tracing::warn!(%lane, failures, %fault, "lane paused");
        let wait_ms = match fault.kind {
            FaultKind::Throttled { after } => u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
            _ => fastrand::u64(1..=backoff_ms_max(failures, &pipeline.limits).max(1)),
        };
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// The token of a lane's owner at the target. The epoch comes first, because a state store that was lost begins to count
/// its leases again, while the target remembers the last token (L6, L11). Stays below 2^63, which SQL can hold.
fn write_token(epoch: u32, lease: u64) -> u64 {
    (u64::from(epoch) << LEASE_BITS) | (lease & ((1 << LEASE_BITS) - 1))
}

/// Owns the lane and works until `stop` (`Ok`) or until something cannot go on (`Err`).
async fn own(
    pipeline: &Pipeline,
    progress: &Progress,
    lane: &Lane,
    holder: &str,
    stop: &CancellationToken,
    worked: &mut bool,
) -> Result<(), Fault> {
    let state = &*pipeline.backplane.state;
    let limits = &pipeline.limits;
    let lease_key = format!("lane/{lane}");
    let Some(lease) = state.lease(&lease_key, holder, limits.lease_ms).await? else {
        return Err(Fault::unavailable(format!("lane {lane} is owned by another process")));
    };
    // L11: a hash store that is not the one of this epoch answers "no mark" for everything: nothing may be applied before
    // the epoch has risen.
    if !epoch::is_current(pipeline).await? {
        epoch::establish(pipeline).await?;
    }
    // L6: from here on no write of an earlier owner lands.
    let token = write_token(epoch::current(pipeline).await?, lease.token);
    pipeline.target.claim(&pipeline.sink, lane, token).await?;
    let mut consumer = pipeline.backplane.queue.consume(lane).await?;
    let mut gatherer = Gatherer::new();
    let round = Round { pipeline, progress, lane, token };
    let idle = Duration::from_millis(limits.lease_ms / 3);
    progress.retry(lane.index);
    loop {
        let gathered = tokio::select! {
            biased;
            () = stop.cancelled() => {
                drop(consumer);
                return state.release(&lease_key, holder).await;
            }
            gathered = gatherer.next(&mut *consumer, limits, idle) => gathered?,
        };
        match state.lease(&lease_key, holder, limits.lease_ms).await? {
            Some(renewed) if renewed.token == lease.token => {}
            _ => return Err(Fault::unavailable(format!("lane {lane} was taken over by another process"))),
        }
        let Some(gathered) = gathered else {
            progress.resume(lane.index);
            continue;
        };
        round.run(&gathered).await?;
        if let Some(fence) = gathered.fence {
            fence::pass(pipeline, lane, fence).await?;
        }
        // L2: applied, marked, and only now settled.
        consumer.settle(&gathered.tags).await?;
        progress.resume(lane.index);
        *worked = true;
    }
}
