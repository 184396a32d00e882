//! What PostgreSQL says before anything is written: rights, defaults, types.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::Database;
use fides_core::port::{Obstacle, Sink, Target};
use fides_core::{Field, Kind, Namespace, PipelineId, Shape};

/// A table `s.t (id, name)` as a target.
struct Bench {
    database: Database,
    sink: Sink,
    shape: Shape,
}

impl Bench {
    async fn new() -> Self {
        let database = Database::create().await;
        database.execute("CREATE SCHEMA s").await;
        let field = |name: &str, kind| Field { name: name.to_owned(), kind };
        let namespace = Namespace(vec!["s".to_owned(), "t".to_owned()]);
        Self {
            database,
            sink: Sink { pipeline: PipelineId::new("p"), namespace, version_field: None },
            shape: Shape { fields: vec![field("id", Kind::I64), field("name", Kind::String)], key: vec![0] },
        }
    }

    async fn table(&self, columns: &str) {
        self.database.execute(&format!("DROP TABLE IF EXISTS s.t; CREATE TABLE s.t ({columns})")).await;
    }

    async fn target(&self) -> Arc<dyn Target> {
        fides_connector_postgres::target(&self.database.url, 1, 10_000).await.unwrap()
    }

    /// What is found; preparing must agree.
    async fn found(&self, target: &dyn Target, create: bool) -> Vec<Obstacle> {
        let found = target.inspect(&self.sink, &self.shape, create).await.unwrap();
        let prepared = target.prepare(&self.sink, &self.shape, create).await;
        assert_eq!(prepared.is_ok(), found.is_empty(), "{found:?}, {prepared:?}");
        found
    }
}

fn said(found: &[Obstacle]) -> Vec<&str> {
    found.iter().map(|obstacle| obstacle.what.as_str()).collect()
}

#[tokio::test]
async fn a_column_that_nobody_fills_is_found() {
    let bench = Bench::new().await;
    let target = bench.target().await;
    bench.table("id bigint PRIMARY KEY, name text, note text NOT NULL").await;
    let unfilled = ["column note is NOT NULL without a default, and no field fills it"];
    assert_eq!(said(&bench.found(&*target, false).await), unfilled);
    // A trigger may fill it.
    let function = "CREATE FUNCTION s.fill() RETURNS trigger LANGUAGE plpgsql AS \
                    $$ BEGIN new.note := 'x'; RETURN new; END $$";
    bench.database.execute(function).await;
    for (when, fills) in [("AFTER", false), ("BEFORE", true)] {
        let trigger = format!("CREATE TRIGGER {when} {when} INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION s.fill()");
        bench.database.execute(&trigger).await;
        assert_eq!(bench.found(&*target, false).await.is_empty(), fills, "{when}");
    }
    bench.database.execute("CREATE DOMAIN s.noted AS text DEFAULT 'x'").await;
    for fine in [
        "note text NOT NULL DEFAULT 'x'",
        "note bigint NOT NULL GENERATED ALWAYS AS IDENTITY",
        "note text NOT NULL GENERATED ALWAYS AS (name || 'x') STORED",
        "note s.noted NOT NULL",
        "note text",
    ] {
        bench.table(&format!("id bigint PRIMARY KEY, name text, {fine}")).await;
        assert_eq!(said(&bench.found(&*target, false).await), [""; 0], "{fine}");
    }
}

#[tokio::test]
async fn a_version_column_of_another_type_is_refused() {
    let mut bench = Bench::new().await;
    bench.sink.version_field = Some("v".to_owned());
    let target = bench.target().await;
    for native in ["integer", "numeric", "bytea", "uuid", "char(32)", "varchar(31)", "citext", "jsonb"] {
        if native == "citext" {
            bench.database.execute("CREATE EXTENSION IF NOT EXISTS citext").await;
        }
        bench.table(&format!("id bigint PRIMARY KEY, name text, v {native}")).await;
        let found = bench.found(&*target, false).await;
        assert!(
            said(&found).len() == 1 && said(&found)[0].starts_with("version column v is of type"),
            "{native}: {found:?}"
        );
    }
    for native in ["text", "varchar", "varchar(32)"] {
        bench.table(&format!("id bigint PRIMARY KEY, name text, v {native}")).await;
        assert_eq!(said(&bench.found(&*target, false).await), [""; 0], "{native}");
    }
}

#[tokio::test]
async fn every_right_that_is_lacking_is_named_with_its_grant() {
    let bench = Bench::new().await;
    let database = &bench.database;
    let name: String =
        sqlx::query_scalar("SELECT current_database()::text").fetch_one(&mut database.connect().await).await.unwrap();
    let role = format!("{name}_poor");
    database
        .execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 's3cret'; REVOKE TEMPORARY ON DATABASE {name} FROM public; \
             GRANT USAGE ON SCHEMA s TO {role}"
        ))
        .await;
    let checked = async {
        let poor = fides_connector_postgres::target(&database.url_as(&role, "s3cret"), 1, 10_000).await.unwrap();
        let missing = bench.found(&*poor, true).await;
        bench.table("id bigint PRIMARY KEY, name text").await;
        let granted = format!("GRANT SELECT ON s.t TO {role}; GRANT INSERT (id), UPDATE (name) ON s.t TO {role}");
        database.execute(&granted).await;
        let there = bench.found(&*poor, false).await;
        let more = format!(
            "GRANT INSERT (name), DELETE ON s.t TO {role}; GRANT TEMPORARY ON DATABASE {name} TO {role}; \
             CREATE TABLE s._fides_lane (pipeline text, lane int, token bigint, relation bigint); \
             GRANT SELECT ON s._fides_lane TO {role}"
        );
        database.execute(&more).await;
        let lanes = bench.found(&*poor, false).await;
        database.execute(&format!("GRANT INSERT, UPDATE ON s._fides_lane TO {role}")).await;
        (missing, there, lanes, bench.found(&*poor, false).await)
    };
    let (missing, there, lanes, whole) = checked.await;
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;

    let temporary = format!("this user lacks the right TEMPORARY on database {name}, which every write needs");
    assert_eq!(said(&missing), ["it is missing, and this user lacks the right CREATE on schema s", temporary.as_str()]);
    let fence = "the table that fences writers off, \"s\"._fides_lane, is missing, and this user may not make it";
    assert_eq!(
        said(&there),
        ["this user lacks the right INSERT", "this user lacks the right DELETE", temporary.as_str(), fence]
    );
    assert_eq!(there[0].advice.as_deref(), Some("GRANT INSERT ON \"s\".\"t\" TO this user"));
    assert_eq!(said(&lanes), ["this user may not write the table that fences writers off, \"s\"._fides_lane"]);
    assert_eq!(said(&whole), [""; 0]);
}

#[tokio::test]
async fn a_schema_that_is_missing_is_found_before_anything_is_created() {
    let mut bench = Bench::new().await;
    bench.sink.namespace = Namespace(vec!["nowhere".to_owned(), "t".to_owned()]);
    let found = bench.found(&*bench.target().await, true).await;
    assert_eq!(said(&found), ["there is no schema nowhere to create it in"]);
}
