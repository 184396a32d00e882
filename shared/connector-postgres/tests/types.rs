//! Every type comes out as a value that loses nothing, goes in again as it was, and no two rows share a line.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;

use bytes::Bytes;
use common::{Database, rows, selection, table};
use fides_core::port::{Outcome, Sink, Write};
use fides_core::{Change, Field, Fingerprint, Key, KeyRange, Lane, Op, PipelineId, Shape, Value, Version, encode_row};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

fn string(text: &str) -> Value<'_> {
    Value::String(text.into())
}

/// Type, literal, and the value it reads as.
fn cases() -> Vec<(&'static str, &'static str, Value<'static>)> {
    let decimal = |text: &'static str| Value::Decimal(text.into());
    let timestamp = |text: &'static str| Value::Timestamp(text.into());
    let list = Value::Array;
    vec![
        ("smallint", "-32768", Value::I64(-32_768)),
        ("bigint", "9223372036854775807", Value::I64(i64::MAX)),
        ("oid", "4294967295", Value::I64(4_294_967_295)),
        ("numeric", "12345678901234567890123.4500", decimal("12345678901234567890123.4500")),
        ("numeric", "NaN", decimal("NaN")),
        ("numeric", "-Infinity", decimal("-Infinity")),
        ("real", "0.1", Value::F64(0.1)),
        ("double precision", "-0", Value::F64(-0.0)),
        ("double precision", "1.7976931348623157e308", Value::F64(f64::MAX)),
        ("double precision", "Infinity", Value::F64(f64::INFINITY)),
        ("boolean", "f", Value::Bool(false)),
        ("text", "tab\t nl\n cr\r bs\\ \\N \\. q\" é 日本 😀", string("tab\t nl\n cr\r bs\\ \\N \\. q\" é 日本 😀")),
        ("text", "\\N", string("\\N")),
        ("text", "", string("")),
        ("varchar(5)", "ab c ", string("ab c ")),
        ("char(4)", "ab", string("ab  ")),
        ("name", "n", string("n")),
        ("mood", "so \"so\"", string("so \"so\"")),
        ("short", "dom", string("dom")),
        ("bytea", "\\x00ff5c0a", Value::Bytes(vec![0, 255, 0x5c, 10].into())),
        ("uuid", "00112233-4455-6677-8899-AABBCCDDEEFF", Value::Uuid(std::array::from_fn(|at| at as u8 * 0x11))),
        ("date", "0044-03-15 BC", Value::Date("-0043-03-15".into())),
        ("date", "infinity", Value::Date("infinity".into())),
        ("date", "12024-01-01", Value::Date("12024-01-01".into())),
        ("time", "24:00:00", Value::Time("24:00:00".into())),
        ("timetz", "13:05:00.25+02", Value::Time("13:05:00.25+02:00".into())),
        ("timestamp", "2024-01-01 10:00:00.5", timestamp("2024-01-01T10:00:00.5")),
        ("timestamp", "-infinity", timestamp("-infinity")),
        ("timestamptz", "2024-01-01 10:00:00.5+05:30", timestamp("2024-01-01T04:30:00.5Z")),
        ("timestamptz", "0001-01-01 00:00:00+00 BC", timestamp("0000-01-01T00:00:00Z")),
        ("json", "{ \"a\" :1.0, \"a\":\n2}", Value::Json("{ \"a\" :1.0, \"a\":\n2}".into())),
        ("jsonb", "null", Value::Json("null".into())),
        ("int[]", "{1,NULL,-3}", list(vec![Value::I64(1), Value::Null, Value::I64(-3)])),
        (
            "int[]",
            "{{1,2},{3,4}}",
            list(vec![list(vec![Value::I64(1), Value::I64(2)]), list(vec![Value::I64(3), Value::I64(4)])]),
        ),
        ("int[]", "[0:1]={5,6}", string("[0:1]={5,6}")),
        (
            "text[]",
            r#"{NULL,"NULL","",a b,"q\"\\,{}","	"}"#,
            list(vec![Value::Null, string("NULL"), string(""), string("a b"), string("q\"\\,{}"), string("\t")]),
        ),
        ("bytea[]", r#"{"\\x00ff"}"#, list(vec![Value::Bytes(vec![0, 255].into())])),
        ("timestamptz[]", "{\"2024-01-01 00:00:00+00\"}", list(vec![timestamp("2024-01-01T00:00:00Z")])),
        ("jsonb[]", r#"{"{\"a\": 1}"}"#, list(vec![Value::Json("{\"a\": 1}".into())])),
        ("interval", "1 year 2 mons -3 days 04:05:06.7", string("1 year 2 mons -3 days +04:05:06.7")),
        ("inet", "10.0.0.1/8", string("10.0.0.1/8")),
        ("int4range", "[1,5)", string("[1,5)")),
        ("point", "(1,2)", string("(1,2)")),
        ("box[]", "{(3,4),(1,2);(7,8),(5,6)}", string("{(3,4),(1,2);(7,8),(5,6)}")),
        ("money", "-12.50", string("-$12.50")),
        ("xml", "<a>é</a>", string("<a>é</a>")),
        ("bit(3)", "101", string("101")),
        ("tsvector", "'a':1 'b'", string("'a':1 'b'")),
    ]
}

async fn table_of_types(database: &Database) -> Vec<Value<'static>> {
    let cases = cases();
    database
        .execute("CREATE TYPE mood AS ENUM ('so \"so\"'); CREATE DOMAIN short AS varchar(5) CHECK (value <> 'x')")
        .await;
    let columns: Vec<String> = cases.iter().enumerate().map(|(at, (ty, ..))| format!("c{at} {ty}")).collect();
    database.execute(&format!("CREATE TABLE a (id int PRIMARY KEY, {})", columns.join(", "))).await;
    let literals: Vec<String> = cases.iter().map(|(_, text, _)| format!("'{}'", text.replace('\'', "''"))).collect();
    database.execute(&format!("INSERT INTO a VALUES (1, {}); INSERT INTO a VALUES (2)", literals.join(", "))).await;
    cases.into_iter().map(|(.., value)| value).collect()
}

#[tokio::test]
async fn every_type_is_read_and_written_without_loss() {
    let database = Database::create().await;
    let expected = table_of_types(&database).await;
    let host = database.host(1).await;
    let selection = selection(&*host, "a", &["id"], 10).await;
    let snapshot = host.snapshot(&selection, Version::scan(1, 1)).await.unwrap();
    let found = rows(&*snapshot).await;
    for ((ty, text, _), (found, expected)) in cases().iter().zip(found[0][1..].iter().zip(&expected)) {
        assert_eq!(found, expected, "{ty} {text}");
    }
    assert!(found[1][1..].iter().all(Value::is_null));

    // Into a table of the same types, and compared by the server itself.
    database.execute("CREATE TABLE b (LIKE a INCLUDING ALL)").await;
    let target = fides_connector_postgres::target(&database.url, 1, 10_000).await.unwrap();
    let pipeline = PipelineId::new("types");
    let sink = Sink { pipeline: pipeline.clone(), namespace: table("b"), version_field: None };
    let fields = selection.columns.iter().map(|column| Field { name: column.name.clone(), kind: column.kind });
    let shape = Shape { fields: fields.collect(), key: vec![0] };
    let lane = Lane { pipeline, index: 0 };
    target.prepare(&sink, &shape, false).await.unwrap();
    target.claim(&sink, &lane, 1).await.unwrap();
    let change = |row: &Vec<Value<'static>>| {
        let mut document = Vec::new();
        encode_row(&mut document, row);
        Change {
            key: Key::encode(&row[..1]).unwrap(),
            version: Version::scan(1, 1),
            fingerprint: Some(Fingerprint(1)),
            op: Op::Upsert(Bytes::from(document)),
            forced: false,
        }
    };
    let changes: Vec<Change> = found.iter().map(change).collect();
    let write = Write { sink: &sink, shape: &shape, lane: &lane, token: 1 };
    let outcomes = target.apply(&write, &changes).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Applied)), "{outcomes:?}");
    let mut connection = database.connect().await;
    for at in 0..expected.len() {
        let same =
            format!("SELECT (SELECT c{at}::text FROM a WHERE id = 1) = (SELECT c{at}::text FROM b WHERE id = 1)");
        let same: Option<bool> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(same)).fetch_one(&mut connection).await.unwrap();
        assert_eq!(same, Some(true), "{:?}", cases()[at]);
    }
}

/// What follows the key of a raw line.
fn rest(line: &[u8]) -> Vec<u8> {
    let key = line.iter().position(|&byte| byte == b'\t').unwrap();
    line[key..].to_vec()
}

#[tokio::test]
async fn two_different_rows_never_have_equal_lines() {
    let database = Database::create().await;
    let odd = [
        "", " ", "\\N", "\\\\N", "N", "\t", "\\t", "\n", "\\n", "\\", "\\\\", "a\tb", "a", "b", "NULL", "\r", "{}",
        ",", "\u{1}", "\u{85}", "é", "e\u{301}", "\\.", "'", "\"",
    ];
    let mut pool: Vec<Option<String>> = odd.iter().map(|text| Some((*text).to_owned())).collect();
    let mut runner = TestRunner::deterministic();
    let random = proptest::string::string_regex("[\\\\tnN\t\n\r,]{0,4}").unwrap();
    pool.extend((0..25).map(|_| Some(random.new_tree(&mut runner).unwrap().current())));
    pool.push(None);
    pool.sort();
    pool.dedup();
    database.execute("CREATE TABLE t (id serial PRIMARY KEY, a text, b text, c text[], d jsonb, e numeric)").await;
    let mut connection = database.connect().await;
    sqlx::query("INSERT INTO t (a, b) SELECT x, y FROM unnest($1::text[]) x CROSS JOIN unnest($1::text[]) y")
        .bind(&pool)
        .execute(&mut connection)
        .await
        .unwrap();
    // As far apart as types can be whose equality is looser than their text.
    database.execute(
        "INSERT INTO t (c) VALUES ('{a,b}'), ('{\"a,b\"}'), ('{NULL}'), ('{\"NULL\"}'), ('{{a},{b}}'), ('{}'), ('[0:1]={a,b}'); \
         INSERT INTO t (d) VALUES ('[[1],2]'), ('[[1,2]]'), ('[1.0]'), ('[1.00]'), ('{}'), ('null'), ('\"null\"'); \
         INSERT INTO t (e) VALUES (1.0), (1.00), (1), (10), ('NaN')",
    ).await;
    let host = database.host(1).await;
    let snapshot = host.snapshot(&selection(&*host, "t", &["id"], 100_000).await, Version::default()).await.unwrap();
    let page = snapshot.scan(&KeyRange::ALL, None).await.unwrap();
    assert_eq!(page.len(), pool.len() * pool.len() + 19);
    let lines: HashSet<Vec<u8>> = page.rows.iter().map(rest).collect();
    assert_eq!(lines.len(), page.len(), "one line for each row");
    let prints: HashSet<Fingerprint> = page.fingerprints.iter().copied().collect();
    assert_eq!(prints.len(), page.len());
    for (at, (a, b)) in pool.iter().flat_map(|a| pool.iter().map(move |b| (a, b))).enumerate() {
        let values = page.values(at).unwrap();
        let value = |text: &Option<String>| text.clone().map_or(Value::Null, |text| Value::String(text.into()));
        assert_eq!(values[1..3], [value(a), value(b)]);
    }
}

#[tokio::test]
async fn any_text_is_a_safe_literal() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (a text, b bytea, c bigint, PRIMARY KEY (a, b, c))").await;
    let mut runner = TestRunner::deterministic();
    let strategy = (
        proptest::prop_oneof!["[^\\x00]{0,12}", "['\\\\\"$;\n-]{0,8}"],
        proptest::collection::vec(proptest::num::u8::ANY, 0..5),
        proptest::num::i64::ANY,
    );
    let mut keys = HashSet::new();
    let mut connection = database.connect().await;
    for _ in 0..300 {
        let (a, b, c) = strategy.new_tree(&mut runner).unwrap().current();
        let inserted =
            sqlx::query("INSERT INTO t VALUES ($1, $2, $3) ON CONFLICT DO NOTHING").bind(&a).bind(&b).bind(c);
        inserted.execute(&mut connection).await.unwrap();
        keys.insert(Key::encode(&[Value::String(a.into()), Value::Bytes(b.into()), Value::I64(c)]).unwrap());
    }
    let mut keys: Vec<Key> = keys.into_iter().collect();
    keys.sort();
    for conforming in ["on", "off"] {
        database.execute(&format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET standard_conforming_strings = {conforming}', current_database()); END $$"
        )).await;
        let host = database.host(2).await;
        let snapshot =
            host.snapshot(&selection(&*host, "t", &["a", "b", "c"], 50).await, Version::default()).await.unwrap();
        let fetched = snapshot.fetch(&keys).await.unwrap();
        assert_eq!(fetched.len(), keys.len(), "every key is found, standard_conforming_strings = {conforming}");
        for (at, after) in keys.iter().enumerate().step_by(7) {
            let range = KeyRange { lower: Some(after.clone()), upper: keys.get(at + 3).cloned() };
            let page = snapshot.scan(&range, None).await.unwrap();
            let expected: Vec<&[u8]> = keys[at..keys.len().min(at + 3)].iter().map(Key::as_bytes).collect();
            assert_eq!(page.keys.iter().take(3).collect::<Vec<_>>(), expected);
        }
    }
}
