//! What a process tells of itself where others can see it: in the state store.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use fides_core::port::StateStore;
use fides_engine::inspect::{Heartbeat, beat, depart, forget_departed};
use tokio::time::{sleep, timeout};

use super::Metrics;

/// How often is looked whether there is something new to tell.
const EVERY: Duration = Duration::from_secs(2);
/// How often is told what has been told: that the process is there.
const AGAIN: Duration = Duration::from_secs(10);
/// How long a farewell may take; whoever falls silent is missed all the same.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

impl Metrics {
    /// Tells the state store what this process does and which breakers are open, for as long as it is polled. A fault is no
    /// line in the log: who cannot be reached is told by whoever works with it.
    pub async fn keep_heartbeat(&self, state: &dyn StateStore) -> Infallible {
        if let Err(fault) = forget_departed(state).await {
            tracing::debug!(%fault, "what departed processes left could not be removed");
        }
        let mut told: Option<(Heartbeat, Instant)> = None;
        loop {
            let now = self.heartbeat();
            let is_told = told.as_ref().is_some_and(|(last, at)| *last == now && at.elapsed() < AGAIN);
            if !is_told {
                match beat(state, now.clone()).await {
                    Ok(()) => told = Some((now, Instant::now())),
                    Err(fault) => tracing::debug!(%fault, "the state store could not be told of this process"),
                }
            }
            sleep(EVERY).await;
        }
    }

    /// Says that this process has ended.
    pub async fn farewell(&self, state: &dyn StateStore) {
        if let Ok(Err(fault)) = timeout(FAREWELL_MAX, depart(state, &self.inner.instance)).await {
            tracing::debug!(%fault, "the state store could not be told that this process has ended");
        }
    }

    fn heartbeat(&self) -> Heartbeat {
        Heartbeat {
            service: self.inner.service.clone(),
            instance: self.inner.instance.clone(),
            at_ms: 0,
            breakers: self.inner.breakers.told(),
            pipelines: self.inner.pipelines.work(),
        }
    }
}
