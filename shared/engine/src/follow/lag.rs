//! A log that is not read fills the host's disk: how much it keeps is measured beside the reader, whatever that waits for.

use std::sync::atomic::Ordering;
use std::time::Duration;

use fides_core::{Fault, LagAction};

use super::debt::owe;
use crate::{Pipeline, Progress};

/// How often it is measured in the life of a lease.
const LOOKS_PER_LEASE: u64 = 4;

/// The lag of the log that this process follows.
pub(super) struct Lag<'a> {
    pipeline: &'a Pipeline,
    progress: &'a Progress,
    is_told: bool,
}

impl<'a> Lag<'a> {
    pub(super) fn new(pipeline: &'a Pipeline, progress: &'a Progress) -> Self {
        Self { pipeline, progress, is_told: false }
    }

    /// Measures for good; ends with a fault after the log was given up. Dropping it is harmless.
    pub(super) async fn watch(&mut self) -> Fault {
        loop {
            tokio::time::sleep(Duration::from_millis(self.pipeline.limits.lease_ms / LOOKS_PER_LEASE)).await;
            if let Err(fault) = self.look().await {
                return fault;
            }
        }
    }

    /// Measures, and does what the limits say of a lag that is too great. A lag that cannot be measured is told by the
    /// reader, which meets the same.
    pub(super) async fn look(&mut self) -> Result<(), Fault> {
        let Self { pipeline, progress, .. } = *self;
        let lag = match pipeline.host.log_lag(&pipeline.id).await {
            Ok(lag) => lag.unwrap_or_default(),
            Err(fault) => {
                tracing::debug!(pipeline = %pipeline.id, %fault, "the lag of the log is not known");
                return Ok(());
            }
        };
        progress.log_lag.store(lag, Ordering::Relaxed);
        let max = pipeline.limits.slot_lag_bytes_max;
        let is_above = lag > max;
        if is_above && !self.is_told {
            tracing::error!(pipeline = %pipeline.id, lag, slot_lag_bytes_max = max,
                "the host keeps more of its log than it should, because it is not read");
        }
        self.is_told = is_above;
        if !is_above || pipeline.limits.slot_lag_action == LagAction::Alert {
            return Ok(());
        }
        // The debt before the log is given up: a crash in between owes too much, never too little.
        owe(pipeline).await?;
        pipeline.host.forget_log(&pipeline.id).await?;
        progress.log_lag.store(0, Ordering::Relaxed);
        Err(Fault::transient(format!(
            "{lag} bytes of the host's log waited, slot_lag_bytes_max allows {max}: it was dropped"
        ))
        .advise("an import is due, and finds what it told"))
    }
}
