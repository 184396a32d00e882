//! A database of the test's own on the server of `FIDES_TEST_MARIADB_URL`, dropped at the end.

#![allow(dead_code, clippy::unwrap_used)] // each test file uses a part of it

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use fides_core::port::{Host, Snapshot};
use fides_core::{Arity, Include, Key, Namespace, Selection, Value};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The server's URL; a test without a server fails and says how to give it one.
pub fn server_url() -> String {
    std::env::var("FIDES_TEST_MARIADB_URL").expect(
        "FIDES_TEST_MARIADB_URL is not set: run the test as `tests/parts/mariadb cargo test -p fides-connector-mysql`, \
         or set it to mysql://superuser:password@127.0.0.1:port of a throwaway server with a binary log of rows",
    )
}

/// A new, empty database.
pub struct Database {
    pub name: String,
    pub url: String,
}

impl Database {
    pub async fn create() -> Self {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
        let name = format!("fides_{}_{}_{nanos}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut admin = MySqlConnection::connect(&server_url()).await.expect("the server of FIDES_TEST_MARIADB_URL");
        execute(&mut admin, &format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")).await;
        let mut url = url::Url::parse(&server_url()).unwrap();
        url.set_path(&name);
        Self { name, url: url.into() }
    }

    /// A connection that the connector does not know.
    pub async fn connect(&self) -> MySqlConnection {
        MySqlConnection::connect(&self.url).await.unwrap()
    }

    pub async fn execute(&self, sql: &str) {
        execute(&mut self.connect().await, sql).await;
    }

    /// The same database as another user.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        let mut url = url::Url::parse(&self.url).unwrap();
        url.set_username(user).unwrap();
        url.set_password(Some(password)).unwrap();
        url.into()
    }

    pub fn table(&self, name: &str) -> Namespace {
        Namespace(vec![self.name.clone(), name.to_owned()])
    }

    pub async fn host(&self, connections: u32) -> std::sync::Arc<dyn Host> {
        fides_connector_mysql::host(&self.url, connections, false).await.unwrap()
    }

    /// As [`Self::host`], whose snapshots have a place in the log.
    pub async fn following(&self) -> std::sync::Arc<dyn Host> {
        fides_connector_mysql::host(&self.url, 2, true).await.unwrap()
    }

    /// All columns of a table as the host describes them.
    pub async fn selection(&self, host: &dyn Host, name: &str, key: &[&str], page_records_max: usize) -> Selection {
        let described = host.describe(&self.table(name)).await.unwrap().unwrap();
        Selection {
            namespace: self.table(name),
            key: key.iter().map(ToString::to_string).collect(),
            columns: described.columns,
            includes: Vec::new(),
            seed: 1,
            page_records_max,
        }
    }
}

/// A table that is nested: its column of `on` equals the parent's.
pub async fn include(database: &Database, host: &dyn Host, name: &str, on: (&str, &str), arity: Arity) -> Include {
    let columns = host.describe(&database.table(name)).await.unwrap().unwrap().columns;
    Include {
        name: name.to_owned(),
        namespace: database.table(name),
        on: vec![(on.0.to_owned(), on.1.to_owned())],
        arity,
        columns,
        order_by: vec![],
        includes: vec![],
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE {}", self.name);
        let name = self.name.clone();
        // A thread of its own: a test that panicked must not block its runtime.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut admin = MySqlConnection::connect(&server_url()).await.unwrap();
                // Transactions that the test left open hold locks on the tables.
                let left = "SELECT id FROM information_schema.processlist WHERE db = ?";
                let left: Vec<i64> = sqlx::query_scalar(left).bind(&name).fetch_all(&mut admin).await.unwrap();
                for id in left {
                    let kill = sqlx::raw_sql(AssertSqlSafe(format!("KILL {id}")));
                    // It may have ended by itself meanwhile.
                    sqlx::Executor::execute(&mut admin, kill).await.map(drop).unwrap_or_default();
                }
                execute(&mut admin, &sql).await;
            });
        });
        if dropped.join().is_err() {
            eprintln!("database {} was not dropped", self.name);
        }
    }
}

pub async fn execute(connection: &mut MySqlConnection, sql: &str) {
    let done = sqlx::Executor::execute(connection, sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// All rows of a snapshot.
pub async fn rows(snapshot: &dyn Snapshot) -> Vec<Vec<Value<'static>>> {
    let all = fides_testkit::conformance::scan_all(snapshot).await.unwrap();
    all.into_iter().map(|record| record.values).collect()
}

pub fn int(value: i64) -> Key {
    Key::encode(&[Value::I64(value)]).unwrap()
}
