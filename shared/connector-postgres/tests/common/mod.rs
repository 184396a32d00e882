//! A database of the test's own on the server of `FIDES_TEST_POSTGRES_URL`, dropped at the end.

#![allow(dead_code, clippy::unwrap_used)] // each test file uses a part of it

pub mod cases;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use fides_core::port::{Host, Snapshot};
use fides_core::{Arity, Column, Include, Key, Namespace, Selection, Value};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The server's URL; a test without a server fails and says how to give it one.
pub fn server_url() -> String {
    std::env::var("FIDES_TEST_POSTGRES_URL").expect(
        "FIDES_TEST_POSTGRES_URL is not set: run the test as `tests/parts/postgres cargo test -p fides-connector-postgres`, \
         or set it to postgres://superuser:password@127.0.0.1:port/postgres of a throwaway cluster with wal_level=logical",
    )
}

/// A new, empty database.
pub struct Database {
    name: String,
    pub url: String,
}

impl Database {
    pub async fn create() -> Self {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
        let name = format!("fides_{}_{}_{nanos}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut admin = PgConnection::connect(&server_url()).await.expect("the server of FIDES_TEST_POSTGRES_URL");
        execute(&mut admin, &format!("CREATE DATABASE {name}")).await;
        let mut url = url::Url::parse(&server_url()).unwrap();
        url.set_path(&name);
        Self { name, url: url.into() }
    }

    /// A connection that the connector does not know.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
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

    pub async fn host(&self, connections: u32) -> std::sync::Arc<dyn Host> {
        fides_connector_postgres::host(&self.url, connections, true).await.unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (name, sql) = (self.name.clone(), format!("DROP DATABASE {} WITH (FORCE)", self.name));
        // A thread of its own: a test that panicked must not block its runtime.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut admin = PgConnection::connect(&server_url()).await.unwrap();
                // A database with a slot that is being read cannot be dropped; with others, they go with it.
                let stop = "SELECT count(pg_terminate_backend(active_pid, 10000)) FROM pg_replication_slots \
                    WHERE database = $1 AND active";
                sqlx::query(stop).bind(&name).execute(&mut admin).await.unwrap();
                execute(&mut admin, &sql).await;
            });
        });
        if dropped.join().is_err() {
            eprintln!("database {} was not dropped", self.name);
        }
    }
}

pub async fn execute(connection: &mut PgConnection, sql: &str) {
    let done = sqlx::Executor::execute(connection, sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

pub fn table(name: &str) -> Namespace {
    Namespace(vec!["public".to_owned(), name.to_owned()])
}

/// All columns of a table as the host describes them.
pub async fn selection(host: &dyn Host, name: &str, key: &[&str], page_records_max: usize) -> Selection {
    let described = host.describe(&table(name)).await.unwrap().unwrap();
    Selection {
        namespace: table(name),
        key: key.iter().map(ToString::to_string).collect(),
        columns: described.columns,
        includes: Vec::new(),
        seed: 1,
        page_records_max,
    }
}

pub async fn include(host: &dyn Host, name: &str, on: (&str, &str), arity: Arity) -> Include {
    let columns: Vec<Column> = host.describe(&table(name)).await.unwrap().unwrap().columns;
    let on = vec![(on.0.to_owned(), on.1.to_owned())];
    Include { name: name.to_owned(), namespace: table(name), on, arity, columns, order_by: vec![], includes: vec![] }
}

/// All rows of a snapshot.
pub async fn rows(snapshot: &dyn Snapshot) -> Vec<Vec<Value<'static>>> {
    let all = fides_testkit::conformance::scan_all(snapshot).await.unwrap();
    all.into_iter().map(|record| record.values).collect()
}

pub fn int(value: i64) -> Key {
    Key::encode(&[Value::I64(value)]).unwrap()
}
