//! Snapshots that are not held for long (L10).

use std::sync::Arc;
use std::time::Duration;

use fides_core::port::Snapshot;
use fides_core::{Fault, Limits};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// What all ranges of a run read, opened anew after `snapshot_age_ms_max`: reading a large store must not keep its vacuum
/// and its log waiting (L10).
#[derive(Default)]
pub(crate) struct Renewed(Mutex<Option<(Arc<dyn Snapshot>, Instant)>>);

impl Renewed {
    /// A snapshot that is young enough; `opening` is run only if there is none.
    pub(crate) async fn current(
        &self,
        limits: &Limits,
        opening: impl Future<Output = Result<Arc<dyn Snapshot>, Fault>>,
    ) -> Result<Arc<dyn Snapshot>, Fault> {
        let mut open = self.0.lock().await;
        let age_max = Duration::from_millis(limits.snapshot_age_ms_max);
        if let Some((snapshot, since)) = &*open
            && since.elapsed() < age_max
        {
            return Ok(snapshot.clone());
        }
        // The old one is given back first: a store with one connection has no other for the new one.
        *open = None;
        let snapshot = opening.await?;
        *open = Some((snapshot.clone(), Instant::now()));
        Ok(snapshot)
    }
}
