//! Every type comes out as a value that loses nothing, goes in again as it was, and no two rows share a line.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;

use bytes::Bytes;
use common::cases::{cases, table_of_types};
use common::{Database, rows, selection, table};
use fides_core::port::{Outcome, Sink, Write};
use fides_core::{Change, Field, Fingerprint, Key, KeyRange, Lane, Op, PipelineId, Shape, Value, Version, encode_row};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

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
