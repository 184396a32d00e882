//! What is SQLite's own in a host: dynamic types, collations, files.

#![allow(clippy::unwrap_used)] // the functions around the tests are tests, too

use std::path::PathBuf;
use std::sync::Arc;

use fides_core::port::{Host, Snapshot};
use fides_core::{Column, Fault, FaultKind, Key, KeyRange, Kind, Namespace, Selection, Value, Version};
use fides_testkit::conformance::{records, scan_all};
use sqlx::AssertSqlSafe;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

struct File {
    path: PathBuf,
    side: SqlitePool,
    folder: tempfile::TempDir,
}

async fn file(sql: &str) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let side =
        SqlitePool::connect_with(SqliteConnectOptions::new().filename(&path).create_if_missing(true)).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&side).await.unwrap();
    File { path, side, folder }
}

fn namespace(name: &str) -> Namespace {
    Namespace(vec![name.to_owned()])
}

impl File {
    async fn host(&self) -> Arc<dyn Host> {
        fides_connector_sqlite::host(&self.path, 2, false).await.unwrap()
    }

    /// All columns of a table as they are described.
    async fn open(&self, table: &str, key: &[&str], page_records_max: usize) -> Result<Arc<dyn Snapshot>, Fault> {
        let host = self.host().await;
        let described = host.describe(&namespace(table)).await?.unwrap();
        let selection = Selection {
            namespace: namespace(table),
            key: key.iter().map(ToString::to_string).collect(),
            columns: described.columns,
            includes: Vec::new(),
            seed: 0,
            page_records_max,
        };
        host.snapshot(&selection, Version::scan(1, 1)).await
    }

    async fn fault(&self, table: &str, key: &[&str], page_records_max: usize) -> String {
        let fault = match self.open(table, key, page_records_max).await {
            Ok(snapshot) => scan_all(&*snapshot).await.expect_err("this table cannot be read"),
            Err(fault) => fault,
        };
        assert_eq!(fault.kind, FaultKind::Permanent);
        fault.to_string()
    }
}

#[tokio::test]
async fn a_missing_file_is_told_and_not_created() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.db");
    let fault = fides_connector_sqlite::host(&path, 1, false).await.map(drop).unwrap_err();
    assert!(fault.to_string().contains("none.db does not exist"), "{fault}");
    assert!(!path.exists());
    std::fs::write(&path, "this is a text file, and long enough to be looked at by SQLite").unwrap();
    let fault = fides_connector_sqlite::host(&path, 1, false).await.map(drop).unwrap_err();
    assert!(fault.to_string().contains("no SQLite database"), "{fault}");
    let fault = fides_connector_sqlite::host(folder.path(), 1, false).await.map(drop).unwrap_err();
    assert!(fault.to_string().contains("is not a file"), "{fault}");
}

#[tokio::test]
async fn a_read_only_file_is_a_host() {
    let file = file("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    file.side.close().await;
    let mut permissions = std::fs::metadata(&file.path).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&file.path, permissions).unwrap();
    let before = std::fs::read(&file.path).unwrap();
    assert_eq!(scan_all(&*file.open("t", &["id"], 10).await.unwrap()).await.unwrap().len(), 1);
    assert_eq!(std::fs::read(&file.path).unwrap(), before);
    assert_eq!(std::fs::read_dir(file.folder.path()).unwrap().count(), 1, "nothing was left beside it");
}

#[tokio::test]
async fn values_keep_their_storage_class() {
    let file = file(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, d DECIMAL(10,2), b BOOLEAN, at DATETIME, any, u UUID, s TEXT);
         INSERT INTO t VALUES (1, 'many', 0.1, 'yes', '2024-01-01 10:00:00', x'00', 'NOT-A-UUID', CAST(x'ff' AS TEXT)),
                              (2, 1.5, 10, 1, 1704103200, 2.5, '00000000-0000-4000-8000-000000000001', 'x' || char(0));",
    )
    .await;
    let rows = scan_all(&*file.open("t", &["id"], 10).await.unwrap()).await.unwrap();
    assert_eq!(
        rows[0].values[1..],
        [
            Value::String("many".into()),
            Value::Decimal("0.1".into()),
            Value::String("yes".into()),
            Value::Timestamp("2024-01-01T10:00:00".into()),
            Value::Bytes(vec![0].into()),
            Value::String("NOT-A-UUID".into()),
            Value::Bytes(vec![255].into()),
        ]
    );
    assert_eq!(
        rows[1].values[1..6],
        [Value::F64(1.5), Value::Decimal("10".into()), Value::Bool(true), Value::I64(1_704_103_200), Value::F64(2.5)]
    );
    assert_eq!(rows[1].values[7], Value::String("x\0".into()));
}

#[tokio::test]
async fn collated_keys_are_read_by_code_point_and_warned_of() {
    for collation in ["NOCASE", "RTRIM"] {
        let file = file(&format!(
            "CREATE TABLE t (k TEXT COLLATE {collation} NOT NULL PRIMARY KEY, n INTEGER NOT NULL);
             CREATE TABLE p (k TEXT COLLATE {collation} NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (k, n)) WITHOUT ROWID;
             INSERT INTO t VALUES ('b', 1), ('C', 2), ('a', 3), ('D', 4), ('é', 5);
             INSERT INTO p SELECT k, n FROM t UNION ALL SELECT upper(k) || ' ', n + 10 FROM t;"
        ))
        .await;
        for (table, key, count) in [("t", &["k"][..], 5), ("p", &["k", "n"][..], 10)] {
            let snapshot = file.open(table, key, 2).await.unwrap();
            let rows = scan_all(&*snapshot).await.unwrap();
            assert_eq!(rows.len(), count, "{collation} {table}");
            let keys: Vec<Key> = rows.iter().map(|row| row.key.clone()).collect();
            assert_eq!(records(&snapshot.fetch(&keys).await.unwrap()).unwrap(), rows);
            let absent = Key::encode(&[Value::String("A".into()), Value::I64(3)][..key.len()]).unwrap();
            assert!(snapshot.fetch(&[absent]).await.unwrap().is_empty(), "another case is another key");
            let table = file.host().await.describe(&namespace(table)).await.unwrap().unwrap();
            assert!(table.warnings.iter().any(|warning| warning.contains("COLLATE BINARY")), "{:?}", table.warnings);
        }
    }
}

#[tokio::test]
async fn keys_that_cannot_be_keys_are_named() {
    let file = file(
        "CREATE TABLE nulls (k TEXT PRIMARY KEY, n INTEGER); INSERT INTO nulls VALUES ('a', 1), (NULL, 2);
         CREATE TABLE mixed (k INTEGER NOT NULL, n INTEGER, UNIQUE (k)); INSERT INTO mixed VALUES (1, 1), ('two', 2);
         CREATE TABLE twice (k INTEGER NOT NULL, n INTEGER); INSERT INTO twice VALUES (1, 1), (2, 2), (2, 3), (3, 4);
         CREATE TABLE loose (k UUID NOT NULL PRIMARY KEY);
         INSERT INTO loose VALUES ('00000000-0000-4000-8000-00000000000A');
         CREATE TABLE dated (k DATE NOT NULL PRIMARY KEY);",
    )
    .await;
    let fault = file.fault("nulls", &["k"], 10).await;
    assert!(fault.contains("nulls.k holds NULL"), "{fault}");
    let fault = file.fault("mixed", &["k"], 10).await;
    assert!(fault.contains("mixed.k") && fault.contains("\"two\"") && fault.contains("not i64"), "{fault}");
    for page in [1, 2, 3, 10] {
        let fault = file.fault("twice", &["k"], page).await;
        assert!(fault.contains("twice") && fault.contains("not unique"), "pages of {page}: {fault}");
    }
    let fault = file.fault("loose", &["k"], 10).await;
    assert!(fault.contains("loose.k") && fault.contains("not uuid"), "{fault}");
    let fault = file.fault("dated", &["k"], 10).await;
    assert!(fault.contains("dated.k") && fault.contains("kind date"), "{fault}");
}

#[tokio::test]
async fn undeclared_keys_may_mix_what_has_one_order() {
    let file =
        file("CREATE TABLE t (k NOT NULL PRIMARY KEY); INSERT INTO t VALUES (x'00'), ('a'), (7), (-1), ('')").await;
    let rows = scan_all(&*file.open("t", &["k"], 2).await.unwrap()).await.unwrap();
    let keys: Vec<String> = rows.iter().map(|row| row.key.to_string()).collect();
    assert_eq!(keys, ["-1", "7", "", "a", "\\x00"]);
}

#[tokio::test]
async fn tables_of_all_forms_are_described() {
    let file = file(
        "CREATE TABLE parents (id INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE, note TEXT UNIQUE);
         CREATE TABLE children (a TEXT, b INTEGER, parent REFERENCES parents, code TEXT REFERENCES parents (code),
             twice INTEGER GENERATED ALWAYS AS (b * 2) VIRTUAL, PRIMARY KEY (b, a)) WITHOUT ROWID;
         CREATE VIEW seen AS SELECT id, code FROM parents;
         CREATE TABLE _fides_lane (x); INSERT INTO parents VALUES (1, 'x', NULL), (2, 'y', NULL);
         INSERT INTO children (a, b, parent) VALUES ('a', 21, 1);",
    )
    .await;
    let host = file.host().await;
    let names: Vec<String> = host.namespaces().await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["children", "parents", "seen"]);

    let parents = host.describe(&namespace("parents")).await.unwrap().unwrap();
    assert_eq!(parents.unique, [vec!["id"], vec!["code"]]);
    assert!(!parents.column("id").unwrap().nullable && parents.column("note").unwrap().nullable);
    assert_eq!(parents.records_estimate, 2);
    assert!(
        parents.store_warnings.iter().any(|warning| warning.contains("journal mode is delete")),
        "{:?}",
        parents.store_warnings
    );

    let children = host.describe(&namespace("children")).await.unwrap().unwrap();
    assert_eq!(children.primary_key, ["b", "a"]);
    assert!(!children.column("a").unwrap().nullable, "a table without row ids keeps NULL out of its key");
    assert!(children.references.contains(&(vec!["parent".into()], namespace("parents"), vec!["id".into()])));
    assert!(children.references.contains(&(vec!["code".into()], namespace("parents"), vec!["code".into()])));
    let rows = scan_all(&*file.open("children", &["b", "a"], 10).await.unwrap()).await.unwrap();
    assert_eq!(rows[0].values[4], Value::I64(42), "generated columns are read");

    let seen = host.describe(&namespace("seen")).await.unwrap().unwrap();
    assert!(seen.primary_key.is_empty() && seen.records_estimate == 2);
    assert_eq!(scan_all(&*file.open("seen", &["id"], 1).await.unwrap()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn bytes_and_json_survive_nesting() {
    use fides_core::{Arity, Include};
    let file = file(
        "CREATE TABLE a (id INTEGER PRIMARY KEY); INSERT INTO a VALUES (1);
         CREATE TABLE b (a_id INTEGER, raw BLOB, doc JSON, ok BOOLEAN, \"it's\" REAL);
         INSERT INTO b VALUES (1, x'00ff', '{\"x\": [1.50]}', 1, 0.1);",
    )
    .await;
    let host = file.host().await;
    let describe = async |name: &str| host.describe(&namespace(name)).await.unwrap().unwrap().columns;
    let include = Include {
        name: "bs".into(),
        namespace: namespace("b"),
        on: vec![("a_id".into(), "id".into())],
        arity: Arity::One,
        columns: describe("b").await,
        order_by: Vec::new(),
        includes: Vec::new(),
    };
    let selection = Selection {
        namespace: namespace("a"),
        key: vec!["id".into()],
        columns: describe("a").await,
        includes: vec![include],
        seed: 0,
        page_records_max: 10,
    };
    let snapshot = host.snapshot(&selection, Version::default()).await.unwrap();
    let rows = scan_all(&*snapshot).await.unwrap();
    let expected = r#"{"a_id":1,"raw":"\\x00ff","doc":{"x":[1.50]},"ok":true,"it's":0.1}"#;
    assert_eq!(rows[0].values[1], Value::Json(expected.into()));
}

#[tokio::test]
async fn large_tables_are_planned_by_their_index() {
    let file = file(
        "CREATE TABLE t (k TEXT NOT NULL PRIMARY KEY, body TEXT);
         WITH RECURSIVE n(i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
         INSERT INTO t SELECT printf('%05d', i), hex(randomblob(20)) FROM n;",
    )
    .await;
    let snapshot = file.open("t", &["k"], 1000).await.unwrap();
    let plan = snapshot.plan(4).await.unwrap();
    assert_eq!(plan.len(), 4);
    for range in &plan {
        let mut read = 0;
        let mut after = None;
        loop {
            let page = snapshot.scan(range, after.as_ref()).await.unwrap();
            read += page.len();
            let Some(next) = page.next else { break };
            after = Some(next);
        }
        assert_eq!(read, 2500, "similar size");
    }
    let strange = KeyRange { lower: Some(Key::encode(&[Value::I64(1), Value::I64(2)]).unwrap()), upper: None };
    let fault = snapshot.scan(&strange, None).await.map(drop).unwrap_err();
    assert!(fault.to_string().contains("2 columns, expected 1"), "{fault}");
}

#[tokio::test]
async fn a_key_that_is_not_read_is_refused() {
    let file = file("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)").await;
    let column = Column { name: "n".into(), kind: Kind::I64, native: String::new(), nullable: true };
    let selection = Selection {
        namespace: namespace("t"),
        key: vec!["id".into()],
        columns: vec![column],
        includes: Vec::new(),
        seed: 0,
        page_records_max: 10,
    };
    let fault = file.host().await.snapshot(&selection, Version::default()).await.map(drop).unwrap_err();
    assert!(fault.to_string().contains("each key column"), "{fault}");
}
