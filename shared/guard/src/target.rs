use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fides_core::port::{Fencing, Obstacle, Outcome, Sink, Snapshot, Target, Write};
use fides_core::{Change, Fault, Lane, Limits, Namespace, Selection, Shape, Table};

use crate::Meter;
use crate::host::GuardedSnapshot;
use crate::stack::{Call, Stack};

/// Puts the guard before a target. `name` is the target's name in the configuration: faults and measurements carry it.
///
/// [`Target::apply`] resubmits only what failed in a way that may pass. Where writes are [`Fencing::Conditional`], a change
/// of unknown outcome is resubmitted too; it stays Unknown unless an attempt succeeds, and then the caller clears its mark
/// (L5). Elsewhere it is told at once, and the caller claims the lane anew before it writes again (L6).
pub fn guard_target(name: &str, target: Arc<dyn Target>, limits: &Limits, meter: Arc<dyn Meter>) -> Arc<dyn Target> {
    let stack = Arc::new(Stack::new(name, limits.rate_records_per_second, limits, meter));
    let write_timeout = Duration::from_millis(limits.write_timeout_ms_max);
    let read_timeout = Duration::from_millis(limits.host_timeout_ms);
    Arc::new(GuardedTarget { target, stack, write_timeout, read_timeout })
}

struct GuardedTarget {
    target: Arc<dyn Target>,
    stack: Arc<Stack>,
    write_timeout: Duration,
    read_timeout: Duration,
}

impl GuardedTarget {
    fn write(&self, operation: &'static str) -> Call {
        Call { operation, weight: 0, timeout: self.write_timeout }
    }

    fn read(&self, operation: &'static str) -> Call {
        Call { operation, weight: 0, timeout: self.read_timeout }
    }
}

#[async_trait]
impl Target for GuardedTarget {
    fn fencing(&self) -> Fencing {
        self.target.fencing()
    }

    async fn describe(&self, namespace: &Namespace) -> Result<Option<Table>, Fault> {
        self.stack.call(self.read("describe"), || self.target.describe(namespace)).await
    }

    async fn inspect(&self, sink: &Sink, shape: &Shape, create: bool) -> Result<Vec<Obstacle>, Fault> {
        self.stack.call(self.read("inspect"), || self.target.inspect(sink, shape, create)).await
    }

    async fn prepare(&self, sink: &Sink, shape: &Shape, create: bool) -> Result<(), Fault> {
        self.stack.call(self.write("prepare"), || self.target.prepare(sink, shape, create)).await
    }

    async fn claim(&self, sink: &Sink, lane: &Lane, token: u64) -> Result<(), Fault> {
        self.stack.call(self.write("claim"), || self.target.claim(sink, lane, token)).await
    }

    async fn claimed(&self, sink: &Sink, lane: &Lane) -> Result<Option<u64>, Fault> {
        self.stack.call(self.read("claimed"), || self.target.claimed(sink, lane)).await
    }

    async fn apply(&self, write: &Write<'_>, changes: &[Change]) -> Vec<Outcome> {
        if changes.is_empty() {
            return Vec::new();
        }
        let call = Call { weight: changes.len(), ..self.write("apply") };
        self.stack
            .apply(call, self.target.fencing(), changes, |changes| async move {
                let outcomes = self.target.apply(write, &changes).await;
                aligned(outcomes, changes.len())
            })
            .await
    }

    async fn snapshot(&self, sink: &Sink, selection: &Selection) -> Result<Arc<dyn Snapshot>, Fault> {
        let inner = self.stack.call(self.read("snapshot"), || self.target.snapshot(sink, selection)).await?;
        let read = self.read("scan");
        Ok(Arc::new(GuardedSnapshot { inner, stack: Arc::clone(&self.stack), read }))
    }
}

/// One outcome per change. An adapter that breaks this tells nothing about any of them.
fn aligned(outcomes: Vec<Outcome>, changes: usize) -> Vec<Outcome> {
    if outcomes.len() == changes {
        return outcomes;
    }
    let what = format!("the connector gave {} outcomes for {changes} changes", outcomes.len());
    vec![Outcome::Unknown(Fault::unavailable(what).advise("this is a bug of the connector; report it")); changes]
}
