use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::{
    Fencing, Host, Lineage, Log, LogPage, Obstacle, Opened, Outcome, Sink, Snapshot, Target, Write,
};
use fides_core::{
    Change, Fault, FaultKind, Key, KeyRange, Lane, Namespace, Page, PipelineId, Selection, Shape, Table, Version,
};

use super::faults::injected;
use super::{Act, Faults};

/// A port with failures before it. Operations are named `port.method` (`target.apply`, `host.scan`, `queue.settle`).
pub struct Faulty<T: ?Sized> {
    pub(super) inner: Arc<T>,
    pub(super) faults: Faults,
}

impl<T: ?Sized> Faulty<T> {
    /// Puts `faults` before `inner`.
    pub fn new(inner: Arc<T>, faults: &Faults) -> Self {
        Self { inner, faults: faults.clone() }
    }
}

#[async_trait]
impl<T: Host + ?Sized> Host for Faulty<T> {
    async fn namespaces(&self) -> Result<Vec<Namespace>, Fault> {
        self.faults.call("host.namespaces", self.inner.namespaces()).await
    }

    async fn describe(&self, namespace: &Namespace) -> Result<Option<Table>, Fault> {
        self.faults.call("host.describe", self.inner.describe(namespace)).await
    }

    async fn lineage(&self) -> Result<Lineage, Fault> {
        self.faults.call("host.lineage", self.inner.lineage()).await
    }

    async fn snapshot(&self, selection: &Selection, drawn: Version) -> Result<Arc<dyn Snapshot>, Fault> {
        let inner = self.faults.call("host.snapshot", self.inner.snapshot(selection, drawn)).await?;
        Ok(Arc::new(FaultySnapshot { inner, faults: self.faults.clone(), side: "host" }))
    }

    async fn log(&self, selection: &Selection, reader: &PipelineId, after: Option<u64>) -> Result<Opened, Fault> {
        let Opened { log, from, gap } = self.faults.call("host.log", self.inner.log(selection, reader, after)).await?;
        Ok(Opened { log: Box::new(FaultyLog { inner: log, faults: self.faults.clone() }), from, gap })
    }

    async fn log_lag(&self, reader: &PipelineId) -> Result<Option<u64>, Fault> {
        self.inner.log_lag(reader).await
    }

    async fn forget_log(&self, reader: &PipelineId) -> Result<(), Fault> {
        self.inner.forget_log(reader).await
    }
}

struct FaultyLog {
    inner: Box<dyn Log>,
    faults: Faults,
}

#[async_trait]
impl Log for FaultyLog {
    async fn next(&mut self) -> Result<LogPage, Fault> {
        self.faults.call("log.next", self.inner.next()).await
    }

    async fn release(&mut self, place: u64) -> Result<(), Fault> {
        self.faults.call("log.release", self.inner.release(place)).await
    }
}

struct FaultySnapshot {
    inner: Arc<dyn Snapshot>,
    faults: Faults,
    side: &'static str,
}

#[async_trait]
impl Snapshot for FaultySnapshot {
    fn version(&self) -> Version {
        self.inner.version()
    }

    async fn plan(&self, want: usize) -> Result<Vec<KeyRange>, Fault> {
        self.faults.call(&format!("{}.plan", self.side), self.inner.plan(want)).await
    }

    async fn scan(&self, range: &KeyRange, after: Option<&Key>) -> Result<Page, Fault> {
        self.faults.call(&format!("{}.scan", self.side), self.inner.scan(range, after)).await
    }

    async fn fetch(&self, keys: &[Key]) -> Result<Page, Fault> {
        self.faults.call(&format!("{}.fetch", self.side), self.inner.fetch(keys)).await
    }
}

#[async_trait]
impl<T: Target + ?Sized + 'static> Target for Faulty<T> {
    fn fencing(&self) -> Fencing {
        self.inner.fencing()
    }

    async fn describe(&self, namespace: &Namespace) -> Result<Option<Table>, Fault> {
        self.faults.call("target.describe", self.inner.describe(namespace)).await
    }

    async fn inspect(&self, sink: &Sink, shape: &Shape, create: bool) -> Result<Vec<Obstacle>, Fault> {
        self.faults.call("target.inspect", self.inner.inspect(sink, shape, create)).await
    }

    async fn prepare(&self, sink: &Sink, shape: &Shape, create: bool) -> Result<(), Fault> {
        self.faults.call("target.prepare", self.inner.prepare(sink, shape, create)).await
    }

    async fn claim(&self, sink: &Sink, lane: &Lane, token: u64) -> Result<(), Fault> {
        self.faults.call("target.claim", self.inner.claim(sink, lane, token)).await
    }

    async fn claimed(&self, sink: &Sink, lane: &Lane) -> Result<Option<u64>, Fault> {
        self.faults.call("target.claimed", self.inner.claimed(sink, lane)).await
    }

    async fn apply(&self, write: &Write<'_>, changes: &[Change]) -> Vec<Outcome> {
        const APPLY: &str = "target.apply";
        let all = |outcome: Outcome| vec![outcome; changes.len()];
        match self.faults.act(APPLY).await {
            Act::Pass | Act::Slow(_) | Act::Hold(_) => self.apply_some(write, changes, |_| None).await,
            Act::Reject(kind) => all(Outcome::Failed(injected(APPLY, kind, "before it was done"))),
            Act::FailAfter(kind) => {
                // Done or not, nobody says: half of the time the transaction was rolled back.
                if self.faults.coin() {
                    self.apply_some(write, changes, |_| None).await;
                }
                all(Outcome::Unknown(injected(APPLY, kind, "nobody knows whether it was done")))
            }
            Act::Partial(kind) => {
                let fail = |_: &Change| self.faults.coin().then(|| injected(APPLY, kind, "for this change"));
                self.apply_some(write, changes, fail).await
            }
            Act::Late(after) => self.apply_late(write, changes, after).await,
            Act::CrashBefore => self.faults.crash().await,
            Act::CrashAfter => {
                self.apply_some(write, changes, |_| None).await;
                self.faults.crash().await
            }
        }
    }

    async fn snapshot(&self, sink: &Sink, selection: &Selection) -> Result<Arc<dyn Snapshot>, Fault> {
        let inner = self.faults.call("target.snapshot", self.inner.snapshot(sink, selection)).await?;
        Ok(Arc::new(FaultySnapshot { inner, faults: self.faults.clone(), side: "target" }))
    }
}

impl<T: Target + ?Sized + 'static> Faulty<T> {
    /// Applies what is neither poison nor chosen to fail.
    async fn apply_some(
        &self,
        write: &Write<'_>,
        changes: &[Change],
        fail: impl Fn(&Change) -> Option<Fault>,
    ) -> Vec<Outcome> {
        let poisoned = |change: &Change| {
            let fault = || injected("target.apply", FaultKind::Permanent, "a poison record");
            self.faults.is_poison(&change.key).then(fault)
        };
        let verdicts: Vec<_> = changes.iter().map(|change| poisoned(change).or_else(|| fail(change))).collect();
        let passed = changes.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_none());
        let passed: Vec<Change> = passed.map(|(change, _)| change.clone()).collect();
        let mut outcomes = self.inner.apply(write, &passed).await.into_iter();
        let missing = || Outcome::Unknown(Fault::transient("target.apply: an outcome is missing"));
        verdicts
            .into_iter()
            .map(|verdict| verdict.map_or_else(|| outcomes.next().unwrap_or_else(missing), Outcome::Failed))
            .collect()
    }

    /// The server writes after a while, whatever becomes of the client.
    async fn apply_late(&self, write: &Write<'_>, changes: &[Change], after: std::time::Duration) -> Vec<Outcome> {
        let server = Self { inner: Arc::clone(&self.inner), faults: self.faults.clone() };
        let (sink, shape, lane, token) = (write.sink.clone(), write.shape.clone(), write.lane.clone(), write.token);
        let held = changes.to_vec();
        let written = tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let write = Write { sink: &sink, shape: &shape, lane: &lane, token };
            server.apply_some(&write, &held, |_| None).await
        });
        let lost = |_| vec![Outcome::Unknown(Fault::transient("target.apply: the server went away")); changes.len()];
        written.await.unwrap_or_else(lost)
    }
}
