//! The conformance suites over files of SQLite.

#![allow(clippy::unwrap_used)] // the functions around the tests are tests, too

use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::{Host, Target};
use fides_core::{Kind, Namespace, Value};
use fides_format::text::uuid_text;
use fides_testkit::conformance::Spec;
use fides_testkit::conformance::host::HostFixture;
use fides_testkit::conformance::target::TargetFixture;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteQueryResult};
use sqlx::{AssertSqlSafe, Sqlite};

/// A file, and a connection that the connector does not know.
struct File {
    side: SqlitePool,
    host: Arc<dyn Host>,
    target: Arc<dyn Target>,
    _folder: tempfile::TempDir,
}

async fn file() -> File {
    file_of(false).await
}

/// A file whose outbox orders states.
async fn followed() -> File {
    file_of(true).await
}

async fn file_of(follows: bool) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let side = SqlitePool::connect_with(options.journal_mode(SqliteJournalMode::Wal)).await.unwrap();
    if follows {
        fides_connector_sqlite::install_outbox(&path, &[]).await.unwrap();
    }
    let host = fides_connector_sqlite::host(&path, 4, follows).await.unwrap();
    let target = fides_connector_sqlite::target(&path, 4).await.unwrap();
    File { side, host, target, _folder: folder }
}

fn native(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "BOOLEAN",
        Kind::I64 => "INTEGER",
        Kind::U64 => "UNSIGNED TEXT",
        Kind::Decimal => "DECIMAL TEXT",
        Kind::F64 => "REAL",
        Kind::String => "TEXT",
        Kind::Bytes => "BLOB",
        Kind::Uuid => "UUID",
        Kind::Date => "DATE",
        Kind::Time => "TIME",
        Kind::Timestamp => "TIMESTAMP",
        Kind::TimestampTz => "TIMESTAMPTZ",
        Kind::Json => "JSON TEXT",
        Kind::Any => "",
    }
}

impl File {
    async fn execute(&self, sql: String, values: &[Value<'static>]) -> SqliteQueryResult {
        let mut query = sqlx::query::<Sqlite>(AssertSqlSafe(sql));
        for value in values {
            query = match value {
                Value::Null => query.bind(None::<i64>),
                Value::Bool(value) => query.bind(*value),
                Value::I64(value) => query.bind(*value),
                Value::F64(value) => query.bind(*value),
                Value::Bytes(bytes) => query.bind(bytes.to_vec()),
                Value::Uuid(bytes) => query.bind(uuid_text(bytes)),
                Value::String(text)
                | Value::Decimal(text)
                | Value::Date(text)
                | Value::Time(text)
                | Value::Timestamp(text)
                | Value::Json(text) => query.bind(text.to_string()),
                other => panic!("{other:?} has no form in SQLite"),
            };
        }
        query.execute(&self.side).await.unwrap()
    }

    async fn make(&self, spec: &Spec) {
        let columns = spec.columns.iter().map(|(name, kind, nullable)| {
            let unique = if spec.unique.contains(name) { " UNIQUE" } else { "" };
            format!("\"{name}\" {}{}{unique}", native(*kind), if *nullable { "" } else { " NOT NULL" })
        });
        let (columns, key) = (columns.collect::<Vec<_>>().join(", "), spec.key.join("\", \""));
        self.execute(format!("CREATE TABLE \"{}\" ({columns}, PRIMARY KEY (\"{key}\"))", spec.name), &[]).await;
    }
}

#[async_trait]
impl HostFixture for File {
    fn host(&self) -> Arc<dyn Host> {
        self.host.clone()
    }

    fn namespace(&self, table: &str) -> Namespace {
        Namespace(vec![table.to_owned()])
    }

    async fn create(&self, spec: &Spec) {
        self.make(spec).await;
    }

    async fn insert(&self, spec: &Spec, rows: &[Vec<Value<'static>>]) {
        for row in rows {
            let marks = vec!["?"; row.len()].join(", ");
            self.execute(format!("INSERT INTO \"{}\" VALUES ({marks})", spec.name), row).await;
        }
    }

    async fn delete(&self, spec: &Spec, key: &[Value<'static>]) {
        let condition = spec.key.iter().map(|name| format!("\"{name}\" = ?")).collect::<Vec<_>>().join(" AND ");
        let done = self.execute(format!("DELETE FROM \"{}\" WHERE {condition}", spec.name), key).await;
        assert_eq!(done.rows_affected(), 1);
    }
}

#[async_trait]
impl TargetFixture for File {
    fn target(&self) -> Arc<dyn Target> {
        self.target.clone()
    }

    fn namespace(&self, table: &str) -> Namespace {
        Namespace(vec!["main".to_owned(), table.to_owned()])
    }

    async fn create(&self, spec: &Spec) {
        self.make(spec).await;
    }

    fn unholdable(&self) -> (Kind, Value<'static>) {
        (Kind::F64, Value::F64(f64::NAN))
    }

    fn cannot(&self, case: &str) -> Option<&'static str> {
        match case {
            "an_oversized_record_fails_alone" => Some("SQLite holds a gigabyte in a field, and Fides no such record"),
            "a_store_that_is_gone_is_unavailable"
            | "a_wrong_credential_is_unavailable"
            | "a_throttled_store_says_how_long"
            | "a_write_without_an_answer_is_unknown" => Some(
                "a file has no server (tests/target.rs: one that is locked, \
                      missing or damaged)",
            ),
            _ => None,
        }
    }
}

fides_testkit::host_conformance!(file().await);
fides_testkit::target_conformance!(file().await);

mod outbox {
    use super::*;

    fides_testkit::host_conformance!(followed().await);
}
