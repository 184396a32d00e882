use std::sync::Arc;
use std::time::Duration;

use fides_core::port::Snapshot;
use fides_core::{Fault, Selection, Version};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::Pipeline;

/// The snapshot that all ranges of a run read, renewed after `snapshot_age_ms_max` so that the host's vacuum and log are
/// not held. Versions belong to pages, so a run simply goes on under a newer snapshot (DESIGN §5).
pub(crate) struct Snapshots<'a> {
    pipeline: &'a Pipeline,
    /// What is read for looking only, if it is not what the pipeline reads.
    other: Option<Selection>,
    open: Mutex<Option<(Arc<dyn Snapshot>, Instant)>>,
}

impl<'a> Snapshots<'a> {
    pub(crate) fn new(pipeline: &'a Pipeline) -> Self {
        Self { pipeline, other: None, open: Mutex::new(None) }
    }

    /// Of another selection, for looking only: nothing is drawn, and their versions label nothing.
    pub(crate) fn of(pipeline: &'a Pipeline, selection: Selection) -> Self {
        Self { pipeline, other: Some(selection), open: Mutex::new(None) }
    }

    /// A snapshot that is young enough.
    pub(crate) async fn current(&self) -> Result<Arc<dyn Snapshot>, Fault> {
        let mut open = self.open.lock().await;
        let age_max = Duration::from_millis(self.pipeline.limits.snapshot_age_ms_max);
        if let Some((snapshot, since)) = &*open
            && since.elapsed() < age_max
        {
            return Ok(snapshot.clone());
        }
        // The old one is given back first: a host with one connection has no other for the new one.
        *open = None;
        let snapshot = match &self.other {
            None => self.pipeline.open_host().await?,
            Some(selection) => self.pipeline.host.snapshot(selection, Version::default()).await?,
        };
        *open = Some((snapshot.clone(), Instant::now()));
        Ok(snapshot)
    }
}
