//! What is SQLite's own in a target: files, locks, triggers, deferred constraints.

#![allow(clippy::unwrap_used)] // the functions around the tests are tests, too

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fides_core::port::{Outcome, Sink, Target, Write};
use fides_core::{Change, Fault, FaultKind, Fingerprint, Key, Lane, Op, PipelineId, Shape, Value, Version, encode_row};
use fides_core::{Field, Kind, Namespace, Selection};
use sqlx::AssertSqlSafe;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

struct Bench {
    path: PathBuf,
    target: Arc<dyn Target>,
    sink: Sink,
    shape: Shape,
    lane: Lane,
    _folder: tempfile::TempDir,
}

async fn side(path: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    SqlitePool::connect_with(options.foreign_keys(true)).await.unwrap()
}

async fn execute(pool: &SqlitePool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(pool).await.unwrap();
}

async fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.db");
    let pipeline = PipelineId::new("p");
    let field = |name: &str, kind| Field { name: name.to_owned(), kind };
    Bench {
        target: fides_connector_sqlite::target(&path, 2).await.unwrap(),
        sink: Sink { pipeline: pipeline.clone(), namespace: Namespace(vec!["t".into()]), version_field: None },
        shape: Shape { fields: vec![field("id", Kind::I64), field("n", Kind::I64)], key: vec![0] },
        lane: Lane { pipeline, index: 0 },
        path,
        _folder: folder,
    }
}

impl Bench {
    /// Over a table that somebody else made.
    async fn over(sql: &str) -> Self {
        let bench = bench().await;
        let pool = side(&bench.path).await;
        execute(&pool, sql).await;
        pool.close().await;
        bench.prepare(false).await.unwrap();
        bench.target.claim(&bench.sink, &bench.lane, 1).await.unwrap();
        bench
    }

    async fn prepare(&self, create: bool) -> Result<(), Fault> {
        self.target.prepare(&self.sink, &self.shape, create).await
    }

    async fn apply(&self, changes: &[Change]) -> Vec<Outcome> {
        let write = Write { sink: &self.sink, shape: &self.shape, lane: &self.lane, token: 1 };
        self.target.apply(&write, changes).await
    }

    async fn held(&self) -> Vec<(i64, i64)> {
        let pool = side(&self.path).await;
        sqlx::query_as("SELECT id, n FROM t ORDER BY id").fetch_all(&pool).await.unwrap()
    }
}

fn upsert(id: i64, n: i64) -> Change {
    let mut row = Vec::new();
    encode_row(&mut row, &[Value::I64(id), Value::I64(n)]);
    Change {
        key: Key::encode(&[Value::I64(id)]).unwrap(),
        version: Version::scan(1, 1),
        fingerprint: Some(Fingerprint(1)),
        op: Op::Upsert(row.into()),
        forced: false,
    }
}

fn kinds(outcomes: &[Outcome]) -> Vec<Option<FaultKind>> {
    let kind = |outcome: &Outcome| match outcome {
        Outcome::Applied => None,
        Outcome::Failed(fault) => Some(fault.kind),
        other => panic!("{other:?}"),
    };
    outcomes.iter().map(kind).collect()
}

#[tokio::test]
async fn the_file_is_made_only_when_asked() {
    let bench = bench().await;
    assert_eq!(bench.target.describe(&bench.sink.namespace).await.unwrap(), None);
    let fault = bench.prepare(false).await.unwrap_err();
    assert!(fault.kind == FaultKind::Permanent && fault.to_string().contains("create: true"), "{fault}");
    assert!(!bench.path.exists());
    bench.prepare(true).await.unwrap();
    let pool = side(&bench.path).await;
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&pool).await.unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn a_key_that_does_not_keep_records_apart_is_refused() {
    for (sql, expected) in [
        ("CREATE TABLE t (id INTEGER NOT NULL, n INTEGER)", "no primary key or unique index over exactly (id)"),
        ("CREATE TABLE t (id INTEGER, n INTEGER, PRIMARY KEY (id, n))", "no primary key or unique index"),
        ("CREATE TABLE t (id INTEGER, n INTEGER); CREATE UNIQUE INDEX i ON t (id) WHERE n > 0", "no primary key"),
        ("CREATE TABLE t (id TEXT COLLATE NOCASE PRIMARY KEY, n INTEGER)", "t.id has a collation"),
    ] {
        let bench = bench().await;
        execute(&side(&bench.path).await, sql).await;
        let fault = bench.prepare(true).await.unwrap_err();
        assert!(fault.kind == FaultKind::Permanent && fault.to_string().contains(expected), "{fault}");
    }
}

/// A key that SQLite converts is read back as another: a walk would take it for one that only the target has (L8).
#[tokio::test]
async fn a_key_column_that_converts_is_refused() {
    let prepare = async |sql: &str, kind| {
        let bench = bench().await;
        execute(&side(&bench.path).await, sql).await;
        let shape = Shape { fields: vec![Field { name: "id".to_owned(), kind }], key: vec![0] };
        bench.target.prepare(&bench.sink, &shape, false).await
    };
    for (native, kind, needed) in [
        ("INTEGER", Kind::String, "of type TEXT"),
        ("STRING", Kind::String, "of type TEXT"),
        ("TEXT", Kind::I64, "of type INTEGER"),
        ("REAL", Kind::U64, "of type INTEGER"),
        ("INTEGER", Kind::Uuid, "of type UUID"),
        ("TEXT", Kind::Any, "without a type"),
        ("ANY", Kind::Any, "without a type"),
    ] {
        let fault =
            prepare(&format!("CREATE TABLE t (id {native} NOT NULL PRIMARY KEY)"), kind).await.expect_err(native);
        assert_eq!(fault.kind, FaultKind::Permanent, "{fault}");
        let said = fault.to_string();
        let needed = format!("a column {needed} is needed");
        for part in ["table t", "key column id", native, &format!("keys of kind {kind}"), &needed] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    for (native, kind) in [
        ("VARCHAR(9)", Kind::String),
        ("BIGINT", Kind::U64),
        ("NUMERIC", Kind::I64),
        ("GUID", Kind::Uuid),
        ("", Kind::Any),
    ] {
        let prepared = prepare(&format!("CREATE TABLE t (id {native} NOT NULL PRIMARY KEY)"), kind).await;
        prepared.unwrap_or_else(|fault| panic!("{native} for {kind}: {fault}"));
    }
    prepare("CREATE TABLE T (id ANY NOT NULL PRIMARY KEY) STRICT", Kind::Any).await.expect("nothing is converted");
}

/// SQLite would find the number 7 by the text `7`: what is deleted, and what counts as absent, must be the very key.
#[tokio::test]
async fn a_key_of_another_kind_finds_nothing_and_proves_nothing() {
    let bench = Bench::over("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO t VALUES (7, 1)").await;
    let text = Key::encode(&[Value::String("7".into())]).unwrap();
    let mut row = Vec::new();
    encode_row(&mut row, &[Value::String("7".into()), Value::I64(2)]);
    for op in [Op::Delete, Op::Upsert(row.into())] {
        let outcomes = bench.apply(&[Change { key: text.clone(), op, ..upsert(0, 0) }, upsert(8, 8)]).await;
        assert_eq!(kinds(&outcomes), [Some(FaultKind::Permanent), None]);
    }
    assert_eq!(bench.held().await, [(7, 1), (8, 8)]);
    let columns = bench.target.describe(&bench.sink.namespace).await.unwrap().unwrap().columns;
    let (key, namespace) = (vec!["id".to_owned()], bench.sink.namespace.clone());
    let selection = Selection { namespace, key, columns, includes: Vec::new(), seed: 0, page_records_max: 10 };
    let snapshot = bench.target.snapshot(&bench.sink, &selection).await.unwrap();
    let fault = snapshot.fetch(&[text, Key::encode(&[Value::I64(8)]).unwrap()]).await.map(drop).unwrap_err();
    assert!(fault.kind == FaultKind::Permanent && fault.to_string().contains("key 7 holds string"), "{fault}");
}

#[tokio::test]
async fn another_writer_makes_us_wait_and_loses_nothing() {
    let bench = Bench::over("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)").await;
    let other = side(&bench.path).await;
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let outcomes = bench.apply(&[upsert(1, 1)]).await;
    assert_eq!(kinds(&outcomes), [Some(FaultKind::Transient)]);
    let Outcome::Failed(fault) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert!(fault.to_string().contains("copy.db") && fault.to_string().contains("another process"), "{fault}");
    lock.rollback().await.unwrap();
    assert_eq!(kinds(&bench.apply(&[upsert(1, 1)]).await), [None]);
}

#[tokio::test]
async fn a_table_that_vanished_buries_nothing() {
    let bench = Bench::over("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)").await;
    execute(&side(&bench.path).await, "ALTER TABLE t RENAME COLUMN n TO m").await;
    assert_eq!(kinds(&bench.apply(&[upsert(1, 1), upsert(2, 2)]).await), [Some(FaultKind::Unavailable); 2]);
    execute(&side(&bench.path).await, "DROP TABLE t").await;
    assert_eq!(kinds(&bench.apply(&[upsert(1, 1)]).await), [Some(FaultKind::Unavailable)]);
}

#[tokio::test]
async fn the_tables_own_conflict_clauses_swallow_no_record() {
    let bench = Bench::over("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER UNIQUE ON CONFLICT IGNORE)").await;
    let outcomes = bench.apply(&[upsert(1, 10), upsert(2, 10), upsert(3, 30)]).await;
    assert_eq!(kinds(&outcomes), [None, Some(FaultKind::Deferred), None]);
    assert_eq!(bench.held().await, [(1, 10), (3, 30)]);
}

#[tokio::test]
async fn foreign_keys_are_deferred_wherever_they_are_checked() {
    for clause in ["", "DEFERRABLE INITIALLY DEFERRED"] {
        let bench = Bench::over(&format!(
            "CREATE TABLE parents (id INTEGER PRIMARY KEY); INSERT INTO parents VALUES (1);
             CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER REFERENCES parents {clause});"
        ))
        .await;
        let outcomes = bench.apply(&[upsert(1, 1), upsert(2, 99), upsert(3, 1), upsert(4, 1)]).await;
        assert_eq!(kinds(&outcomes), [None, Some(FaultKind::Deferred), None, None], "{clause}");
        assert_eq!(bench.held().await, [(1, 1), (3, 1), (4, 1)]);
    }
}

#[tokio::test]
async fn a_trigger_fails_its_record_or_the_whole_batch() {
    let table = "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER);";
    let trigger = |how: &str| {
        format!("{table} CREATE TRIGGER r BEFORE INSERT ON t WHEN new.n < 0 BEGIN SELECT RAISE({how}, 'negative'); END")
    };
    for how in ["ABORT", "FAIL"] {
        let bench = Bench::over(&trigger(how)).await;
        let outcomes = bench.apply(&[upsert(1, 1), upsert(2, -1), upsert(3, 3)]).await;
        assert_eq!(kinds(&outcomes), [None, Some(FaultKind::Permanent), None], "{how}");
        assert_eq!(bench.held().await, [(1, 1), (3, 3)]);
    }
    // It ends our transaction: nothing of the batch may be reported as written, and nothing may land outside of it.
    let bench = Bench::over(&trigger("ROLLBACK")).await;
    let outcomes = bench.apply(&[upsert(1, 1), upsert(2, -1), upsert(3, 3)]).await;
    assert_eq!(kinds(&outcomes), [Some(FaultKind::Unavailable); 3]);
    assert_eq!(bench.held().await, []);
    assert_eq!(kinds(&bench.apply(&[upsert(3, 3)]).await), [None], "the connection is fit for the next batch");
}

/// What a lane's owner wrote is gone with the table: nobody is its owner any more (L11).
#[tokio::test]
async fn a_table_that_is_made_anew_forgets_its_claims() {
    let bench = bench().await;
    bench.prepare(true).await.unwrap();
    bench.target.claim(&bench.sink, &bench.lane, 1).await.unwrap();
    bench.prepare(true).await.unwrap();
    assert_eq!(bench.target.claimed(&bench.sink, &bench.lane).await.unwrap(), Some(1), "it was there");
    execute(&side(&bench.path).await, "DROP TABLE t").await;
    bench.prepare(true).await.unwrap();
    assert_eq!(bench.target.claimed(&bench.sink, &bench.lane).await.unwrap(), None);
    assert!(matches!(&bench.apply(&[upsert(1, 1)]).await[..], [Outcome::Failed(_)]));
    assert_eq!(bench.held().await, []);
}

/// What preparing would refuse is found before, and nothing is written on the way.
#[tokio::test]
async fn inspecting_finds_what_cannot_be_written() {
    let inspect = async |sql: &str| {
        let bench = bench().await;
        execute(&side(&bench.path).await, sql).await;
        let found = bench.target.inspect(&bench.sink, &bench.shape, false).await.unwrap();
        let found: Vec<String> = found.into_iter().map(|obstacle| obstacle.what).collect();
        assert_eq!(bench.prepare(false).await.is_ok(), found.is_empty(), "{found:?}");
        found
    };
    assert_eq!(
        inspect("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER AS (id + 1))").await,
        ["column n is generated: it cannot be written"]
    );
    for more in ["m TEXT NOT NULL", "m TEXT NOT NULL DEFAULT NULL"] {
        let found = inspect(&format!("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, {more})")).await;
        assert_eq!(found, ["column m is NOT NULL without a default, and no field fills it"], "{more}");
    }
    for fine in [
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, m TEXT NOT NULL DEFAULT 'x')",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, m INTEGER NOT NULL AS (id + 1))",
        "CREATE TABLE t (row INTEGER PRIMARY KEY, id INTEGER NOT NULL UNIQUE, n INTEGER)",
    ] {
        assert_eq!(inspect(fine).await, [""; 0], "{fine}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_made_or_written_is_found() {
    let bench = bench().await;
    let nowhere = bench.path.parent().unwrap().join("nowhere/copy.db");
    let target = fides_connector_sqlite::target(&nowhere, 1).await.unwrap();
    let found = target.inspect(&bench.sink, &bench.shape, true).await.unwrap();
    assert!(found.len() == 1 && found[0].what.contains("there is no folder"), "{found:?}");
    assert!(bench.target.inspect(&bench.sink, &bench.shape, true).await.unwrap().is_empty());
    assert!(!bench.path.exists(), "nothing was made");

    execute(&side(&bench.path).await, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)").await;
    let before = std::fs::read(&bench.path).unwrap();
    assert!(bench.target.inspect(&bench.sink, &bench.shape, false).await.unwrap().is_empty());
    assert_eq!(std::fs::read(&bench.path).unwrap(), before, "the journal is as it was");
    // The header of a file says which version of SQLite may write it.
    let mut newer = before;
    newer[18] = 9;
    std::fs::write(&bench.path, newer).unwrap();
    let fault = bench.target.inspect(&bench.sink, &bench.shape, false).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    assert!(fault.to_string().contains("cannot be written"), "{fault}");
    assert_eq!(bench.prepare(false).await.unwrap_err().kind, FaultKind::Unavailable);
}

/// A column of numbers would make a number of a version that looks like one, and then no version is older than any.
#[tokio::test]
async fn a_version_column_that_converts_is_refused() {
    let prepare = async |native: &str, strict: &str| {
        let mut bench = bench().await;
        bench.sink.version_field = Some("v".to_owned());
        execute(
            &side(&bench.path).await,
            &format!("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, v {native}) {strict}"),
        )
        .await;
        bench.prepare(false).await
    };
    for native in ["INTEGER", "NUMERIC", "REAL", "BLOB", "ANY", "TIMESTAMP"] {
        let said = prepare(native, "").await.expect_err(native).to_string();
        assert!(said.contains("version column v is of type") && said.contains("TEXT is needed"), "{native}: {said}");
    }
    for (native, strict) in [("TEXT", ""), ("VARCHAR(32)", ""), ("", ""), ("TEXT", "STRICT"), ("ANY", "STRICT")] {
        prepare(native, strict).await.unwrap_or_else(|fault| panic!("{native} {strict}: {fault}"));
    }
}
