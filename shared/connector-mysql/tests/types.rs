//! Every type comes out as a value that loses nothing, and goes in again as it was.

#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::{Database, rows};
use fides_core::port::{Outcome, Sink, Write};
use fides_core::{Change, Field, Key, Lane, Op, PipelineId, Shape, Value, Version, encode_row};

fn string(text: &str) -> Value<'_> {
    Value::String(text.into())
}

/// Type, literal, and the value it reads as.
fn cases() -> Vec<(&'static str, &'static str, Value<'static>)> {
    let decimal = |text: &'static str| Value::Decimal(text.into());
    let timestamp = |text: &'static str| Value::Timestamp(text.into());
    let time = |text: &'static str| Value::Time(text.into());
    let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec().into());
    vec![
        ("tinyint", "-128", Value::I64(-128)),
        ("boolean", "TRUE", Value::Bool(true)),
        ("tinyint(1)", "7", Value::I64(7)),
        ("smallint unsigned", "65535", Value::I64(65_535)),
        ("mediumint", "-8388608", Value::I64(-8_388_608)),
        ("int(6) unsigned zerofill", "42", Value::I64(42)),
        ("int unsigned", "4294967295", Value::I64(4_294_967_295)),
        ("bigint", "-9223372036854775808", Value::I64(i64::MIN)),
        ("bigint unsigned", "18446744073709551615", Value::U64(u64::MAX)),
        (
            "decimal(65,30)",
            "12345678901234567890123456789012345.012345678901234567890123456789",
            decimal("12345678901234567890123456789012345.012345678901234567890123456789"),
        ),
        ("decimal(10,2)", "-1.50", decimal("-1.50")),
        ("float", "0.1", Value::F64(0.1)),
        ("float", "16777215", Value::F64(16_777_215.0)),
        ("double", "0.1", Value::F64(0.1)),
        ("double", "1.7976931348623157e308", Value::F64(f64::MAX)),
        ("double", "5e-324", Value::F64(5e-324)),
        ("bit(1)", "b'1'", Value::U64(1)),
        ("bit(64)", "18446744073709551615", Value::U64(u64::MAX)),
        ("char(4)", "'ab'", string("ab")),
        (
            "varchar(60)",
            "'tab\\t nl\\n bs\\\\ q\" a\\' nul\\0 é 日本 😀 '",
            string("tab\t nl\n bs\\ q\" a' nul\0 é 日本 😀 "),
        ),
        ("varchar(9) CHARACTER SET latin1", "'é€'", string("é€")),
        ("text", "''", string("")),
        ("enum('so \"so\"', 'b')", "'so \"so\"'", string("so \"so\"")),
        ("set('a', 'b', 'c')", "'a,c'", string("a,c")),
        ("binary(4)", "X'00ff'", bytes(&[0, 255, 0, 0])),
        ("varbinary(9)", "X'00ff5c0a27'", bytes(&[0, 255, 0x5c, 10, 0x27])),
        ("longblob", "X''", bytes(&[])),
        ("uuid", "'00112233-4455-6677-8899-AABBCCDDEEFF'", Value::Uuid(std::array::from_fn(|at| at as u8 * 0x11))),
        ("inet6", "'::ffff:10.0.0.1'", string("::ffff:10.0.0.1")),
        ("date", "'2024-02-29'", Value::Date("2024-02-29".into())),
        ("date", "'0000-00-00'", string("0000-00-00")),
        ("time(6)", "'13:05:00.25'", time("13:05:00.25")),
        ("time", "'24:00:00'", time("24:00:00")),
        ("time", "'-838:59:59'", string("-838:59:59")),
        ("datetime", "'9999-12-31 23:59:59'", timestamp("9999-12-31T23:59:59")),
        ("datetime(6)", "'2024-02-29 13:05:00.000001'", timestamp("2024-02-29T13:05:00.000001")),
        ("datetime", "'0000-00-00 00:00:00'", string("0000-00-00 00:00:00")),
        ("timestamp(6) NULL", "'2024-02-29 13:05:00.25'", timestamp("2024-02-29T13:05:00.25Z")),
        ("year", "2024", Value::I64(2_024)),
        (
            "json",
            "'{ \"a\" :1.0, \"a\": 12345678901234567890}'",
            Value::Json("{ \"a\" :1.0, \"a\": 12345678901234567890}".into()),
        ),
        (
            "point",
            "POINT(1, 2)",
            bytes(&[0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0x40]),
        ),
    ]
}

async fn table_of_types(database: &Database) -> Vec<Value<'static>> {
    let cases = cases();
    let columns: Vec<String> = cases.iter().enumerate().map(|(at, (ty, ..))| format!("c{at} {ty}")).collect();
    let literals: Vec<&str> = cases.iter().map(|(_, literal, _)| *literal).collect();
    let nulls = vec!["NULL"; cases.len()].join(", ");
    let mut connection = database.connect().await;
    common::execute(&mut connection, "SET sql_mode = 'NO_ENGINE_SUBSTITUTION', NAMES utf8mb4, time_zone = '+00:00'")
        .await;
    common::execute(&mut connection, &format!("CREATE TABLE a (id int PRIMARY KEY, {})", columns.join(", "))).await;
    common::execute(&mut connection, &format!("INSERT INTO a VALUES (1, {}), (2, {nulls})", literals.join(", "))).await;
    cases.into_iter().map(|(.., value)| value).collect()
}

#[tokio::test]
async fn every_type_is_read_without_loss() {
    let database = Database::create().await;
    let expected = table_of_types(&database).await;
    let host = database.host(1).await;
    let selection = database.selection(&*host, "a", &["id"], 10).await;
    let found = rows(&*host.snapshot(&selection, Version::default()).await.unwrap()).await;
    assert_eq!(found.len(), 2);
    for (((ty, literal, _), found), expected) in cases().iter().zip(&found[0][1..]).zip(&expected) {
        assert_eq!(found, expected, "{ty} {literal}");
    }
    assert!(found[1][1..].iter().all(|value| *value == Value::Null), "{:?}", found[1]);
}

#[tokio::test]
async fn what_was_read_is_written_as_it_was() {
    let database = Database::create().await;
    table_of_types(&database).await;
    database.execute("CREATE TABLE b LIKE a").await;
    let host = database.host(1).await;
    let selection = database.selection(&*host, "a", &["id"], 10).await;
    let read = rows(&*host.snapshot(&selection, Version::default()).await.unwrap()).await;
    let target = fides_connector_mysql::target(&database.url, 1, 20_000).await.unwrap();
    let fields = selection.columns.iter().map(|column| Field { name: column.name.clone(), kind: column.kind });
    let shape = Shape { fields: fields.collect(), key: vec![0] };
    let pipeline = PipelineId::new("types");
    let sink = Sink { pipeline: pipeline.clone(), namespace: database.table("b"), version_field: None };
    let lane = Lane { pipeline, index: 0 };
    target.prepare(&sink, &shape, false).await.unwrap();
    target.claim(&sink, &lane, 1).await.unwrap();
    let change = |row: &Vec<Value<'static>>| {
        let mut document = Vec::new();
        encode_row(&mut document, row);
        let op = Op::Upsert(Bytes::from(document));
        Change {
            key: Key::encode(&row[..1]).unwrap(),
            version: Version::scan(1, 1),
            fingerprint: None,
            op,
            forced: false,
        }
    };
    let changes: Vec<Change> = read.iter().map(change).collect();
    // Twice: as a new row, and over one that is there.
    for _ in 0..2 {
        let write = Write { sink: &sink, shape: &shape, lane: &lane, token: 1 };
        for outcome in target.apply(&write, &changes).await {
            assert!(matches!(outcome, Outcome::Applied), "{outcome:?}");
        }
    }
    let again = fides_core::Selection { namespace: database.table("b"), ..selection };
    let written = host.snapshot(&again, Version::default()).await.unwrap();
    for (written, read) in rows(&*written).await.iter().zip(&read) {
        for ((written, read), (ty, literal, _)) in written[1..].iter().zip(&read[1..]).zip(cases()) {
            assert_eq!(written, read, "{ty} {literal}");
        }
    }
}

#[tokio::test]
async fn no_two_rows_share_their_bytes() {
    let database = Database::create().await;
    database
        .execute("CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY, a varchar(9), b varchar(9), c varbinary(9))")
        .await;
    let pool = ["NULL", "''", "'a'", "'a '", "'A'", "'\\0'", "'NULL'", "'aa'", "'\\'", "','"];
    let pool: Vec<String> = pool.iter().map(|text| text.replace("'\\'", "'\\\\'")).collect();
    let tuples = pool.iter().flat_map(|a| pool.iter().map(move |b| format!("({a}, {b}, NULL), ({a}, NULL, {b})")));
    database.execute(&format!("INSERT INTO t (a, b, c) VALUES {}", tuples.collect::<Vec<_>>().join(", "))).await;
    let host = database.host(1).await;
    let mut selection = database.selection(&*host, "t", &["id"], 1_000).await;
    selection.seed = 3;
    let snapshot = host.snapshot(&selection, Version::default()).await.unwrap();
    let page = snapshot.scan(&fides_core::KeyRange::ALL, None).await.unwrap();
    let mut rests: Vec<Vec<Value<'_>>> = Vec::new();
    let mut bytes: Vec<Vec<u8>> = Vec::new();
    for at in 0..page.len() {
        let values = page.values(at).unwrap();
        // Behind the cell of the id: one byte, its length, its digits.
        let digits = values[0].kind().map(|_| fides_format::to_json(&values[0]).len()).unwrap();
        rests.push(values[1..].to_vec());
        bytes.push(page.rows.get(at)[2 + digits..].to_vec());
    }
    for a in 0..rests.len() {
        for b in 0..a {
            assert_eq!(rests[a] == rests[b], bytes[a] == bytes[b], "{:?} and {:?}", rests[a], rests[b]);
        }
    }
}
