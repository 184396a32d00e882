//! What changes of one table tell.

use fides_core::{Key, Value};
use fides_testkit::conformance::scan_all;

use super::stand::{Stand, all, changes, gone, map, next, told};

const ITEM: &str = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO item VALUES (1, 'a'), (2, 'b')";

#[tokio::test]
async fn changes_are_told_in_order_each_record_once() {
    let stand = Stand::new(ITEM).await;
    let selection = stand.selection("item", &["id"]).await;
    let mut log = stand.follow(&selection).await;
    stand
        .run(
            "BEGIN; INSERT INTO item VALUES (3, 'c'); UPDATE item SET name = 'A' WHERE id = 1;
               UPDATE item SET name = 'C' WHERE id = 3; DELETE FROM item WHERE id = 2; COMMIT",
        )
        .await;
    let page = next(&mut *log).await.unwrap();
    assert_eq!(changes(&page), [told("1", r#"1 "A""#), told("3", r#"3 "C""#), gone("2")]);
    assert!(page.changes.is_sorted_by_key(|logged| (logged.position, logged.sequence)));
    let snapshot = stand.host.snapshot(&selection, fides_core::Version::scan(1, 1)).await.unwrap();
    let scanned = scan_all(&*snapshot).await.unwrap();
    assert_eq!(page.fingerprints, scanned.iter().map(|record| record.fingerprint).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_rolled_back_is_not_told() {
    let stand = Stand::new(ITEM).await;
    let selection = stand.selection("item", &["id"]).await;
    let mut log = stand.follow(&selection).await;
    stand.run("BEGIN; UPDATE item SET name = 'x'; SAVEPOINT s; DELETE FROM item; ROLLBACK").await;
    stand
        .run(
            "BEGIN; UPDATE item SET name = 'x' WHERE id = 1; SAVEPOINT s; DELETE FROM item WHERE id = 2; \
               ROLLBACK TO s; COMMIT",
        )
        .await;
    assert_eq!(all(&stand, &mut *log).await, map(&[told("1", r#"1 "x""#)]));
}

#[tokio::test]
async fn a_key_that_changes_tells_of_both() {
    let stand = Stand::new(ITEM).await;
    let selection = stand.selection("item", &["id"]).await;
    let mut log = stand.follow(&selection).await;
    stand.run("UPDATE item SET id = 9 WHERE id = 1; UPDATE OR REPLACE item SET id = 2 WHERE id = 9").await;
    assert_eq!(all(&stand, &mut *log).await, map(&[gone("1"), gone("9"), told("2", r#"2 "a""#)]));
}

#[tokio::test]
async fn a_key_in_another_case_is_another_key() {
    let stand =
        Stand::new("CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, x); INSERT INTO t VALUES ('a', 1)")
            .await;
    let selection = stand.selection("t", &["k"]).await;
    let mut log = stand.follow(&selection).await;
    stand.run("UPDATE t SET k = 'A'").await;
    assert_eq!(all(&stand, &mut *log).await, map(&[gone("a"), told("A", r#""A" 1"#)]));
    stand.run("REPLACE INTO t VALUES ('a', 2)").await;
    assert_eq!(all(&stand, &mut *log).await, map(&[gone("A"), told("a", r#""a" 2"#)]));
}

#[tokio::test]
async fn what_replace_deletes_is_told() {
    for recursive in ["OFF", "ON"] {
        let stand = Stand::new(
            "CREATE TABLE u (id INTEGER PRIMARY KEY, mail TEXT UNIQUE COLLATE NOCASE, \"no\" INT, x, UNIQUE (\"no\", x));
             INSERT INTO u VALUES (1, 'a', 1, 1), (2, 'b', 2, 2), (3, 'c', 3, 3), (4, 'd', 4, 4)",
        )
        .await;
        let selection = stand.selection("u", &["id"]).await;
        let mut log = stand.follow(&selection).await;
        let recursive = format!("PRAGMA recursive_triggers = {recursive};");
        stand.run(&format!("{recursive} REPLACE INTO u VALUES (5, 'A', 2, 2)")).await;
        let expected = map(&[gone("1"), gone("2"), told("5", r#"5 "A" 2 2"#)]);
        assert_eq!(all(&stand, &mut *log).await, expected, "{recursive}");
        stand.run(&format!("{recursive} UPDATE OR REPLACE u SET mail = 'C' WHERE id = 4")).await;
        assert_eq!(all(&stand, &mut *log).await, map(&[gone("3"), told("4", r#"4 "C" 4 4"#)]), "{recursive}");
        stand.run(&format!("{recursive} REPLACE INTO u VALUES (4, 'z', 9, 9)")).await;
        assert_eq!(all(&stand, &mut *log).await, map(&[told("4", r#"4 "z" 9 9"#)]), "{recursive}");
    }
}

#[tokio::test]
async fn an_upsert_tells_of_its_record_and_an_update_of_nobody_else() {
    let stand =
        Stand::new("CREATE TABLE u (id INTEGER PRIMARY KEY, m TEXT UNIQUE); INSERT INTO u VALUES (1, 'a'), (2, 'b')")
            .await;
    let selection = stand.selection("u", &["id"]).await;
    let mut log = stand.follow(&selection).await;
    stand.run("INSERT INTO u VALUES (7, 'a') ON CONFLICT (m) DO UPDATE SET m = 'z'; INSERT OR IGNORE INTO u VALUES (2, 'q')").await;
    assert_eq!(all(&stand, &mut *log).await, map(&[told("1", r#"1 "z""#)]));
    let before = stand.number("SELECT count(*) FROM _fides_outbox").await;
    stand.run("UPDATE u SET m = m").await;
    assert_eq!(stand.number("SELECT count(*) FROM _fides_outbox").await - before, 2, "a row for each, no more");
}

#[tokio::test]
async fn composite_keys_keep_their_types_and_names_may_be_odd() {
    let stand = Stand::new(
        r#"CREATE TABLE "o""d; t" ("a b" INTEGER NOT NULL, "c""" BLOB NOT NULL, d TEXT NOT NULL, "order",
           PRIMARY KEY (d, "a b", "c""")) WITHOUT ROWID"#,
    )
    .await;
    let selection = stand.selection("o\"d; t", &["d", "a b", "c\""]).await;
    let mut log = stand.follow(&selection).await;
    stand.run(r#"INSERT INTO "o""d; t" VALUES (-5, x'00ff', 'a''b' || char(10), 1.5), (7, x'', '', NULL)"#).await;
    stand.run(r#"DELETE FROM "o""d; t" WHERE "a b" = 7"#).await;
    let found = all(&stand, &mut *log).await;
    let key = |d: &'static str, a: i64, c: &'static [u8]| {
        Key::encode(&[Value::String(d.into()), Value::I64(a), Value::Bytes(c.into())]).unwrap().to_string()
    };
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[&key("a'b\n", -5, &[0, 255])].is_some(), "{found:?}");
    assert!(found[&key("", 7, &[])].is_none(), "{found:?}");
}

#[tokio::test]
async fn a_key_without_a_type_keeps_apart_what_is_alike() {
    let stand =
        Stand::new("CREATE TABLE t (k PRIMARY KEY NOT NULL, x); INSERT INTO t VALUES (7, 1), ('7', 2), (x'37', 3)")
            .await;
    let selection = stand.selection("t", &["k"]).await;
    let mut log = stand.follow(&selection).await;
    stand.run("DELETE FROM t WHERE k = '7'").await;
    let text = Key::encode(&[Value::String("7".into())]).unwrap().to_string();
    assert_eq!(all(&stand, &mut *log).await, map(&[gone(&text)]));
    stand.run("DELETE FROM t WHERE k = 7").await;
    assert_eq!(all(&stand, &mut *log).await, map(&[gone("7")]));
}

#[tokio::test]
async fn cascades_and_emptied_tables_are_told_row_by_row() {
    let stand = Stand::new(
        "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE);
         INSERT INTO p VALUES (1); INSERT INTO c VALUES (10, 1), (11, 1), (12, NULL)",
    )
    .await;
    let selection = stand.selection("c", &["id"]).await;
    let mut log = stand.follow(&selection).await;
    stand.run("PRAGMA foreign_keys = ON; DELETE FROM p; PRAGMA foreign_keys = OFF").await;
    assert_eq!(all(&stand, &mut *log).await, map(&[gone("10"), gone("11")]));
    stand.run("DELETE FROM c").await;
    assert_eq!(all(&stand, &mut *log).await, map(&[gone("12")]));
}

#[tokio::test]
async fn snapshots_are_ordered_among_the_changes() {
    let stand = Stand::new(ITEM).await;
    let selection = stand.selection("item", &["id"]).await;
    let mut log = stand.follow(&selection).await;
    let mut positions = Vec::new();
    for name in ["x", "y", "z"] {
        positions.push(stand.position(&selection).await);
        stand.run(&format!("UPDATE item SET name = '{name}' WHERE id = 1")).await;
        positions.push(next(&mut *log).await.unwrap().changes[0].position);
    }
    positions.push(stand.position(&selection).await);
    // A snapshot has sequence 0, so that a change at its position is not in it.
    for pair in positions.chunks(2) {
        assert!(pair.get(1).is_none_or(|change| pair[0] <= *change), "{positions:?}");
    }
    assert!(positions[1..].chunks(2).all(|pair| pair[0] < pair[1]), "{positions:?}");
    let (one, two) = (stand.position(&selection).await, stand.position(&selection).await);
    let told = stand.number("SELECT seq FROM sqlite_sequence WHERE name = '_fides_outbox'").await.cast_unsigned();
    assert!(two > told, "whatever it sees has a lower position, also what is written while it is opened");
    assert!(one < two, "what no trigger told is newer all the same");
}

#[tokio::test]
async fn a_change_without_a_key_is_passed_over() {
    let stand = Stand::new("CREATE TABLE t (k TEXT UNIQUE, x)").await;
    let selection = stand.selection("t", &["k"]).await;
    let mut log = stand.follow(&selection).await;
    stand.run("INSERT INTO t VALUES (NULL, 1); INSERT INTO t VALUES ('a', 2); DELETE FROM t WHERE k IS NULL").await;
    assert_eq!(all(&stand, &mut *log).await, map(&[told("a", r#""a" 2"#)]));
}
