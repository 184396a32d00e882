//! Work that obeys: it stops while its pipeline is paused, and ends when it is cancelled.

use std::time::Duration;

use fides_core::Fault;
use futures::future::BoxFuture;

use super::cancel::{self, Cancelled};
use super::pause::{Paused, paused};
use crate::{Pipeline, Progress};

/// Orders are looked for this often in the life of a lease.
const LOOKS_PER_LEASE: u64 = 4;

fn look(pipeline: &Pipeline) -> Duration {
    Duration::from_millis((pipeline.limits.lease_ms / LOOKS_PER_LEASE).max(1))
}

/// Resolves when the pipeline is paused, within a lease. A state store that does not answer is asked again: whoever works
/// under a lease ends with that. Cancel-safe.
pub async fn until_paused(pipeline: &Pipeline) -> Paused {
    loop {
        match paused(pipeline).await {
            Ok(Some(paused)) => return paused,
            Ok(None) => {}
            Err(fault) => tracing::debug!(pipeline = %pipeline.id, %fault, "no orders could be read"),
        }
        tokio::time::sleep(look(pipeline)).await;
    }
}

/// Waits until the pipeline is not paused. Cancel-safe.
pub(crate) async fn until_resumed(pipeline: &Pipeline, progress: &Progress) -> Result<(), Fault> {
    while let Some(paused) = paused(pipeline).await? {
        progress.hold(Some(paused.told(pipeline)));
        tokio::time::sleep(look(pipeline)).await;
    }
    progress.hold(None);
    Ok(())
}

/// Why work has stopped.
enum Order {
    Pause,
    Cancel(Cancelled),
}

/// What one piece of work obeys to, from its beginning on.
pub(crate) struct Orders<'a> {
    pipeline: &'a Pipeline,
    progress: &'a Progress,
    /// Told apart by it from what began after a cancellation.
    pub(crate) number: u64,
}

/// That work was cancelled.
pub(crate) type Stopped = Cancelled;

impl<'a> Orders<'a> {
    /// Begins a piece of work.
    pub(crate) async fn begin(pipeline: &'a Pipeline, progress: &'a Progress) -> Result<Self, Fault> {
        Ok(Self { pipeline, progress, number: cancel::number(pipeline).await? })
    }

    /// Does `work`. When the pipeline is paused it is dropped where it stands, as by a crash, and done again after that;
    /// when it is cancelled it is dropped, and that is returned.
    pub(crate) async fn obey<'w, T>(
        &self,
        work: impl Fn() -> BoxFuture<'w, Result<T, Fault>>,
    ) -> Result<Result<T, Stopped>, Fault> {
        loop {
            // A cancellation does not wait for the end of a pause.
            tokio::select! {
                biased;
                stopped = self.cancelled() => return Ok(Err(stopped)),
                resumed = until_resumed(self.pipeline, self.progress) => resumed?,
            }
            tokio::select! {
                biased;
                order = self.given() => match order {
                    Order::Pause => {}
                    Order::Cancel(stopped) => return Ok(Err(stopped)),
                },
                done = work() => return done.map(Ok),
            }
        }
    }

    async fn given(&self) -> Order {
        tokio::select! {
            biased;
            stopped = self.cancelled() => Order::Cancel(stopped),
            _ = until_paused(self.pipeline) => Order::Pause,
        }
    }

    async fn cancelled(&self) -> Stopped {
        loop {
            match cancel::of(self.pipeline, self.number).await {
                Ok(Some(stopped)) => return stopped,
                Ok(None) => {}
                Err(fault) => tracing::debug!(pipeline = %self.pipeline.id, %fault, "no orders could be read"),
            }
            tokio::time::sleep(look(self.pipeline)).await;
        }
    }
}
