//! A target that cannot write in time what it is given at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use fides_core::port::{Fencing, Obstacle, Outcome, Sink, Snapshot, Target, Write};
use fides_core::{Change, Fault, Lane, Namespace, Selection, Shape, Table};

use crate::stand::Stand;

/// Writes so many changes at once, and fails otherwise as whoever runs into a timeout does.
struct Slow {
    target: Arc<dyn Target>,
    records_max: usize,
    largest: AtomicUsize,
}

#[async_trait]
impl Target for Slow {
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
        self.largest.fetch_max(changes.len(), Ordering::Relaxed);
        if changes.len() > self.records_max {
            return vec![Outcome::Unknown(Fault::transient("it ran into its timeout")); changes.len()];
        }
        self.target.apply(write, changes).await
    }

    async fn snapshot(&self, sink: &Sink, selection: &Selection) -> Result<Arc<dyn Snapshot>, Fault> {
        self.target.snapshot(sink, selection).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_slow_is_written_in_smaller_portions() {
    for records_max in [3, 1] {
        let stand = Stand::new(40);
        let mut process = stand.process("a").await;
        let slow =
            Arc::new(Slow { target: process.pipeline.target.clone(), records_max, largest: AtomicUsize::default() });
        process.pipeline.target = slow.clone();
        process.copy().await;
        assert!(slow.largest.load(Ordering::Relaxed) > records_max, "something was too large");
        assert_eq!(stand.differing(1), [0; 0]);
        assert_eq!(process.pipeline.backplane.dead.count(&process.pipeline.id).await.unwrap(), 0);
    }
}
