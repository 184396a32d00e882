//! A small host of its own for each test, in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection};

pub const CONFIG: &str = "
backplane:
  embedded: { path: ./state.fides }
hosts:
  shop: { kind: sqlite, path: ./host.sqlite }
targets:
  copy: { kind: sqlite, path: ./target.sqlite }
pipelines:
  items:
    host: shop
    from: item
    key: [id]
    target: copy
    into: items
    create: true
    mapping:
      id: id
      name: name
      price: { from: price, cast: decimal }
";

pub struct Shop {
    folder: tempfile::TempDir,
}

/// What a command did.
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Shop {
    /// Three items, and a configuration that copies them.
    pub fn new() -> Self {
        let shop = Self::empty();
        shop.configure(CONFIG);
        shop.on_host(
            "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price TEXT);
             INSERT INTO item VALUES (1, 'apple', '0.50'), (2, 'bread', '3.20'), (3, 'cheese', '12.00')",
        );
        shop
    }

    /// A folder, and nothing in it.
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn configure(&self, yaml: &str) {
        std::fs::write(self.path("fides.yaml"), yaml).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        command(self.folder.path(), args)
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        ran(self.command(args).output().unwrap())
    }

    /// Runs a command that has to succeed, and reads its JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let ran = self.run(args);
        assert_eq!(ran.status, 0, "{args:?}: {}", ran.stderr);
        ran.json()
    }

    pub fn on_host(&self, sql: &str) {
        execute(&self.path("host.sqlite"), sql);
    }

    /// One number that the host tells.
    pub fn number_on_host(&self, sql: &str) -> i64 {
        let (file, sql) = (self.path("host.sqlite"), sql.to_owned());
        block_on(async move {
            let mut connection = open(&file).await;
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap()
        })
    }

    pub fn on_target(&self, sql: &str) {
        execute(&self.path("target.sqlite"), sql);
    }

    /// Keeps everybody else from writing the target, until it is dropped.
    pub fn lock_target(&self) -> Locked {
        let file = self.path("target.sqlite");
        let connection = block_on(async move {
            let mut connection = open(&file).await;
            sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
            connection
        });
        Locked(Some(connection))
    }

    /// Names of the target's documents, in key order.
    pub fn target_names(&self) -> Vec<String> {
        let file = self.path("target.sqlite");
        block_on(async move {
            let mut connection = open(&file).await;
            sqlx::query_scalar("SELECT name FROM items ORDER BY id").fetch_all(&mut connection).await.unwrap()
        })
    }
}

/// A target that nobody else can write.
pub struct Locked(Option<SqliteConnection>);

impl Drop for Locked {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            block_on(connection.close()).unwrap();
        }
    }
}

impl Ran {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// The command in a folder, without anything of this process' environment that it would heed.
pub fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fides"));
    command.current_dir(folder).args(args);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FIDES_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}

pub fn ran(output: Output) -> Ran {
    Ran {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn execute(file: &Path, sql: &str) {
    let sql = sql.to_owned();
    block_on(async move {
        let mut connection = open(file).await;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

async fn open(file: &Path) -> SqliteConnection {
    SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(file).create_if_missing(true)).await.unwrap()
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
