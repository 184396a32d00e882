//! The conformance suites over PostgreSQL.

#![allow(clippy::unwrap_used)] // the functions around the tests are tests, too

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use common::Database;
use fides_core::port::{Host, Target};
use fides_core::{Kind, Namespace, Value};
use fides_format::text::{bytes_text, f64_text, uuid_text};
use fides_testkit::conformance::Spec;
use fides_testkit::conformance::host::HostFixture;
use fides_testkit::conformance::target::TargetFixture;
use sqlx::AssertSqlSafe;

struct Fixture {
    host: Arc<dyn Host>,
    target: Arc<dyn Target>,
    database: Database,
}

async fn fixture() -> Fixture {
    let database = Database::create().await;
    let host = database.host(4).await;
    // On a slow machine the search for what is refused takes long, and ends with the timeout: it would change outcomes.
    let target = fides_connector_postgres::target(&database.url, 2, 120_000).await.unwrap();
    Fixture { host, target, database }
}

fn native(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "boolean",
        Kind::I64 => "bigint",
        Kind::U64 => "numeric(20,0)",
        Kind::Decimal => "numeric",
        Kind::F64 => "double precision",
        Kind::String => "text",
        Kind::Bytes => "bytea",
        Kind::Uuid => "uuid",
        Kind::Date => "date",
        Kind::Time => "time",
        Kind::Timestamp => "timestamp",
        Kind::TimestampTz => "timestamptz",
        Kind::Json => "json",
        Kind::Any => "interval",
    }
}

fn text(value: &Value<'static>) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::F64(value) => f64_text(*value).into_owned(),
        Value::Bytes(bytes) => bytes_text(bytes),
        Value::Uuid(uuid) => uuid_text(uuid),
        Value::String(text)
        | Value::Decimal(text)
        | Value::Date(text)
        | Value::Time(text)
        | Value::Timestamp(text)
        | Value::Json(text) => text.to_string(),
        other => panic!("{other:?} has no column in the suites"),
    })
}

impl Fixture {
    async fn make(&self, spec: &Spec) {
        let columns = spec.columns.iter().map(|(name, kind, nullable)| {
            let unique = if spec.unique.contains(name) { " UNIQUE" } else { "" };
            format!("\"{name}\" {}{}{unique}", native(*kind), if *nullable { "" } else { " NOT NULL" })
        });
        let (columns, key) = (columns.collect::<Vec<_>>().join(", "), spec.key.join("\", \""));
        self.database.execute(&format!("CREATE TABLE \"{}\" ({columns}, PRIMARY KEY (\"{key}\"))", spec.name)).await;
    }

    fn parameter(spec: &Spec, name: &str, number: usize) -> String {
        let kind = spec.columns.iter().find(|column| column.0 == name).unwrap().1;
        format!("${number}::text::{}", native(kind))
    }
}

#[async_trait]
impl HostFixture for Fixture {
    fn host(&self) -> Arc<dyn Host> {
        self.host.clone()
    }

    fn namespace(&self, table: &str) -> Namespace {
        common::table(table)
    }

    async fn create(&self, spec: &Spec) {
        self.make(spec).await;
    }

    async fn insert(&self, spec: &Spec, rows: &[Vec<Value<'static>>]) {
        let parameters = spec.columns.iter().zip(1..).map(|(column, number)| Self::parameter(spec, column.0, number));
        let sql = format!("INSERT INTO \"{}\" VALUES ({})", spec.name, parameters.collect::<Vec<_>>().join(", "));
        let mut connection = self.database.connect().await;
        common::execute(&mut connection, "BEGIN").await;
        for row in rows {
            let query =
                row.iter().fold(sqlx::query(AssertSqlSafe(sql.clone())), |query, value| query.bind(text(value)));
            query.execute(&mut connection).await.unwrap();
        }
        common::execute(&mut connection, "COMMIT").await;
    }

    async fn delete(&self, spec: &Spec, key: &[Value<'static>]) {
        let condition = |(name, number)| format!("\"{name}\" = {}", Self::parameter(spec, name, number));
        let conditions: Vec<_> = spec.key.iter().copied().zip(1..).map(condition).collect();
        let sql = format!("DELETE FROM \"{}\" WHERE {}", spec.name, conditions.join(" AND "));
        let query = key.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, value| query.bind(text(value)));
        let done = query.execute(&mut self.database.connect().await).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    }
}

#[async_trait]
impl TargetFixture for Fixture {
    fn target(&self) -> Arc<dyn Target> {
        self.target.clone()
    }

    fn namespace(&self, table: &str) -> Namespace {
        common::table(table)
    }

    async fn create(&self, spec: &Spec) {
        self.make(spec).await;
    }

    fn unholdable(&self) -> (Kind, Value<'static>) {
        (Kind::String, Value::String("a\0b".into()))
    }

    async fn gone(&self) -> Arc<dyn Target> {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        fides_connector_postgres::target(&format!("postgres://me:s3cret@{nobody}/x"), 1, 20_000).await.unwrap()
    }

    async fn unauthorised(&self) -> (Arc<dyn Target>, &'static str) {
        let url = self.database.url_as("fides_nobody", "s3cret");
        (fides_connector_postgres::target(&url, 1, 20_000).await.unwrap(), "s3cret")
    }

    fn cannot(&self, case: &str) -> Option<&'static str> {
        match case {
            "an_oversized_record_fails_alone" => {
                Some("PostgreSQL holds a gigabyte in a field, and Fides no such record")
            }
            "a_throttled_store_says_how_long" => Some("a server of one's own throttles nobody"),
            "a_write_without_an_answer_is_unknown" => {
                Some("takes a proxy that knows the protocol (a_commit_without_an_answer_is_unknown instead)")
            }
            _ => None,
        }
    }
}

fides_testkit::host_conformance!(fixture().await);
fides_testkit::target_conformance!(fixture().await);

/// The way that many rows take.
mod by_copy {
    use super::{Fixture, fixture};

    async fn copying() -> Fixture {
        let fixture = fixture().await;
        let target = fides_connector_postgres::target_by_copy(&fixture.database.url, 2, 20_000).await.unwrap();
        Fixture { target, ..fixture }
    }

    fides_testkit::target_conformance!(copying().await);
}
