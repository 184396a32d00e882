//! What every test here stands on: a database of its own, a folder of its own, the program.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fides_tests::{program, released};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

/// Rows of a table of scale.
pub fn rows() -> i64 {
    if released() { 1_000_000 } else { 20_000 }
}

/// Seven types, some NULLs, some text that is not ASCII.
const COLUMNS: &str = "id bigint PRIMARY KEY, name text NOT NULL, price numeric(12,2), stock int, \
     active boolean NOT NULL, attributes jsonb, changed timestamptz NOT NULL, ratio double precision";

pub struct Stand {
    pub folder: tempfile::TempDir,
    server: String,
    database: String,
}

impl Stand {
    pub async fn new(name: &str) -> Self {
        let server = std::env::var("FIDES_TEST_POSTGRES_URL")
            .expect("FIDES_TEST_POSTGRES_URL names a PostgreSQL server: run this through tests/parts/postgres");
        let database = format!("fides_{name}_{}", uuid::Uuid::now_v7().simple());
        let mut admin = PgConnection::connect(&server).await.unwrap();
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {database}"))).execute(&mut admin).await.unwrap();
        Self { folder: tempfile::tempdir().unwrap(), server, database }
    }

    pub fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').unwrap();
        format!("{server}/{}", self.database)
    }

    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.unwrap()
    }

    /// The host table, filled by the server itself.
    pub async fn fill(&self, rows: i64) -> PgConnection {
        let mut host = self.connect().await;
        sqlx::query(AssertSqlSafe(format!("CREATE TABLE items ({COLUMNS})"))).execute(&mut host).await.unwrap();
        sqlx::query(
            "INSERT INTO items SELECT i, 'Stück № ' || i || repeat('x', (i % 60)::int), \
             CASE WHEN i % 17 = 0 THEN NULL ELSE (i % 100000) / 100.0 END, (i % 1000)::int, i % 3 = 0, \
             jsonb_build_object('größe', i % 50, 'tags', jsonb_build_array('a', i % 7)), \
             timestamptz '2024-01-01 00:00:00Z' + i * interval '1 second', \
             CASE WHEN i % 1001 = 0 THEN 'NaN'::float8 ELSE i / 3.0 END FROM generate_series(1, $1) i",
        )
        .bind(rows)
        .execute(&mut host)
        .await
        .unwrap();
        sqlx::query("ANALYZE items").execute(&mut host).await.unwrap();
        host
    }

    /// Writes `fides.yaml` with one pipeline `items` between two stores and returns its path.
    pub fn configure(&self, host: &str, from: &str, limits: &str) -> PathBuf {
        self.configure_to(host, from, &self.url(), limits)
    }

    /// The same, with the target reached by this URL.
    pub fn configure_to(&self, host: &str, from: &str, target: &str, limits: &str) -> PathBuf {
        let path = self.folder.path().join("fides.yaml");
        let text = format!(
            "backplane:\n  embedded: {{ path: ./state.fides }}\nhosts:\n  host: {host}\ntargets:\n  target: {{ kind: postgres, \
             url: \"{target}\" }}\nlimits: {limits}\npipelines:\n  items:\n    host: host\n    from: {from}\n    key: [id]\n    \
             target: target\n    into: public.copy\n    create: true\n    columns: '*'\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    pub async fn close(self) {
        let mut admin = PgConnection::connect(&self.server).await.unwrap();
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.database);
        sqlx::query(AssertSqlSafe(drop)).execute(&mut admin).await.unwrap();
    }
}

/// What a finished run of the program said.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub peak_kib: u64,
}

impl Ran {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }
}

/// Runs the program to its end, under `/usr/bin/time -v` for its peak memory.
pub fn run(config: &Path, arguments: &[&str]) -> Ran {
    let output = Command::new("/usr/bin/time")
        .args(["-f", "peak_kib=%M"])
        .arg(program("fides"))
        .arg("--config")
        .arg(config)
        .args(arguments)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let peak = stderr.lines().rev().find_map(|line| line.strip_prefix("peak_kib=")).and_then(|kib| kib.parse().ok());
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        peak_kib: peak.unwrap_or_else(|| panic!("no peak memory: {stderr}")),
        stderr,
    }
}

/// Starts a sync that will be killed.
pub fn start(config: &Path) -> Child {
    Command::new(program("fides"))
        .arg("--config")
        .arg(config)
        .args(["sync", "--once"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Runs a sync that must succeed; its summary of the one pipeline.
pub fn sync(config: &Path) -> (serde_json::Value, Ran) {
    let ran = run(config, &["sync", "--once", "--json"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let json = ran.json();
    (json[0].clone(), ran)
}

/// Proves that both sides are equal.
pub fn verify(config: &Path, rows: i64) -> Ran {
    let ran = run(config, &["verify", "items", "--json"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.json()["equal"], rows, "{}", ran.stdout);
    ran
}

pub async fn count(connection: &mut PgConnection, sql: &str) -> i64 {
    sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_one(connection).await.unwrap().get(0)
}
