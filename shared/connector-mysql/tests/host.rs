//! What only MySQL does to whoever reads it.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Database, int, rows};
use fides_core::port::{Host, Snapshot};
use fides_core::{FaultKind, Key, KeyRange, Value, Version};

async fn snapshot(database: &Database, host: &dyn Host, key: &[&str], max: usize) -> std::sync::Arc<dyn Snapshot> {
    host.snapshot(&database.selection(host, "t", key, max).await, Version::default()).await.unwrap()
}

fn text(text: &str) -> Value<'_> {
    Value::String(text.into())
}

#[tokio::test]
async fn all_readers_of_a_snapshot_see_one_state() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY, n int)").await;
    let values: Vec<String> = (0..400).map(|id| format!("({id}, 0)")).collect();
    database.execute(&format!("INSERT INTO t VALUES {}", values.join(", "))).await;
    let host = database.host(8).await;
    let snapshot = snapshot(&database, &*host, &["id"], 7).await;
    let ranges = snapshot.plan(8).await.unwrap();
    assert_eq!(ranges.len(), 8);
    let first = snapshot.scan(&ranges[0], None).await.unwrap();
    database.execute("UPDATE t SET n = 1").await;
    // At the same time, so that further sessions are opened: none of them may see what was written meanwhile.
    let scans = ranges.iter().map(|range| fides_testkit::conformance::scan_range(&*snapshot, range));
    let found = futures::future::try_join_all(scans).await.unwrap().concat();
    assert_eq!(found.len(), 400);
    assert!(found.iter().all(|record| record.values[1] == Value::I64(0)));
    assert_eq!(first.fingerprints[..], found.iter().take(7).map(|record| record.fingerprint).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_key_of_a_folding_collation_is_told_apart_by_its_bytes() {
    let database = Database::create().await;
    database
        .execute("CREATE TABLE t (word varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY)")
        .await;
    database.execute("INSERT INTO t VALUES ('b'), ('A'), ('ä-x'), ('Z'), ('c\\0'), ('C2')").await;
    let host = database.host(1).await;
    let table = host.describe(&database.table("t")).await.unwrap().unwrap();
    assert!(table.warnings.iter().any(|warning| warning.contains("utf8mb4_nopad_bin")), "{:?}", table.warnings);
    let snapshot = snapshot(&database, &*host, &["word"], 2).await;
    let found: Vec<_> = rows(&*snapshot).await.into_iter().flatten().collect();
    assert_eq!(found, ["A", "C2", "Z", "b", "c\0", "ä-x"].map(text));
    let keys = ["a", "A", "c", "C\0", "c\0", "a-x"].map(|word| Key::encode(&[text(word)]).unwrap());
    let fetched = snapshot.fetch(&keys).await.unwrap();
    assert_eq!(fetched.keys.iter().collect::<Vec<_>>(), [keys[1].as_bytes(), keys[4].as_bytes()]);
}

#[tokio::test]
async fn numbers_beyond_a_sign_are_keys() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id bigint unsigned PRIMARY KEY)").await;
    let ids = [0, 1, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX];
    let values: Vec<String> = ids.iter().rev().map(|id| format!("({id})")).collect();
    database.execute(&format!("INSERT INTO t VALUES {}", values.join(", "))).await;
    let host = database.host(2).await;
    let snapshot = snapshot(&database, &*host, &["id"], 2).await;
    let mut found = Vec::new();
    for range in snapshot.plan(4).await.unwrap() {
        found.extend(fides_testkit::conformance::scan_range(&*snapshot, &range).await.unwrap());
    }
    let found: Vec<_> = found.iter().map(|record| record.values[0].clone()).collect();
    assert_eq!(found, ids.map(Value::U64));
    let keys = ids.map(|id| Key::encode(&[Value::U64(id)]).unwrap());
    assert_eq!(snapshot.fetch(&keys).await.unwrap().len(), 5);
}

#[tokio::test]
async fn keys_without_a_common_order_are_refused() {
    let database = Database::create().await;
    database
        .execute("CREATE TABLE t (at datetime(6), price decimal(10,2), n int, PRIMARY KEY (at, price), UNIQUE (n))")
        .await;
    database.execute("INSERT INTO t VALUES ('2024-01-01', 1, 1), ('2024-01-02', 1, NULL)").await;
    let host = database.host(1).await;
    for (key, said) in [("at", "datetime(6)"), ("price", "decimal(10,2)"), ("n", "holds NULL")] {
        let selection = database.selection(&*host, "t", &[key], 10).await;
        let fault = host.snapshot(&selection, Version::default()).await.map(drop).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Permanent, "{fault}");
        assert!(fault.to_string().contains(said) && fault.to_string().contains(key), "{fault}");
    }
}

#[tokio::test]
async fn a_snapshot_whose_connection_is_lost_is_gone() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    database.execute("INSERT INTO t VALUES (1), (2), (3)").await;
    let host = database.host(1).await;
    let snapshot = snapshot(&database, &*host, &["id"], 2).await;
    snapshot.scan(&KeyRange::ALL, None).await.unwrap();
    let mut admin = database.connect().await;
    let sql = "SELECT id FROM information_schema.processlist WHERE db = ? AND id <> CONNECTION_ID()";
    let sessions: Vec<i64> = sqlx::query_scalar(sql).bind(&database.name).fetch_all(&mut admin).await.unwrap();
    assert!(!sessions.is_empty());
    for session in sessions {
        common::execute(&mut admin, &format!("KILL {session}")).await;
    }
    // Neither a short page, nor a wait without end.
    for _ in 0..2 {
        let fault = snapshot.scan(&KeyRange::ALL, Some(&int(1))).await.map(drop).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Transient, "{fault}");
    }
    assert!(snapshot.fetch(&[int(9)]).await.is_err(), "nothing is proven absent by a state that is gone");
}

#[tokio::test]
async fn a_wrong_password_is_unavailable_and_not_shown() {
    let database = Database::create().await;
    let host = fides_connector_mysql::host(&database.url_as("nobody", "s3cret"), 1, false).await.unwrap();
    let fault = host.namespaces().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    assert!(fault.to_string().contains("check user and password") && !fault.to_string().contains("s3cret"), "{fault}");
}

#[tokio::test]
async fn relations_are_described() {
    let database = Database::create().await;
    database.execute("CREATE TABLE p (a int, b int, PRIMARY KEY (a, b)) ENGINE = InnoDB").await;
    database
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, x int, y int, FOREIGN KEY (x, y) REFERENCES p (a, b)) ENGINE = InnoDB",
        )
        .await;
    database.execute("CREATE TABLE m (id int PRIMARY KEY) ENGINE = MyISAM").await;
    let host = database.host(1).await;
    let table = host.describe(&database.table("t")).await.unwrap().unwrap();
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(table.references, [(names(&["x", "y"]), database.table("p"), names(&["a", "b"]))]);
    assert!(table.warnings.is_empty(), "{:?}", table.warnings);
    let unsafe_engine = host.describe(&database.table("m")).await.unwrap().unwrap();
    assert!(unsafe_engine.warnings.iter().any(|warning| warning.contains("no transactions")));
    assert_eq!(host.namespaces().await.unwrap(), ["m", "p", "t"].map(|name| database.table(name)));
}
