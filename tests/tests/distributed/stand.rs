//! What every test here stands on: a database, a Redis and lanes of its own, proxies before all parts, the services.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use fides_tests::{program, released};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::proxy::Proxy;
use crate::redis::Redis;
use crate::services::Process;

/// How long both sides may take to become equal once nothing breaks any more.
const PATIENCE: Duration = Duration::from_mins(5);

/// Rows of the table.
pub fn rows() -> i64 {
    match (released(), std::env::var_os("FIDES_TEST_LONG").is_some()) {
        (false, _) => 5_000,
        (true, false) => 100_000,
        (true, true) => 1_000_000,
    }
}

pub struct Stand {
    pub folder: tempfile::TempDir,
    /// The pipeline: its lanes are this test's own.
    pub pipeline: String,
    pub config: PathBuf,
    pub redis: Redis,
    pub before_host: Proxy,
    pub before_target: Proxy,
    pub before_redis: Proxy,
    pub before_broker: Proxy,
    server: String,
    database: String,
    /// Where the host is, if not in the target's database.
    elsewhere: Option<String>,
    options: String,
}

pub fn variable(name: &str, part: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run this through tests/parts/{part}"))
}

/// The address in a url, and the url with another address.
fn address_of(url: &str) -> SocketAddr {
    let authority = url.split_once('@').unwrap().1.split(['/', '?']).next().unwrap();
    authority.to_socket_addrs().unwrap().next().unwrap()
}

fn through(url: &str, proxy: &Proxy) -> String {
    let (user, rest) = url.split_once('@').unwrap();
    let (_, path) = rest.split_once('/').unwrap();
    format!("{user}@{}/{path}", proxy.address)
}

impl Stand {
    /// A stand whose host has no table yet, and is imported every other second. `options` are keys of the pipeline.
    pub async fn new(name: &str, options: &str) -> Self {
        Self::unscheduled(name, &format!("schedule: \"*/2 * * * * *\"\n    {options}")).await
    }

    /// The same without a schedule: an import runs once, and when one is owed.
    pub async fn unscheduled(name: &str, options: &str) -> Self {
        Self::make(name, options, None).await
    }

    /// The same with a host on another server, of the kind that its url begins with.
    pub async fn with_host(name: &str, options: &str, host: String) -> Self {
        Self::make(name, options, Some(host)).await
    }

    async fn make(name: &str, options: &str, elsewhere: Option<String>) -> Self {
        let server = variable("FIDES_TEST_POSTGRES_URL", "postgres");
        let unique = uuid::Uuid::now_v7().simple().to_string();
        let database = format!("fides_{name}_{unique}");
        let mut admin = PgConnection::connect(&server).await.unwrap();
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {database}"))).execute(&mut admin).await.unwrap();
        let redis = Redis::start().await;
        let broker = address_of(&variable("FIDES_TEST_AMQP_URL", "rabbitmq"));
        let folder = tempfile::tempdir().unwrap();
        let stand = Self {
            config: folder.path().join("fides.yaml"),
            folder,
            pipeline: format!("{name}-{}", &unique[20..]),
            before_host: Proxy::before(address_of(elsewhere.as_ref().unwrap_or(&server))).await,
            before_target: Proxy::before(address_of(&server)).await,
            before_redis: Proxy::before(redis.address).await,
            before_broker: Proxy::before(broker).await,
            redis,
            server,
            database,
            elsewhere,
            options: options.to_owned(),
        };
        stand.configure(&stand.config, stand.before_redis.address);
        stand
    }

    /// The database, reached directly.
    pub fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').unwrap();
        format!("{server}/{}", self.database)
    }

    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.unwrap()
    }

    /// The host's database, which is the target's if there is no other.
    pub fn host_url(&self) -> String {
        self.elsewhere.clone().unwrap_or_else(|| self.url())
    }

    pub async fn connect_host(&self) -> PgConnection {
        PgConnection::connect(&self.host_url()).await.unwrap()
    }

    /// The queue of commands of this stand alone.
    pub fn admin_queue(&self) -> String {
        format!("fides.admin.{}", self.pipeline)
    }

    /// The broker, reached directly.
    pub fn broker_url() -> String {
        variable("FIDES_TEST_AMQP_URL", "rabbitmq")
    }

    /// Writes a configuration that reaches Redis at `redis`.
    pub fn configure(&self, path: &std::path::Path, redis: SocketAddr) {
        let broker = through(&variable("FIDES_TEST_AMQP_URL", "rabbitmq"), &self.before_broker);
        let (host, target) = (through(&self.host_url(), &self.before_host), through(&self.url(), &self.before_target));
        let kind = host.split_once(':').unwrap().0;
        let text = format!(
            "backplane:\n  amqp: {{ url: \"{broker}\", admin_queue: \"{}\" }}\n  redis: {{ url: \"redis://{redis}/0\" }}\n\
             service: {{ listen: \"127.0.0.1:0\" }}\n\
             hosts:\n  host: {{ kind: {kind}, url: \"{host}\" }}\n\
             targets:\n  target: {{ kind: postgres, url: \"{target}\" }}\n\
             pipelines:\n  {}:\n    host: host\n    from: items\n    target: target\n    into: public.copy\n    \
             create: true\n    columns: '*'\n    {}\n",
            self.admin_queue(),
            self.pipeline,
            self.options
        );
        std::fs::write(path, text).unwrap();
    }

    /// The host table, filled by the server itself.
    pub async fn fill(&self, rows: i64) -> PgConnection {
        let mut host = self.connect_host().await;
        let table = "CREATE TABLE items (id bigint PRIMARY KEY, name text NOT NULL, price numeric(12,2), stock int, \
                     active boolean NOT NULL, attributes jsonb, changed timestamptz NOT NULL, ratio double precision)";
        sqlx::query(table).execute(&mut host).await.unwrap();
        let rows = format!(
            "INSERT INTO items SELECT i, 'Stück № ' || i || repeat('x', (i % 60)::int), (i % 100000) / 100.0, \
             (i % 1000)::int, i % 3 = 0, jsonb_build_object('größe', i % 50), \
             timestamptz '2024-01-01 00:00:00Z' + i * interval '1 second', i / 3.0 FROM generate_series(1, {rows}) i"
        );
        sqlx::query(AssertSqlSafe(rows)).execute(&mut host).await.unwrap();
        sqlx::query("ANALYZE items").execute(&mut host).await.unwrap();
        host
    }

    pub fn start(&self, name: &'static str, index: usize) -> Process {
        Process::start(name, &self.config, index)
    }

    /// Two importers, three publishing-consumers, one of each other service.
    pub fn start_all(&self) -> Vec<Process> {
        let importers = (0..2).map(|index| self.start("importer", index));
        let consumers = (0..3).map(|index| self.start("publishing-consumer", index));
        let others = ["cleanup-scheduler", "event-handler"].map(|name| self.start(name, 0));
        importers.chain(consumers).chain(others).collect()
    }

    /// Runs the operator's command; its exit status, what it printed, what it complained about.
    pub fn fides(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = Command::new(program("fides")).arg("--config").arg(&self.config).args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// Waits until so many records are marked, for as long as more of them are. Asks nothing of host and target.
    pub async fn has_marked(&self, records: u64) {
        self.progresses(|status| records.saturating_sub(status["records"].as_u64().unwrap())).await;
    }

    /// Waits until no message waits in the lanes, for as long as they become fewer. Asks nothing of host and target. What consumers
    /// have in hand is not seen from here.
    pub async fn lanes_run_empty(&self) {
        let depths = |status: &serde_json::Value| status["lanes"].as_array().unwrap().clone();
        self.progresses(|status| depths(status).iter().map(|lane| lane["depth"].as_u64().unwrap()).sum()).await;
    }

    /// Waits until nothing is left of what is in the pipeline's status, for as long as it becomes less.
    async fn progresses(&self, left: impl Fn(&serde_json::Value) -> u64) {
        dwindles("the pipeline's status", async || {
            let (code, stdout, stderr) = self.fides(&["status", "--json"]);
            assert_eq!(code, Some(0), "{stdout}{stderr}");
            let status: serde_json::Value = serde_json::from_str(&stdout).unwrap();
            left(&status[0])
        })
        .await;
    }

    /// Waits until `verify` says that both sides are equal, and then until nothing is dead: a letter goes away behind the
    /// write of its record.
    pub async fn becomes_equal(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (code, stdout, stderr) = self.fides(&["verify", &self.pipeline, "--json"]);
            if code == Some(0) {
                break;
            }
            assert!(Instant::now() < deadline, "never equal: {code:?} {stdout}{stderr}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        loop {
            let (_, dead, stderr) = self.fides(&["dead", "list", &self.pipeline, "--json"]);
            let letters: serde_json::Value =
                serde_json::from_str(&dead).unwrap_or_else(|error| panic!("{error}: {dead}{stderr}"));
            if letters.as_array().is_some_and(Vec::is_empty) {
                break;
            }
            assert!(Instant::now() < deadline, "equal, and still dead: {dead}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// How many documents the target holds.
    pub async fn copied(&self) -> i64 {
        let mut target = self.connect().await;
        sqlx::query_scalar("SELECT count(*) FROM copy").fetch_one(&mut target).await.unwrap_or(0)
    }

    /// Waits until the target holds at least so many documents.
    pub async fn has_copied(&self, documents: i64) {
        let deadline = Instant::now() + PATIENCE;
        while self.copied().await < documents {
            assert!(Instant::now() < deadline, "only {} documents arrived", self.copied().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn close(self) {
        let mut admin = PgConnection::connect(&self.server).await.unwrap();
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.database);
        sqlx::query(AssertSqlSafe(drop)).execute(&mut admin).await.unwrap();
    }
}

/// Waits until nothing is left, for as long as it becomes less.
pub async fn dwindles(what: &str, mut left: impl AsyncFnMut() -> u64) {
    let (mut least, mut since) = (u64::MAX, Instant::now());
    loop {
        let now = left().await;
        if now == 0 {
            return;
        }
        if now < least {
            (least, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "{now} are left: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits for a condition that must come true.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "it never came to be: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
