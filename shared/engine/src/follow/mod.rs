//! Events: the host's log, followed. Publish, then store the place (L3); imports beside it share its order (DESIGN §5).

mod debt;
mod lag;
mod reader;

use std::sync::atomic::Ordering;
use std::time::Duration;

use fides_core::decide::backoff_ms_max;
use fides_core::{Fault, FaultKind};
use tokio_util::sync::CancellationToken;

pub(crate) use debt::{debt, owe, pay};
use lag::Lag;
pub use reader::place as log_place;
pub(crate) use reader::told_gone;

use crate::lease::Held;
use crate::publishing::Worker;
use crate::{Pipeline, admin};

/// A log that another process reads is asked for this often in the life of a lease.
const ASKS_PER_LEASE: u64 = 8;

/// How the following of a log ended without a fault.
enum Followed {
    /// A stop was asked for.
    Stopped,
    /// Another process reads it.
    Elsewhere,
}

/// Follows the log of the pipeline's host until `stop`: one process does, and the others take over when its lease ends.
/// After a fault the log is opened anew behind the stored place, after a growing wait: what comes twice is harmless,
/// and nothing is passed over. What a log does not remember is owed by an import (see [`crate::import::demanded`]).
///
/// Ends early with a fault that no waiting mends: a host without a log, missing rights, columns that are gone.
pub async fn follow(pipeline: &Pipeline, worker: &Worker, stop: &CancellationToken) -> Result<(), Fault> {
    let mut failures = 0u32;
    while !stop.is_cancelled() {
        let mut worked = false;
        let wait_ms = match own(pipeline, worker, stop, &mut worked).await {
            Ok(Followed::Stopped) => break,
            Ok(Followed::Elsewhere) => pipeline.limits.lease_ms / ASKS_PER_LEASE,
            Err(fault) if fault.kind == FaultKind::Permanent => return Err(fault),
            Err(fault) => {
                failures = if worked { 1 } else { failures + 1 };
                tracing::warn!(pipeline = %pipeline.id, failures, %fault, "the host's log is opened anew");
                match fault.kind {
                    FaultKind::Throttled { after } => u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
                    _ => fastrand::u64(1..=backoff_ms_max(failures, &pipeline.limits).max(1)),
                }
            }
        };
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            () = stop.cancelled() => break,
        }
    }
    Ok(())
}

/// Follows the log as its only reader.
async fn own(
    pipeline: &Pipeline,
    worker: &Worker,
    stop: &CancellationToken,
    worked: &mut bool,
) -> Result<Followed, Fault> {
    let state = &*pipeline.backplane.state;
    let lease = format!("following/{}", pipeline.id);
    let Some(lease) = Held::take(state, lease, &worker.holder, pipeline.limits.lease_ms).await? else {
        // Whoever only waits to take over tells as well why nothing is read.
        worker.progress.hold(admin::paused(pipeline).await?.map(|paused| paused.told(pipeline)));
        return Ok(Followed::Elsewhere);
    };
    let mut lag = Lag::new(pipeline, &worker.progress);
    let reading = async {
        // Also of a log that cannot be opened, and while the pipeline is paused: nothing fills the host's disk more surely.
        lag.look().await?;
        tokio::select! {
            biased;
            read = obey(pipeline, worker, stop, worked) => read,
            fault = lag.watch() => Err(fault),
        }
    };
    let read = lease.during(reading).await;
    // Somebody else may follow it from now on.
    worker.progress.log_lag.store(0, Ordering::Relaxed);
    worker.progress.hold(None);
    read?;
    lease.release().await;
    Ok(Followed::Stopped)
}

/// Reads the log while the pipeline is not paused, until `stop`. A pause ends reading like a stop does: the place is stored.
async fn obey(pipeline: &Pipeline, worker: &Worker, stop: &CancellationToken, worked: &mut bool) -> Result<(), Fault> {
    loop {
        match stop.run_until_cancelled(admin::until_resumed(pipeline, &worker.progress)).await {
            None => return Ok(()),
            Some(resumed) => resumed?,
        }
        let held = stop.child_token();
        let mut reading = std::pin::pin!(reader::read(pipeline, &worker.progress, &held, worked));
        tokio::select! {
            biased;
            read = &mut reading => return read,
            _ = admin::until_paused(pipeline) => held.cancel(),
        }
        reading.await?;
    }
}
