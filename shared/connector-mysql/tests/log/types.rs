//! Whatever a column holds, what the log tells is what a scan reads.

use fides_core::{Key, KeyRange, Value};

use crate::common::Database;
use crate::support::{Change, Seen, open, page, same_as_scanned, scan, seen};

/// Types of keys, and literals of several values each.
const KEYS: &[(&str, &[&str])] = &[
    ("tinyint", &["-128", "127", "0"]),
    ("tinyint unsigned", &["255", "7"]),
    ("boolean", &["0", "1"]),
    ("smallint", &["-32768", "32767"]),
    ("smallint unsigned", &["65535", "1"]),
    ("mediumint", &["-8388608", "-1", "8388607"]),
    ("mediumint unsigned", &["16777215"]),
    ("int", &["-2147483648", "2147483647"]),
    ("int(6) unsigned zerofill", &["42", "4294967295"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807"]),
    ("bigint unsigned", &["18446744073709551615", "0"]),
    ("year", &["2024", "1901", "0"]),
    ("char(4)", &["'ab'", "'äöüß'", "''"]),
    ("char(255)", &["'ab'", "REPEAT('é', 255)"]),
    ("varchar(60)", &["'tab\\t nl\\n bs\\\\ q\" a\\' 日本 😀'", "''", "'a '"]),
    ("varchar(300)", &["REPEAT('日', 300)", "'x'"]),
    ("varchar(9) CHARACTER SET latin1", &["'é€'", "'ab'"]),
    ("varchar(9) CHARACTER SET ascii", &["'ab'"]),
    ("varchar(9) CHARACTER SET utf8mb3", &["'日本'"]),
    ("enum('so \"so\"', 'it''s', 'b')", &["'so \"so\"'", "'it''s'", "'b'"]),
    ("binary(4)", &["X'00ff'", "X'00000000'", "X'01020304'"]),
    ("varbinary(9)", &["X'00ff5c0a27'", "X''", "X'0100'"]),
    (
        "uuid",
        &[
            "'00112233-4455-1677-8899-AABBCCDDEEFF'",
            "'00112233-4455-4677-8899-AABBCCDDEE00'",
            "'00112233-4455-7677-8899-AABBCCDDEEFF'",
            "'00112233-4455-6677-8899-AABBCCDDEEFF'",
            "'00112233-4455-0677-0899-AABBCCDDEEFF'",
            "'00000000-0000-0000-0000-000000000000'",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        ],
    ),
];

#[tokio::test]
async fn keys_of_every_type_are_those_of_a_scan() {
    let database = Database::create().await;
    let host = database.following().await;
    for (at, (ty, literals)) in KEYS.iter().enumerate() {
        let table = format!("k{at}");
        let mut connection = database.connect().await;
        crate::common::execute(
            &mut connection,
            &format!("SET NAMES utf8mb4; CREATE TABLE {table} (n int, id {ty}, a int, PRIMARY KEY (id, a))"),
        )
        .await;
        let selection = database.selection(&*host, &table, &["id", "a"], 100).await;
        let mut log = open(&database, &*host, &selection, None).await.log;
        let values: Vec<String> = literals.iter().map(|literal| format!("(1, {literal}, 5)")).collect();
        crate::common::execute(&mut connection, &format!("INSERT INTO {table} VALUES {}", values.join(", "))).await;
        let mut changes: Vec<Seen> = Vec::new();
        while changes.len() < literals.len() {
            changes.extend(seen(&page(&mut *log).await));
        }
        same_as_scanned(&*host, &selection, &changes).await;
        let snapshot = scan(&*host, &selection).await;
        let found = snapshot.scan(&KeyRange::ALL, None).await.unwrap();
        let mut told: Vec<&Key> = changes.iter().filter_map(|change| change.what.key()).collect();
        told.sort();
        let keys: Vec<Key> = found.keys.iter().map(Key::from_bytes).collect();
        assert_eq!(told, keys.iter().collect::<Vec<_>>(), "{ty}");
        // A deletion's key comes from the log alone.
        crate::common::execute(&mut connection, &format!("DELETE FROM {table}")).await;
        let mut gone: Vec<Seen> = Vec::new();
        while gone.len() < literals.len() {
            gone.extend(seen(&page(&mut *log).await));
        }
        let mut gone: Vec<&Key> = gone
            .iter()
            .map(|change| match &change.what {
                Change::Gone(key) => key,
                other => panic!("{ty}: {other:?}"),
            })
            .collect();
        gone.sort();
        assert_eq!(gone, keys.iter().collect::<Vec<_>>(), "{ty}");
    }
}

/// Types whose values lie before the key in a row of the log, so that each is measured rightly.
const VALUES: &[(&str, &str)] = &[
    ("tinyint", "-128"),
    ("boolean", "TRUE"),
    ("mediumint", "-8388608"),
    ("bigint unsigned", "18446744073709551615"),
    ("decimal(65,30)", "12345678901234567890123456789012345.012345678901234567890123456789"),
    ("decimal(10,2)", "-1.50"),
    ("decimal(9,0)", "123456789"),
    ("decimal(5,5)", "0.00001"),
    ("float", "0.1"),
    ("double", "1.7976931348623157e308"),
    ("bit(1)", "b'1'"),
    ("bit(12)", "4095"),
    ("bit(64)", "18446744073709551615"),
    ("char(4)", "'ab'"),
    ("char(255)", "'ab'"),
    ("varchar(60)", "'日本 😀'"),
    ("varchar(255) CHARACTER SET latin1", "'é€'"),
    ("varchar(256) CHARACTER SET latin1", "'é€'"),
    ("varchar(9) CHARACTER SET ucs2", "'é€'"),
    ("tinytext", "'t'"),
    ("text", "''"),
    ("mediumtext", "REPEAT('x', 70000)"),
    ("longtext", "REPEAT('x', 300)"),
    ("text COMPRESSED", "REPEAT('x', 300)"),
    ("varchar(500) COMPRESSED", "REPEAT('x', 300)"),
    ("enum('a', 'b')", "'b'"),
    ("set('a', 'b', 'c')", "'a,c'"),
    ("binary(4)", "X'00ff'"),
    ("varbinary(9)", "X'00ff5c0a27'"),
    ("longblob", "X'00'"),
    ("uuid", "'00112233-4455-4677-8899-AABBCCDDEEFF'"),
    ("inet4", "'10.0.0.1'"),
    ("inet6", "'::ffff:10.0.0.1'"),
    ("date", "'2024-02-29'"),
    ("time", "'-838:59:59'"),
    ("time(3)", "'13:05:00.25'"),
    ("time(6)", "'13:05:00.25'"),
    ("datetime", "'9999-12-31 23:59:59'"),
    ("datetime(1)", "'2024-02-29 13:05:00.1'"),
    ("datetime(6)", "'2024-02-29 13:05:00.000001'"),
    ("timestamp NULL", "'2024-02-29 13:05:00'"),
    ("timestamp(4) NULL", "'2024-02-29 13:05:00.25'"),
    ("year", "2024"),
    ("json", "'{ \"a\" :1.0}'"),
    ("point", "POINT(1, 2)"),
];

#[tokio::test]
async fn values_of_every_type_are_those_of_a_scan() {
    let database = Database::create().await;
    let columns: Vec<String> = VALUES.iter().enumerate().map(|(at, (ty, _))| format!("c{at} {ty}")).collect();
    let literals: Vec<&str> = VALUES.iter().map(|(_, literal)| *literal).collect();
    let mut connection = database.connect().await;
    let make =
        format!("SET NAMES utf8mb4; CREATE TABLE t ({}, v int AS (id + 1), id int PRIMARY KEY)", columns.join(", "));
    crate::common::execute(&mut connection, &make).await;
    let host = database.following().await;
    let selection = database.selection(&*host, "t", &["id"], 100).await;
    let mut log = open(&database, &*host, &selection, None).await.log;
    let names: Vec<String> = (0..VALUES.len()).map(|at| format!("c{at}")).collect();
    let (names, nulls) = (names.join(", "), vec!["NULL"; VALUES.len()].join(", "));
    let insert = format!("INSERT INTO t ({names}, id) VALUES ({}, 1), ({nulls}, 2)", literals.join(", "));
    let mut changes: Vec<Seen> = Vec::new();
    for sql in [insert, "UPDATE t SET c0 = 5, id = id + 10".to_owned()] {
        crate::common::execute(&mut connection, &sql).await;
        let before = changes.len();
        while changes.len() < before + 2 {
            changes.extend(seen(&page(&mut *log).await));
        }
    }
    let ids: Vec<i64> = changes.iter().filter_map(|change| id(&change.what)).collect();
    assert_eq!(ids.iter().filter(|id| **id > 10).count(), 2, "{ids:?}");
    same_as_scanned(&*host, &selection, &changes).await;
}

fn id(change: &Change) -> Option<i64> {
    match change.key()?.decode().unwrap()[..] {
        [Value::I64(id)] => Some(id),
        ref other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn compressed_events_are_read() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a text)").await;
    let host = database.following().await;
    let selection = database.selection(&*host, "t", &["id"], 1_000).await;
    let mut log = open(&database, &*host, &selection, None).await.log;
    let mut connection = database.connect().await;
    // Only a whole server can be set to it; others that write meanwhile lose nothing by it.
    crate::common::execute(&mut connection, "SET GLOBAL log_bin_compress = ON").await;
    for sql in [
        "INSERT INTO t SELECT seq, repeat('abc', 500) FROM seq_1_to_300",
        "UPDATE t SET a = repeat('xyz', 500), id = id + 1000",
        "DELETE FROM t",
    ] {
        crate::common::execute(&mut connection, sql).await;
    }
    let mut gone = std::collections::HashSet::new();
    while !(1..=300).all(|id: i64| gone.contains(&(id + 1_000))) {
        for change in seen(&page(&mut *log).await) {
            if let Change::Gone(_) = change.what {
                gone.extend(id(&change.what));
            }
        }
    }
    assert!((1..=300).all(|id: i64| gone.contains(&id)));
    crate::common::execute(&mut connection, "SET GLOBAL log_bin_compress = OFF").await;
}

/// Packets of the protocol have 16 MiB at most; a row may be larger.
#[tokio::test]
async fn a_row_larger_than_a_packet_is_read() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (a longtext, b longtext, id int PRIMARY KEY)").await;
    let host = database.following().await;
    let selection = database.selection(&*host, "t", &["id"], 1_000).await;
    let mut log = open(&database, &*host, &selection, None).await.log;
    let large =
        "INSERT INTO t SELECT repeat('x', 10000000), repeat('y', 10000000), 1; INSERT INTO t VALUES ('', '', 2)";
    database.execute(large).await;
    let mut changes: Vec<Seen> = Vec::new();
    while changes.len() < 2 {
        changes.extend(seen(&page(&mut *log).await));
    }
    assert_eq!(changes.iter().filter_map(|change| id(&change.what)).collect::<Vec<_>>(), [1, 2]);
    same_as_scanned(&*host, &selection, &changes).await;
}
