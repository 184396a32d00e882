//! A row of the log has the bytes of a scan.

use std::collections::{HashMap, HashSet};

use fides_core::{Key, PipelineId, Value};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::common::cases::table_of_types;
use crate::common::{Database, execute, int, selection};
use crate::support::{Change, Seen, open, page, read, reader, same_as_scanned, seen};

#[tokio::test]
async fn every_type_has_the_bytes_of_a_scan() {
    let database = Database::create().await;
    table_of_types(&database).await;
    // None of it may show in a row.
    for odd in [
        "DateStyle = 'SQL, DMY'",
        "TimeZone = 'Asia/Tokyo'",
        "IntervalStyle = 'iso_8601'",
        "bytea_output = 'escape'",
        "extra_float_digits = 0",
        "quote_all_identifiers = on",
    ] {
        let alter = "EXECUTE format('ALTER DATABASE %I SET ' ||";
        let odd = odd.replace('\'', "''");
        database.execute(&format!("DO $$ BEGIN {alter} '{odd}', current_database()); END $$")).await;
    }
    let host = database.host(1).await;
    let mut selection = selection(&*host, "a", &["id"], 10).await;
    // The key in the middle, and another order than the table's.
    selection.columns.rotate_left(7);
    selection.seed = 77;
    let mut opened = open(&database, &*host, &selection, None).await;
    database
        .execute("CREATE TEMP TABLE b AS TABLE a; DELETE FROM a; INSERT INTO a TABLE b; UPDATE a SET id = id")
        .await;
    let (changes, _) = read(&mut *opened.log, 6).await;
    assert!(changes[..2].iter().all(|change| matches!(change.what, Change::Gone(_))), "{changes:?}");
    same_as_scanned(&*host, &selection, &changes[2..4]).await;
    same_as_scanned(&*host, &selection, &changes[4..]).await;
}

#[tokio::test]
async fn any_text_has_the_bytes_of_a_scan() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (a text, b text[], n numeric, f float8, g float4, PRIMARY KEY (a))").await;
    let host = database.host(1).await;
    let selection = selection(&*host, "t", &["a"], 100_000).await;
    let mut opened = open(&database, &*host, &selection, None).await;
    let mut runner = TestRunner::deterministic();
    let text = proptest::prop_oneof!["[^\\x00]{0,12}", "[\\\\\\x01-\\x20\\x7fN{},\"']{0,9}"];
    let strategy = (text, proptest::num::f64::ANY, proptest::num::f32::ANY, "-?[0-9]{1,40}(\\.[0-9]{0,20})?");
    let mut keys = HashSet::new();
    let mut connection = database.connect().await;
    execute(&mut connection, "BEGIN").await;
    for _ in 0..500 {
        let (a, f, g, n) = strategy.new_tree(&mut runner).unwrap().current();
        let insert = "INSERT INTO t VALUES ($1, ARRAY[$1, NULL, $1], $2::numeric, $3, $4) ON CONFLICT DO NOTHING";
        sqlx::query(insert).bind(&a).bind(&n).bind(f).bind(g).execute(&mut connection).await.unwrap();
        keys.insert(a);
    }
    execute(&mut connection, "UPDATE t SET n = NULL WHERE length(a) % 2 = 0; COMMIT").await;
    let updated = keys.iter().filter(|key| key.chars().count() % 2 == 0).count();
    let (changes, _) = read(&mut *opened.log, keys.len() + updated).await;
    let mut last: HashMap<Key, Seen> = HashMap::new();
    for change in changes {
        let Change::Row { key, .. } = &change.what else { panic!("{change:?}") };
        last.insert(key.clone(), change);
    }
    same_as_scanned(&*host, &selection, &last.into_values().collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn an_unchanged_value_outside_of_its_row_is_kept() {
    let database = Database::create().await;
    for name in ["d", "f"] {
        database
            .execute(&format!(
                "CREATE TABLE {name} (id int PRIMARY KEY, big text, n int); \
                 ALTER TABLE {name} ALTER big SET STORAGE EXTERNAL; \
                 INSERT INTO {name} SELECT n, repeat('x', 100000) || n, 0 FROM generate_series(1, 3) n"
            ))
            .await;
    }
    database.execute("ALTER TABLE f REPLICA IDENTITY FULL").await;
    let host = database.host(1).await;
    for name in ["d", "f"] {
        let selection = selection(&*host, name, &["id"], 100).await;
        let reader = PipelineId::new(&format!("{}-{name}", reader(&database).await));
        let mut opened = host.log(&selection, &reader, None).await.unwrap();
        database.execute(&format!("UPDATE {name} SET n = id")).await;
        let (changes, _) = read(&mut *opened.log, 3).await;
        same_as_scanned(&*host, &selection, &changes).await;
        // The latest of several, and none of a record that was deleted afterwards.
        database
            .execute(&format!(
                "BEGIN; UPDATE {name} SET n = 5 WHERE id = 1; UPDATE {name} SET n = 6 WHERE id = 1; \
                 UPDATE {name} SET n = 7 WHERE id = 2; DELETE FROM {name} WHERE id = 2; COMMIT"
            ))
            .await;
        let (mut last, mut changes) = (None, Vec::new());
        while last != Some(Change::Gone(int(2))) {
            changes.extend(seen(&page(&mut *opened.log).await));
            last = changes.last().map(|change| change.what.clone());
        }
        let is_one = |change: &&Seen| matches!(&change.what, Change::Row { key, .. } if *key == int(1));
        let newest = changes.iter().rfind(is_one).unwrap();
        assert_eq!(newest.sequence, 2);
        assert_eq!(newest.what.values()[2], Value::I64(6));
    }
}

#[tokio::test]
async fn partitions_and_generated_columns_are_followed() {
    let database = Database::create().await;
    database
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a * 2) STORED) PARTITION BY RANGE (id); \
             CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10); \
             CREATE TABLE t2 (b int GENERATED ALWAYS AS (a * 2) STORED, a int, id int NOT NULL); \
             ALTER TABLE t ATTACH PARTITION t2 FOR VALUES FROM (10) TO (20)",
        )
        .await;
    let host = database.host(1).await;
    let selection = selection(&*host, "t", &["id"], 100).await;
    let mut opened = open(&database, &*host, &selection, None).await;
    database.execute("INSERT INTO t VALUES (1, 3), (11, 4)").await;
    let (changes, _) = read(&mut *opened.log, 2).await;
    same_as_scanned(&*host, &selection, &changes).await;
    database.execute("UPDATE t SET id = 12 WHERE id = 1").await;
    let (changes, _) = read(&mut *opened.log, 2).await;
    assert_eq!(changes[0].what, Change::Gone(int(1)));
    assert_eq!(changes[1].what.values(), [Value::I64(12), Value::I64(3), Value::I64(6)]);
}
