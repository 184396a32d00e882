use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fides_core::port::{Concern, Host, Lineage, Opened, Snapshot};
use fides_core::{Fault, Key, KeyRange, Limits, Namespace, Page, PipelineId, Selection, Table, Version};

use crate::Meter;
use crate::stack::{Call, Stack};

/// Puts the guard before a host and the snapshots that it opens. `name` is the host's name in the configuration: faults
/// and measurements carry it. Its rate has no ceiling, but a host that throttles is called less often.
pub fn guard_host(name: &str, host: Arc<dyn Host>, limits: &Limits, meter: Arc<dyn Meter>) -> Arc<dyn Host> {
    let stack = Arc::new(Stack::new(name, None, limits, meter));
    Arc::new(GuardedHost { host, stack, timeout: Duration::from_millis(limits.host_timeout_ms) })
}

struct GuardedHost {
    host: Arc<dyn Host>,
    stack: Arc<Stack>,
    timeout: Duration,
}

impl GuardedHost {
    /// Every call weighs the same: how much it reads is not known before.
    fn read(&self, operation: &'static str) -> Call {
        Call { operation, weight: 1, timeout: self.timeout }
    }
}

#[async_trait]
impl Host for GuardedHost {
    async fn namespaces(&self) -> Result<Vec<Namespace>, Fault> {
        self.stack.call(self.read("namespaces"), || self.host.namespaces()).await
    }

    async fn describe(&self, namespace: &Namespace) -> Result<Option<Table>, Fault> {
        self.stack.call(self.read("describe"), || self.host.describe(namespace)).await
    }

    async fn lineage(&self) -> Result<Lineage, Fault> {
        self.stack.call(self.read("lineage"), || self.host.lineage()).await
    }

    /// `drawn` was drawn before the first attempt; a later one reads a state that is no older than it says (L1).
    async fn snapshot(&self, selection: &Selection, drawn: Version) -> Result<Arc<dyn Snapshot>, Fault> {
        let inner = self.stack.call(self.read("snapshot"), || self.host.snapshot(selection, drawn)).await?;
        Ok(Arc::new(GuardedSnapshot { inner, stack: Arc::clone(&self.stack), read: self.read("scan") }))
    }

    /// Opening it is guarded. Reading is not: a log that is silent is well, and one that fails is opened anew.
    async fn log(&self, selection: &Selection, reader: &PipelineId, after: Option<u64>) -> Result<Opened, Fault> {
        self.stack.call(self.read("log"), || self.host.log(selection, reader, after)).await
    }

    async fn check_log(&self, selection: &Selection, reader: &PipelineId) -> Result<Vec<Concern>, Fault> {
        self.stack.call(self.read("check_log"), || self.host.check_log(selection, reader)).await
    }

    async fn log_lag(&self, reader: &PipelineId) -> Result<Option<u64>, Fault> {
        self.stack.call(self.read("log_lag"), || self.host.log_lag(reader)).await
    }

    async fn forget_log(&self, reader: &PipelineId) -> Result<(), Fault> {
        self.stack.call(self.read("forget_log"), || self.host.forget_log(reader)).await
    }
}

/// A snapshot of a host or a target behind the same stack as its store.
pub(crate) struct GuardedSnapshot {
    pub inner: Arc<dyn Snapshot>,
    pub stack: Arc<Stack>,
    /// What a read of it is.
    pub read: Call,
}

#[async_trait]
impl Snapshot for GuardedSnapshot {
    fn version(&self) -> Version {
        self.inner.version()
    }

    async fn plan(&self, want: usize) -> Result<Vec<KeyRange>, Fault> {
        self.stack.call(Call { operation: "plan", ..self.read }, || self.inner.plan(want)).await
    }

    async fn scan(&self, range: &KeyRange, after: Option<&Key>) -> Result<Page, Fault> {
        self.stack.call(self.read, || self.inner.scan(range, after)).await
    }

    async fn fetch(&self, keys: &[Key]) -> Result<Page, Fault> {
        self.stack.call(Call { operation: "fetch", ..self.read }, || self.inner.fetch(keys)).await
    }
}
