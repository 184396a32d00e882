use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fides_core::command::{Action, Answer, Command, Status};
use fides_core::port::{Host, Mapper, Sink, Target};
use fides_core::{Change, Limits, Namespace, Op, PipelineId, Selection, Version};
use fides_engine::admin::{Office, accept, carry_out};
use fides_engine::import::{Mode, Report, import};
use fides_engine::publishing::{Worker, consume_lanes};
use fides_engine::{DeletePolicy, ForeignPolicy, Pipeline, Progress, raise_fence, wait_for_fence};
use fides_testkit::fake::{Disk, FakeHost, FakeMapper, FakeTarget, Faults, Faulty, Order};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longer than anything can take on the paused clock.
pub const PATIENCE: Duration = Duration::from_hours(1);

/// What lasts: both sides and the backplane.
pub struct Stand {
    pub host: FakeHost,
    pub target: FakeTarget,
    pub disk: Disk,
}

/// One process at work on the pipeline, with its own failures.
pub struct Process {
    pub pipeline: Pipeline,
    pub worker: Worker,
    pub faults: Faults,
}

impl Stand {
    /// A host with rows `0..rows`, of value 1 each.
    pub fn new(rows: i64) -> Self {
        Self::of(FakeHost::new(Order::Fides), rows)
    }

    /// The same with that host.
    pub fn of(host: FakeHost, rows: i64) -> Self {
        host.commit(&(0..rows).map(|id| (id, Some(1))).collect::<Vec<_>>());
        Self { host, target: FakeTarget::new(), disk: Disk::new(60) }
    }

    /// A process whose mapping has revision 1.
    pub async fn process(&self, name: &str) -> Process {
        self.process_of(name, FakeMapper::new(1)).await
    }

    pub async fn process_of(&self, name: &str, mapper: FakeMapper) -> Process {
        let faults = Faults::none();
        let host: Arc<dyn Host> = Arc::new(Faulty::new(Arc::new(self.host.clone()), &faults));
        let target: Arc<dyn Target> = Arc::new(Faulty::new(Arc::new(self.target.clone()), &faults));
        let id = PipelineId::new("p");
        let pipeline = Pipeline {
            host,
            target,
            selection: Selection { columns: mapper.reads(), ..FakeHost::selection(mapper.revision(), 4) },
            sink: Sink { pipeline: id.clone(), namespace: namespace(), version_field: None },
            target_selection: mapper.documents(namespace(), 4),
            mapper: Arc::new(mapper),
            limits: limits(),
            delete: DeletePolicy::Hard,
            foreign: ForeignPolicy::Keep,
            backplane: faults.around(&self.disk.open()),
            id,
        };
        pipeline.target.prepare(&pipeline.sink, pipeline.shape(), true).await.unwrap();
        Process { pipeline, worker: Worker { holder: name.into(), progress: Arc::new(Progress::default()) }, faults }
    }

    /// The document of a row, if the target holds one.
    pub fn document(&self, id: i64) -> Option<Bytes> {
        self.target.documents(&namespace()).remove(&FakeHost::key(id))
    }

    /// Rows whose documents are not what a mapping of `revision` makes of them.
    pub fn differing(&self, revision: u64) -> Vec<i64> {
        self.differing_from(&FakeMapper::new(revision))
    }

    /// Rows whose documents are not what this mapping makes of them.
    pub fn differing_from(&self, mapper: &FakeMapper) -> Vec<i64> {
        let documents = self.target.documents(&namespace());
        let expected = |id, v| mapper.document(id, v).map(Bytes::from);
        let rows = self.host.rows().into_iter();
        rows.filter(|&(id, v)| documents.get(&FakeHost::key(id)) != expected(id, v).as_ref())
            .map(|(id, _)| id)
            .collect()
    }
}

impl Process {
    /// Consumes the process's share of the lanes until the guard is dropped.
    pub fn consume(&self) -> DropGuard {
        let stop = CancellationToken::new();
        let (pipeline, worker, stopped) = (self.pipeline.clone(), self.worker.clone(), stop.clone());
        tokio::spawn(async move { consume_lanes(&pipeline, &worker, &stopped).await });
        stop.drop_guard()
    }

    pub async fn import(&self, mode: Mode) -> Report {
        within(import(&self.pipeline, mode, &self.worker)).await.unwrap()
    }

    /// Consumes, and carries out what is asked for, until the guard is dropped.
    pub fn serve(&self) -> DropGuard {
        let stop = CancellationToken::new();
        for office in [Office::Sending, Office::Comparing] {
            let (pipeline, worker, stopped) = (self.pipeline.clone(), self.worker.clone(), stop.clone());
            tokio::spawn(async move { carry_out(&pipeline, &worker, office, &stopped).await });
        }
        let (pipeline, worker, stopped) = (self.pipeline.clone(), self.worker.clone(), stop.clone());
        tokio::spawn(async move { consume_lanes(&pipeline, &worker, &stopped).await });
        stop.drop_guard()
    }

    /// Asks as eve.
    pub async fn ask(&self, id: &str, action: Action) -> Answer {
        let command = Command { id: id.into(), requester: "eve".into(), action };
        accept(std::slice::from_ref(&self.pipeline), &command).await.unwrap()
    }

    /// Asks, and asks again until it is carried out or refused.
    pub async fn ask_and_wait(&self, id: &str, action: Action) -> Answer {
        within(async {
            loop {
                let answer = self.ask(id, action.clone()).await;
                if answer.status != Status::Accepted {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
    }

    /// Waits until everything that is queued now is settled.
    pub async fn settle(&self) {
        let fence = raise_fence(&self.pipeline).await.unwrap();
        within(wait_for_fence(&self.pipeline, fence)).await.unwrap();
    }

    /// Imports everything and waits until it is written.
    pub async fn copy(&self) {
        let _consumers = self.consume();
        self.import(Mode::Delta).await;
        self.settle().await;
    }
}

/// Waits for something that must happen.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("this never came to its end")
}

/// An upsert of row `id`.
pub fn upsert(id: i64, version: Version, document: Vec<u8>) -> Change {
    Change { key: FakeHost::key(id), version, fingerprint: None, op: Op::Upsert(document.into()), forced: false }
}

pub fn namespace() -> Namespace {
    Namespace(vec!["copy".into()])
}

fn limits() -> Limits {
    Limits {
        lanes: 1,
        page_records_max: 4,
        batch_records_max: 2,
        apply_records_max: 16,
        gather_ms_max: 5,
        host_partitions: 1,
        retry_base_ms: 5,
        retry_cap_ms: 50,
        lease_ms: 500,
        ..Limits::default()
    }
}
