use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::{Fencing, Obstacle, Outcome, Sink, Snapshot, Target, Write};
use fides_core::{Change, Fault, Lane, Namespace, Selection, Shape, Table};

/// A way to write to a target; see [`Around`].
#[async_trait]
pub trait Applies: Send + Sync {
    /// What becomes of each change, whether it is handed to `target` or not.
    async fn apply(&self, target: &dyn Target, write: &Write<'_>, changes: &[Change]) -> Vec<Outcome>;
}

#[async_trait]
impl<T: Applies> Applies for Arc<T> {
    async fn apply(&self, target: &dyn Target, write: &Write<'_>, changes: &[Change]) -> Vec<Outcome> {
        self.as_ref().apply(target, write, changes).await
    }
}

/// A target that writes in another way, and is the same in everything else.
pub struct Around<A> {
    /// The target.
    pub target: Arc<dyn Target>,
    /// How it writes.
    pub how: A,
}

#[async_trait]
impl<A: Applies> Target for Around<A> {
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
        self.how.apply(&*self.target, write, changes).await
    }

    async fn snapshot(&self, sink: &Sink, selection: &Selection) -> Result<Arc<dyn Snapshot>, Fault> {
        self.target.snapshot(sink, selection).await
    }
}
