//! A process of all roles over fakes. Its measurements and its lines are kept.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fides_core::port::{AdminQueue, Fencing, Mapper, Sink};
use fides_core::{Limits, Namespace, PipelineId, Selection};
use fides_engine::publishing::Worker;
use fides_engine::{DeletePolicy, ForeignPolicy, Pipeline, Progress, raise_fence, wait_for_fence};
use fides_guard::{guard_backplane, guard_host, guard_target};
use fides_testkit::fake::{Disk, FakeHost, FakeMapper, FakeTarget, Faults, Faulty, Order};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::Dispatch;
use tracing::subscriber::{DefaultGuard, NoSubscriber};

use super::Told;
use crate::app::App;
use crate::config::{self, Config, Environment};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::metrics::tests::{Described, exported};
use crate::readiness::Readiness;
use crate::schedule::Task;
use crate::serve::{Role, serve};
use crate::sync::worker;
use crate::telemetry::tests::{Written, gathered};

/// Rows of the host at first.
pub const ROWS: i64 = 60;
/// The row that the target refuses for good.
pub const POISON: i64 = 7;
/// Longer than anything can take on the paused clock.
const PATIENCE: Duration = Duration::from_hours(4);
/// How often something that must happen is looked for.
const LOOK: Duration = Duration::from_millis(500);
const LOOKS_MAX: u128 = PATIENCE.as_millis() / LOOK.as_millis();

/// The names of the stores, for `/readyz`, and a backplane where nobody is.
const CONFIGURED: &str = "\
backplane:
  amqp: { url: 'amqp://127.0.0.1:1/fides' }
  redis: { url: 'redis://127.0.0.1:1/0' }
hosts:
  shop: { kind: sqlite, path: shop.sqlite }
targets:
  search: { kind: sqlite, path: search.sqlite }
pipelines:
  orders: { host: shop, from: items, target: search, into: copy, columns: '*' }
";

/// What a user would have written.
pub fn configured() -> Config {
    config::parse(CONFIGURED, Path::new("fides.yaml"), &Environment::default()).unwrap()
}

/// Where the pipeline writes.
pub fn copy() -> Namespace {
    Namespace(vec!["copy".into()])
}

/// A process at work on one pipeline, `orders` from `host shop` to `target search`.
pub struct Stand {
    pub host: FakeHost,
    pub target: FakeTarget,
    pub disk: Disk,
    /// Before every port.
    pub faults: Faults,
    pub pipeline: Pipeline,
    pub metrics: Metrics,
    progress: Arc<OnceLock<Arc<Progress>>>,
    admin: Arc<dyn AdminQueue>,
    asked: u32,
    lines: Written,
    /// What was ever told, and with which labels.
    described: BTreeMap<String, Described>,
    /// Names of metrics that have told more than nothing.
    told: BTreeSet<String>,
    _telling: DefaultGuard,
    /// While there is one dispatcher alone, whoever comes first to a call site decides whether anybody wants it: a test on another
    /// thread, which listens to nothing, would silence it for this one.
    _beside: Dispatch,
}

impl Stand {
    /// Starts it. Its lines are those of this thread, as long as it lives.
    pub async fn start() -> Self {
        let lines = Written::default();
        let beside = Dispatch::new(NoSubscriber::default());
        let telling = tracing::subscriber::set_default(gathered(lines.clone()));
        let metrics = Metrics::new("fides-test").unwrap();
        let (host, target) = (FakeHost::new(Order::Host), FakeTarget::with_fencing(Fencing::Conditional));
        let (disk, faults) = (Disk::new(60), Faults::none());
        host.commit(&(0..ROWS).map(|id| (id, Some(1))).collect::<Vec<_>>());
        faults.poison([FakeHost::key(POISON)]);
        let (pipeline, admin) = wired(&host, &target, &disk, &faults, &metrics);
        pipeline.target.prepare(&pipeline.sink, pipeline.shape(), true).await.unwrap();

        let progress = Arc::<OnceLock<Arc<Progress>>>::default();
        // For as long as its tasks live, which is as long as the test.
        let app: &'static App = Box::leak(Box::new(app(&pipeline, admin.clone(), &metrics)));
        let (shown, counted) = (metrics.clone(), progress.clone());
        tokio::spawn(async move {
            let watch = |watched: crate::Watched| {
                shown.pipeline(&watched.pipeline, watched.progress.clone());
                counted.set(watched.progress).unwrap();
            };
            serve(app, &Role::ALL, watch, CancellationToken::new()).await
        });
        let stock = metrics.clone();
        tokio::spawn(async move { stock.keep_stock(&app.pipelines).await });
        let parts = Readiness::new(app, &configured(), &Role::ALL, &Health::new());
        tokio::spawn(parts.watch());
        Self {
            host,
            target,
            disk,
            faults,
            pipeline,
            metrics,
            progress,
            admin,
            asked: 0,
            lines,
            described: BTreeMap::new(),
            told: BTreeSet::new(),
            _telling: telling,
            _beside: beside,
        }
    }

    /// Waits until a metric tells more than nothing, in a series with these labels.
    pub async fn tells(&mut self, name: &str, labels: &[&str]) {
        self.tells_more(name, labels, 0.0).await;
    }

    /// Waits until a metric tells more than `least`.
    pub async fn tells_more(&mut self, name: &str, labels: &[&str], least: f64) {
        let what = format!("{name}{labels:?} above {least}");
        let counted = format!("{name}_count");
        for _ in 0..LOOKS_MAX {
            let text = self.metrics.text().unwrap();
            for (name, described) in exported(&text) {
                self.described.entry(name).or_default().labels.extend(described.labels);
            }
            let of = |line: &&str| {
                let series = line.split(['{', ' ']).next();
                series == Some(name) || series == Some(counted.as_str())
            };
            let values = text.lines().filter(of).filter(|line| labels.iter().all(|label| line.contains(label)));
            if values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).any(|value| value > least) {
                self.told.insert(name.to_owned());
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("nothing told {what}:\n{}", self.metrics.text().unwrap());
    }

    /// Waits for one more line that says so.
    pub async fn says(&self, message: &str, before: usize) {
        for _ in 0..LOOKS_MAX {
            if self.said(message) > before {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("nobody said {message:?} more than {before} times");
    }

    /// How many lines said so.
    pub fn said(&self, message: &str) -> usize {
        self.lines.count(message)
    }

    /// Sends a command and waits for its answer.
    pub async fn ask(&mut self, command: &str) -> Value {
        self.asked += 1;
        let body = json!({"id": format!("c-{}", self.asked), "requester": "test", "command": command});
        let answer = self.admin.ask(body.to_string().as_bytes(), 600_000).await.unwrap();
        serde_json::from_slice(&answer.expect("the process answers commands")).unwrap()
    }

    /// Imports what differs, and waits until all of it has come to its end.
    pub async fn imports(&mut self) {
        let before = self.said("import finished");
        self.ask("reimport").await;
        self.says("import finished", before).await;
        self.settles().await;
    }

    /// Waits until everything that is queued now has come to its end.
    pub async fn settles(&self) {
        let fence = raise_fence(&self.pipeline).await.unwrap();
        tokio::time::timeout(PATIENCE, wait_for_fence(&self.pipeline, fence)).await.expect("lanes end").unwrap();
    }

    /// One who works beside the process and is counted with it.
    pub fn worker(&self) -> Worker {
        worker(self.progress.get().expect("it is shown since the start").clone())
    }

    /// Everything that was told so far.
    pub(super) fn told(self) -> Told {
        let labels = self.described.into_iter().map(|(name, described)| (name, described.labels));
        Told { metrics: self.told, labels: labels.collect(), lines: self.lines.parsed() }
    }
}

/// The pipeline, guarded as the runtime guards it.
fn wired(
    host: &FakeHost,
    target: &FakeTarget,
    disk: &Disk,
    faults: &Faults,
    metrics: &Metrics,
) -> (Pipeline, Arc<dyn AdminQueue>) {
    let (limits, mapper) = (limits(), FakeMapper::new(1));
    let id = PipelineId::new("orders");
    let meters = || metrics.meter();
    let around = faults.around(&disk.open());
    let (backplane, admin) =
        guard_backplane(around, disk.admin(), "backplane amqp", "backplane redis", &limits, &meters);
    let pipeline = Pipeline {
        host: guard_host("host shop", Arc::new(Faulty::new(Arc::new(host.clone()), faults)), &limits, meters()),
        target: guard_target(
            "target search",
            Arc::new(Faulty::new(Arc::new(target.clone()), faults)),
            &limits,
            meters(),
        ),
        selection: Selection { columns: mapper.reads(), ..FakeHost::selection(mapper.revision(), 8) },
        sink: Sink { pipeline: id.clone(), namespace: copy(), version_field: None },
        target_selection: mapper.documents(copy(), 8),
        mapper: Arc::new(mapper),
        limits,
        delete: DeletePolicy::Hard,
        foreign: ForeignPolicy::Keep,
        backplane,
        id,
    };
    (pipeline, admin)
}

/// A log that is followed; commands that are answered; a clean-up that was due last New Year, and is made up for once.
fn app(pipeline: &Pipeline, admin: Arc<dyn AdminQueue>, metrics: &Metrics) -> App {
    let yearly = config::Schedule { cron: "0 0 0 1 1 *".into(), timezone: chrono_tz::UTC };
    App {
        pipelines: vec![pipeline.clone()],
        admin: Some(admin),
        metrics: Some(metrics.clone()),
        schedules: HashMap::from([((pipeline.id.clone(), Task::CleanUp), yearly)]),
        followed: HashSet::from([pipeline.id.clone()]),
        hinted: HashMap::new(),
        receptions: HashMap::new(),
        intake: configured().intake,
        create: HashMap::new(),
    }
}

fn limits() -> Limits {
    Limits {
        lanes: 2,
        page_records_max: 8,
        batch_records_max: 4,
        apply_records_max: 16,
        gather_ms_max: 5,
        host_partitions: 1,
        retry_attempts_max: 3,
        retry_base_ms: 5,
        retry_cap_ms: 400,
        lease_ms: 4_000,
        delete_count_min: 5,
        slot_lag_bytes_max: 1 << 19,
        ..Limits::default()
    }
}
