//! The conformance suites over MariaDB.

#![allow(clippy::unwrap_used)] // the functions around the tests are tests, too

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use common::Database;
use fides_core::port::{Host, Target};
use fides_core::{Kind, Namespace, Value};
use fides_format::text::{f64_text, uuid_text};
use fides_testkit::conformance::Spec;
use fides_testkit::conformance::host::HostFixture;
use fides_testkit::conformance::target::TargetFixture;
use sqlx::mysql::MySql;
use sqlx::{AssertSqlSafe, query::Query};

struct Fixture {
    host: Arc<dyn Host>,
    target: Arc<dyn Target>,
    database: Database,
}

async fn fixture() -> Fixture {
    let database = Database::create().await;
    let host = database.host(4).await;
    // On a slow machine the search for what is refused takes long, and ends with the timeout: it would change outcomes.
    let target = fides_connector_mysql::target(&database.url, 2, 120_000).await.unwrap();
    Fixture { host, target, database }
}

fn native(kind: Kind, is_key: bool) -> &'static str {
    match kind {
        Kind::Bool => "boolean",
        Kind::I64 => "bigint",
        Kind::U64 => "bigint unsigned",
        Kind::Decimal => "decimal(65,30)",
        Kind::F64 => "double",
        Kind::String if is_key => "varchar(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
        Kind::String => "longtext",
        Kind::Bytes if is_key => "varbinary(200)",
        Kind::Bytes => "longblob",
        Kind::Uuid => "uuid",
        Kind::Date => "date",
        Kind::Time => "time(6)",
        Kind::Timestamp => "datetime(6)",
        Kind::TimestampTz => "timestamp(6)",
        Kind::Json => "json",
        Kind::Any => "inet6",
    }
}

type Arguments<'q> = Query<'q, MySql, sqlx::mysql::MySqlArguments>;

fn bound<'q>(query: Arguments<'q>, value: &Value<'static>) -> Arguments<'q> {
    let text = match value {
        Value::Null => return query.bind(None::<String>),
        Value::Bytes(bytes) => return query.bind(bytes.to_vec()),
        Value::Bool(value) => u8::from(*value).to_string(),
        Value::I64(value) => value.to_string(),
        Value::F64(value) => f64_text(*value).into_owned(),
        Value::Uuid(uuid) => uuid_text(uuid),
        Value::Timestamp(text) => text.trim_end_matches('Z').to_owned(),
        Value::String(text) | Value::Decimal(text) | Value::Date(text) | Value::Time(text) | Value::Json(text) => {
            text.to_string()
        }
        other => panic!("{other:?} has no column in the suites"),
    };
    query.bind(text)
}

impl Fixture {
    async fn make(&self, spec: &Spec) {
        let columns = spec.columns.iter().map(|(name, kind, nullable)| {
            let unique = if spec.unique.contains(name) { " UNIQUE" } else { "" };
            let null = if *nullable { "NULL DEFAULT NULL" } else { "NOT NULL" };
            format!("`{name}` {} {null}{unique}", native(*kind, spec.key.contains(name)))
        });
        let (columns, key) = (columns.collect::<Vec<_>>().join(", "), spec.key.join("`, `"));
        self.database.execute(&format!("CREATE TABLE `{}` ({columns}, PRIMARY KEY (`{key}`))", spec.name)).await;
    }
}

#[async_trait]
impl HostFixture for Fixture {
    fn host(&self) -> Arc<dyn Host> {
        self.host.clone()
    }

    fn namespace(&self, table: &str) -> Namespace {
        self.database.table(table)
    }

    async fn create(&self, spec: &Spec) {
        self.make(spec).await;
    }

    async fn insert(&self, spec: &Spec, rows: &[Vec<Value<'static>>]) {
        let sql = format!("INSERT INTO `{}` VALUES ({})", spec.name, vec!["?"; spec.columns.len()].join(", "));
        let mut connection = self.database.connect().await;
        common::execute(&mut connection, "BEGIN").await;
        for row in rows {
            let query = row.iter().fold(sqlx::query(AssertSqlSafe(sql.clone())), bound);
            query.execute(&mut connection).await.unwrap();
        }
        common::execute(&mut connection, "COMMIT").await;
    }

    async fn delete(&self, spec: &Spec, key: &[Value<'static>]) {
        let conditions: Vec<_> = spec.key.iter().map(|name| format!("`{name}` = ?")).collect();
        let sql = format!("DELETE FROM `{}` WHERE {}", spec.name, conditions.join(" AND "));
        let query = key.iter().fold(sqlx::query(AssertSqlSafe(sql)), bound);
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
        self.database.table(table)
    }

    async fn create(&self, spec: &Spec) {
        self.make(spec).await;
    }

    fn unholdable(&self) -> (Kind, Value<'static>) {
        (Kind::Timestamp, Value::Timestamp("12024-01-01T00:00:00".into()))
    }

    async fn gone(&self) -> Arc<dyn Target> {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        fides_connector_mysql::target(&format!("mysql://me:s3cret@{nobody}/x"), 1, 20_000).await.unwrap()
    }

    async fn unauthorised(&self) -> (Arc<dyn Target>, &'static str) {
        let url = self.database.url_as("nobody", "s3cret");
        (fides_connector_mysql::target(&url, 1, 20_000).await.unwrap(), "s3cret")
    }

    /// More than the server's `max_allowed_packet`.
    fn oversized(&self) -> usize {
        20 << 20
    }

    fn cannot(&self, case: &str) -> Option<&'static str> {
        match case {
            "a_throttled_store_says_how_long" => Some("a server of one's own throttles nobody"),
            "a_write_without_an_answer_is_unknown" => {
                Some("takes a proxy that knows the protocol, and was not tried with MariaDB")
            }
            _ => None,
        }
    }
}

fides_testkit::host_conformance!(fixture().await);
fides_testkit::target_conformance!(fixture().await);
