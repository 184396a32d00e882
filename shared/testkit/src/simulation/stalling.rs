use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use fides_core::port::{Fencing, Obstacle, Outcome, Sink, Snapshot, Target, Write};
use fides_core::{Change, Fault, Lane, Namespace, Selection, Shape, Table};

use super::world::LOOK;

/// A target that does not answer writes for a while.
pub(super) struct Stalling {
    pub(super) target: Arc<dyn Target>,
    pub(super) stalled: Arc<AtomicBool>,
}

#[async_trait]
impl Target for Stalling {
    fn fencing(&self) -> Fencing {
        self.target.fencing()
    }

    async fn describe(&self, namespace: &Namespace) -> Result<Option<Table>, Fault> {
        self.target.describe(namespace).await
    }

    async fn inspect(&self, sink: &Sink, shape: &Shape, create: bool) -> Result<Vec<Obstacle>, Fault> {
        self.target.inspect(sink, shape, create).await
    }

    async fn prepare(&self, sink: &Sink, shape: &Shape, create: bool) -> Result<(), Fault> {
        self.target.prepare(sink, shape, create).await
    }

    async fn claim(&self, sink: &Sink, lane: &Lane, token: u64) -> Result<(), Fault> {
        self.target.claim(sink, lane, token).await
    }

    async fn claimed(&self, sink: &Sink, lane: &Lane) -> Result<Option<u64>, Fault> {
        self.target.claimed(sink, lane).await
    }

    async fn apply(&self, write: &Write<'_>, changes: &[Change]) -> Vec<Outcome> {
        while self.stalled.load(Ordering::Relaxed) {
            tokio::time::sleep(LOOK).await;
        }
        self.target.apply(write, changes).await
    }

    async fn snapshot(&self, sink: &Sink, selection: &Selection) -> Result<Arc<dyn Snapshot>, Fault> {
        self.target.snapshot(sink, selection).await
    }
}
