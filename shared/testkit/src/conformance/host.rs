//! What every [`Host`] must do. A connector's test calls `fides_testkit::host_conformance!(fixture().await)`.

use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::{Host, Snapshot};
use fides_core::{Arity, FaultKind, Include, Key, KeyRange, Kind, Namespace, Selection, Value, Version};
use fides_format::{parse_json, same};

use super::{Record, Spec, column, records, scan_all, scan_range};

/// A store with a connector over it. Changes go straight to the store, past the connector.
#[async_trait]
pub trait HostFixture: Send + Sync {
    /// The connector under test.
    fn host(&self) -> Arc<dyn Host>;
    /// Where `table` is.
    fn namespace(&self, table: &str) -> Namespace;
    /// Creates an empty table.
    async fn create(&self, spec: &Spec);
    /// Adds rows, committed when this returns.
    async fn insert(&self, spec: &Spec, rows: &[Vec<Value<'static>>]);
    /// Removes the row with that key.
    async fn delete(&self, spec: &Spec, key: &[Value<'static>]);
    /// Why a case cannot be run against this store.
    fn cannot(&self, _case: &str) -> Option<&'static str> {
        None
    }
}

/// One test for each case, over a fixture of its own.
#[macro_export]
macro_rules! host_conformance {
    ($fixture:expr) => {
        $crate::host_conformance!($fixture;
            empty_table, scan_is_ordered_and_repeatable, pages_are_bounded, plan_covers_every_key_once,
            fetch_is_exact, text_keys, byte_keys, uuid_keys, composite_keys, bool_keys, extreme_numbers, odd_text,
            nulls, every_kind, snapshot_is_isolated, includes_many, includes_one, includes_nest, a_second_match_fails_alone,
            fingerprints_follow_the_row, missing_things_are_named, describes_what_is_there);
    };
    ($fixture:expr; $($case:ident),+) => {
        mod host_conformance {
            use super::*;
            $(#[tokio::test]
            async fn $case() {
                let fixture = $fixture;
                match $crate::conformance::host::HostFixture::cannot(&fixture, stringify!($case)) {
                    Some(reason) => eprintln!("cannot host/{}: {reason}", stringify!($case)),
                    None => $crate::conformance::host::$case(&fixture).await,
                }
            })+
        }
    };
}

const DRAWN: Version = Version::scan(3, 41);

fn items() -> Spec {
    Spec::new("items", 1, &[column("id", Kind::I64), column("name", Kind::String), column("amount", Kind::I64)])
}

fn item(id: i64) -> Vec<Value<'static>> {
    vec![Value::I64(id), Value::String(format!("item {id}").into()), Value::I64(id.wrapping_mul(3))]
}

fn key(columns: &[Value<'static>]) -> Key {
    Key::encode(columns).expect("the suites' keys can be encoded")
}

async fn filled(fixture: &dyn HostFixture, spec: &Spec, rows: &[Vec<Value<'static>>]) {
    fixture.create(spec).await;
    fixture.insert(spec, rows).await;
}

async fn open(fixture: &dyn HostFixture, selection: &Selection) -> Arc<dyn Snapshot> {
    let snapshot = fixture.host().snapshot(selection, DRAWN).await.expect("a snapshot can be opened");
    assert!(snapshot.version() >= Version::scan(DRAWN.epoch, 0), "a snapshot takes the drawn epoch");
    snapshot
}

async fn read(fixture: &dyn HostFixture, spec: &Spec) -> Vec<Record> {
    let snapshot = open(fixture, &spec.selection(fixture.namespace(spec.name), 3)).await;
    scan_all(&*snapshot).await.expect("the table can be read")
}

fn first_columns(records: &[Record]) -> Vec<Value<'static>> {
    records.iter().map(|record| record.values[0].clone()).collect()
}

/// Nothing is one empty page with a proven end, in every range of any plan.
pub async fn empty_table(fixture: &dyn HostFixture) {
    let spec = items();
    fixture.create(&spec).await;
    let snapshot = open(fixture, &spec.selection(fixture.namespace(spec.name), 10)).await;
    for want in [1, 4] {
        for range in snapshot.plan(want).await.expect("an empty table can be planned") {
            assert_eq!(scan_range(&*snapshot, &range).await.expect("and read"), []);
        }
    }
    let page = snapshot.fetch(&[key(&[Value::I64(1)])]).await.expect("and fetched from");
    assert!(page.is_empty() && page.next.is_none());
    assert!(snapshot.fetch(&[]).await.expect("no keys, no records").is_empty());
}

/// Keys ascend; the same cursor gives the same page, whatever was read in between.
pub async fn scan_is_ordered_and_repeatable(fixture: &dyn HostFixture) {
    let spec = items();
    let ids = [5, -3, 900, 0, 17, i64::MIN, 2, i64::MAX, -1, 44, 18];
    filled(fixture, &spec, &ids.map(item)).await;
    let snapshot = open(fixture, &spec.selection(fixture.namespace(spec.name), 4)).await;
    let all = scan_all(&*snapshot).await.expect("the table can be read");
    let mut sorted = ids;
    sorted.sort_unstable();
    assert_eq!(first_columns(&all), sorted.map(Value::I64));
    for from in (0..all.len()).rev() {
        let after = &all[from].key;
        let page = snapshot.scan(&KeyRange::ALL, Some(after)).await.expect("any cursor can be read from");
        let expected = &all[from + 1..all.len().min(from + 5)];
        assert_eq!(records(&page).expect("rows decode"), expected, "after {after}");
    }
    let between = key(&[Value::I64(3)]);
    let page = snapshot.scan(&KeyRange::ALL, Some(&between)).await.expect("a cursor need not exist");
    assert_eq!(page.keys.get(0), key(&[Value::I64(5)]).as_bytes());
}

/// No page is larger than the selection allows, and the end is told exactly or by an empty page.
pub async fn pages_are_bounded(fixture: &dyn HostFixture) {
    let spec = items();
    filled(fixture, &spec, &(0..9).map(item).collect::<Vec<_>>()).await;
    for max in [1, 3, 8, 9, 10] {
        let snapshot = open(fixture, &spec.selection(fixture.namespace(spec.name), max)).await;
        let (mut met, mut after) = (0, None);
        loop {
            let page = snapshot.scan(&KeyRange::ALL, after.as_ref()).await.expect("the table can be read");
            assert!(page.len() <= max, "{} records on a page of {max}", page.len());
            met += page.len();
            let Some(next) = page.next else { break };
            assert_eq!(Some(next.as_bytes()), page.keys.iter().last(), "the cursor is the last key");
            after = Some(next);
        }
        assert_eq!(met, 9, "in pages of {max}");
    }
}

/// Ranges follow one another without gap or overlap, for any number wanted and any kind of key.
pub async fn plan_covers_every_key_once(fixture: &dyn HostFixture) {
    let numbers = items();
    let ids = (0..40).map(|at| at * 7).chain([i64::MIN, -5, i64::MAX - 1, i64::MAX]);
    filled(fixture, &numbers, &ids.map(item).collect::<Vec<_>>()).await;
    let texts = Spec::new("texts", 2, &[column("a", Kind::String), column("b", Kind::I64)]);
    let rows = |at: i64| vec![Value::String(format!("k{}", at % 4).into()), Value::I64(at)];
    filled(fixture, &texts, &(0..40).map(rows).collect::<Vec<_>>()).await;
    for spec in [numbers, texts] {
        let snapshot = open(fixture, &spec.selection(fixture.namespace(spec.name), 6)).await;
        let all = scan_all(&*snapshot).await.expect("the table can be read");
        for want in [1, 2, 3, 7, 100] {
            let plan = snapshot.plan(want).await.expect("the table can be planned");
            assert!((1..=want).contains(&plan.len()), "{} ranges for {want}", plan.len());
            assert!(plan[0].lower.is_none() && plan[plan.len() - 1].upper.is_none(), "open at both ends");
            assert!(plan.windows(2).all(|pair| pair[0].upper.is_some() && pair[0].upper == pair[1].lower));
            let mut met = Vec::new();
            for range in &plan {
                let part = scan_range(&*snapshot, range).await.expect("a range can be read");
                assert!(part.iter().all(|record| range.contains(record.key.as_bytes())));
                met.extend(part);
            }
            assert_eq!(met, all, "{} in {want} ranges", spec.name);
        }
    }
}

/// Keys in any order, some absent, one twice: the page holds what exists, once, in key order.
pub async fn fetch_is_exact(fixture: &dyn HostFixture) {
    let spec = items();
    filled(fixture, &spec, &(0..2000).step_by(2).map(item).collect::<Vec<_>>()).await;
    let snapshot = open(fixture, &spec.selection(fixture.namespace(spec.name), 3)).await;
    let asked: Vec<Key> = (0..1500).rev().chain([8, 9]).map(|id| key(&[Value::I64(id)])).collect();
    let page = snapshot.fetch(&asked).await.expect("keys can be fetched");
    let expected: Vec<_> = (0..1500).step_by(2).map(Value::I64).collect();
    let found = records(&page).expect("rows decode");
    assert_eq!(first_columns(&found), expected);
    let scanned = scan_all(&*snapshot).await.expect("the table can be read");
    assert_eq!(found, scanned[..750], "a fetched record is the scanned one, fingerprint included");
    assert!(page.find(key(&[Value::I64(7)]).as_bytes()).is_none());
}

async fn keys_in_order(fixture: &dyn HostFixture, spec: &Spec, mut rows: Vec<Vec<Value<'static>>>) {
    rows.reverse();
    filled(fixture, spec, &rows).await;
    let found = read(fixture, spec).await;
    rows.sort_by_key(|row| key(&row[..spec.key.len()]));
    assert_eq!(found.iter().map(|record| record.values.clone()).collect::<Vec<_>>(), rows);
    let keys: Vec<Key> = rows.iter().map(|row| key(&row[..spec.key.len()])).collect();
    assert_eq!(found.iter().map(|record| record.key.clone()).collect::<Vec<_>>(), keys);
    let snapshot = open(fixture, &spec.selection(fixture.namespace(spec.name), 2)).await;
    let page = snapshot.fetch(&keys).await.expect("every key can be fetched");
    assert_eq!(page.len(), keys.len(), "every key is found under itself");
    for (at, after) in keys.iter().enumerate() {
        let page = snapshot.scan(&KeyRange::ALL, Some(after)).await.expect("every key is a cursor");
        assert_eq!(page.keys.iter().next(), keys.get(at + 1).map(Key::as_bytes), "after {after}");
    }
}

/// By code point, not by any language or case.
pub async fn text_keys(fixture: &dyn HostFixture) {
    let spec = Spec::new("words", 1, &[column("word", Kind::String), column("n", Kind::I64)]);
    let words = [
        "", " ", "A", "B", "Z", "a", "a ", "ab", "b", "é", "e\u{301}", "ß", "ss", "\u{ffff}", "😀", "中", "_", "%",
        "'", "\"", "\\",
    ];
    let row = |(at, word): (usize, &&'static str)| vec![Value::String((*word).into()), Value::I64(at as i64)];
    keys_in_order(fixture, &spec, words.iter().enumerate().map(row).collect()).await;
}

/// Byte by byte.
pub async fn byte_keys(fixture: &dyn HostFixture) {
    let spec = Spec::new("blobs", 1, &[column("digest", Kind::Bytes)]);
    let keys: [&[u8]; 7] = [&[], &[0], &[0, 0], &[0, 255], &[1], &[127, 128], &[255]];
    keys_in_order(fixture, &spec, keys.iter().map(|key| vec![Value::Bytes((*key).into())]).collect()).await;
}

/// In the order of their bytes.
pub async fn uuid_keys(fixture: &dyn HostFixture) {
    let spec = Spec::new("things", 1, &[column("id", Kind::Uuid)]);
    let uuid = |first: u8| {
        let mut bytes = [0x5a; 16];
        bytes[0] = first;
        vec![Value::Uuid(bytes)]
    };
    keys_in_order(fixture, &spec, [0x00, 0x09, 0x0a, 0x9f, 0xa0, 0xff].map(uuid).to_vec()).await;
}

/// Column by column.
pub async fn composite_keys(fixture: &dyn HostFixture) {
    let spec =
        Spec::new("pairs", 2, &[column("a", Kind::String), column("b", Kind::I64), column("note", Kind::String)]);
    let mut rows = Vec::new();
    for a in ["", "a", "a\u{1}", "aa", "b"] {
        for b in [i64::MIN, -1, 0, 1, i64::MAX] {
            rows.push(vec![Value::String(a.into()), Value::I64(b), Value::Null]);
        }
    }
    keys_in_order(fixture, &spec, rows).await;
}

/// False before true.
pub async fn bool_keys(fixture: &dyn HostFixture) {
    let spec = Spec::new("switches", 2, &[column("on", Kind::Bool), column("id", Kind::I64)]);
    let rows = [true, false].map(|on| [3, 1].map(|id| vec![Value::Bool(on), Value::I64(id)]));
    keys_in_order(fixture, &spec, rows.concat()).await;
}

/// No integer passes through a float.
pub async fn extreme_numbers(fixture: &dyn HostFixture) {
    let spec = items();
    let near = (1i64 << 53) + 1;
    let numbers = [i64::MIN, i64::MIN + 1, -near, near, i64::MAX - 1, i64::MAX];
    let row = |number: i64| vec![Value::I64(number), Value::Null, Value::I64(number)];
    keys_in_order(fixture, &spec, numbers.map(row).to_vec()).await;
}

/// Whatever text holds comes back as it was.
pub async fn odd_text(fixture: &dyn HostFixture) {
    let spec = items();
    let texts = [
        "",
        " x ",
        "tab\t nl\n cr\r bs\\ \\N \\. q\" a'",
        "e\u{301} ≠ é",
        "\u{1}\u{7f}\u{feff}",
        "日本語 العربية 😀",
        "NULL",
    ];
    let row =
        |(id, text): (usize, &&'static str)| vec![Value::I64(id as i64), Value::String((*text).into()), Value::Null];
    keys_in_order(fixture, &spec, texts.iter().enumerate().map(row).collect()).await;
}

/// NULL is NULL, and neither empty nor zero.
pub async fn nulls(fixture: &dyn HostFixture) {
    let spec = items();
    let rows = vec![
        vec![Value::I64(1), Value::Null, Value::Null],
        vec![Value::I64(2), Value::String("".into()), Value::I64(0)],
        vec![Value::I64(3), Value::Null, Value::I64(0)],
    ];
    keys_in_order(fixture, &spec, rows).await;
}

/// A table with a column of every kind that stores declare, and two rows of it.
pub(super) fn kinds() -> (Spec, Vec<Vec<Value<'static>>>) {
    let columns: Vec<_> = [
        ("id", Kind::I64),
        ("truth", Kind::Bool),
        ("amount", Kind::Decimal),
        ("ratio", Kind::F64),
        ("name", Kind::String),
        ("raw", Kind::Bytes),
        ("ref", Kind::Uuid),
        ("day", Kind::Date),
        ("clock", Kind::Time),
        ("at", Kind::Timestamp),
        ("instant", Kind::TimestampTz),
        ("extra", Kind::Json),
    ]
    .map(|(name, kind)| column(name, kind))
    .to_vec();
    let row = vec![
        Value::I64(1),
        Value::Bool(true),
        Value::Decimal("12345678901234567890.10".into()),
        Value::F64(0.1),
        Value::String("Zoë".into()),
        Value::Bytes(vec![0, 1, 254, 255].into()),
        Value::Uuid(*b"0123456789abcdef"),
        Value::Date("2024-02-29".into()),
        Value::Time("13:05:00.25".into()),
        Value::Timestamp("2024-02-29T13:05:00.25".into()),
        Value::Timestamp("2024-02-29T13:05:00.25Z".into()),
        Value::Json(r#"{"a": [1, "x", null, 9007199254740993]}"#.into()),
    ];
    let mut nulls = vec![Value::Null; columns.len()];
    nulls[0] = Value::I64(2);
    (Spec::new("kinds", 1, &columns), vec![row, nulls])
}

/// Each declared kind is described as itself and reads as what was put in.
pub async fn every_kind(fixture: &dyn HostFixture) {
    let (spec, rows) = kinds();
    filled(fixture, &spec, &rows).await;
    let table = fixture.host().describe(&fixture.namespace(spec.name)).await.expect("it can be described");
    let table = table.expect("it exists");
    for (name, kind, _) in &spec.columns {
        assert_eq!(table.column(name).map(|column| column.kind), Some(*kind), "{name}");
    }
    for (record, row) in read(fixture, &spec).await.iter().zip(&rows) {
        assert_same(&spec, &record.values, row);
    }
}

pub(super) fn assert_same(spec: &Spec, found: &[Value<'_>], expected: &[Value<'_>]) {
    assert_eq!(found.len(), expected.len());
    for (((name, ..), found), expected) in spec.columns.iter().zip(found).zip(expected) {
        assert!(same(expected, found), "{name}: {found:?}, expected {expected:?}");
        assert_eq!(found.kind(), expected.kind(), "{name}: {found:?}, expected {expected:?}");
    }
}

/// What happens after a snapshot was opened is not in it.
pub async fn snapshot_is_isolated(fixture: &dyn HostFixture) {
    let spec = items();
    filled(fixture, &spec, &(1..=6).map(item).collect::<Vec<_>>()).await;
    let selection = spec.selection(fixture.namespace(spec.name), 2);
    let before = open(fixture, &selection).await;
    fixture.delete(&spec, &[Value::I64(2)]).await;
    fixture.delete(&spec, &[Value::I64(5)]).await;
    fixture.insert(&spec, &[vec![Value::I64(5), Value::Null, Value::Null], item(7)]).await;
    let seen = scan_all(&*before).await.expect("the old state can be read");
    assert_eq!(
        seen.iter().map(|record| record.values.clone()).collect::<Vec<_>>(),
        (1..=6).map(item).collect::<Vec<_>>()
    );
    let page = before.fetch(&[2, 5, 7].map(|id| key(&[Value::I64(id)]))).await.expect("and fetched from");
    assert_eq!(records(&page).expect("rows decode"), [seen[1].clone(), seen[4].clone()]);
    let after = open(fixture, &selection).await;
    let seen = scan_all(&*after).await.expect("the new state can be read");
    assert_eq!(first_columns(&seen), [1, 3, 4, 5, 6, 7].map(Value::I64));
    assert_eq!(seen[3].values[1], Value::Null);
}

fn orders() -> Spec {
    Spec::new("orders", 1, &[column("id", Kind::I64), column("customer_id", Kind::I64)])
}

fn lines() -> Spec {
    let columns = [
        column("order_id", Kind::I64),
        column("line", Kind::I64),
        column("product", Kind::String),
        column("big", Kind::I64),
    ];
    Spec::new("lines", 2, &columns)
}

fn customers() -> Spec {
    Spec::new("customers", 1, &[column("id", Kind::I64), column("name", Kind::String)])
}

fn line(order: i64, line: i64, product: &'static str) -> Vec<Value<'static>> {
    vec![Value::I64(order), Value::I64(line), Value::String(product.into()), Value::I64(i64::MAX)]
}

fn include(fixture: &dyn HostFixture, spec: &Spec, on: (&str, &str), arity: Arity, order_by: &[&str]) -> Include {
    Include {
        name: spec.name.to_owned(),
        namespace: fixture.namespace(spec.name),
        on: vec![(on.0.to_owned(), on.1.to_owned())],
        arity,
        columns: spec.read(),
        order_by: order_by.iter().map(ToString::to_string).collect(),
        includes: Vec::new(),
    }
}

fn assert_json(found: &Value<'_>, expected: &str) {
    let Value::Json(found) = found else { panic!("{found:?} is not raw JSON, expected {expected}") };
    let parse = |text| parse_json(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    assert_eq!(parse(found), parse(expected), "fields in order, numbers exact");
}

/// One-to-many: an array in the order that was asked for, empty where there is nothing.
pub async fn includes_many(fixture: &dyn HostFixture) {
    let (orders, lines) = (orders(), lines());
    filled(fixture, &orders, &[vec![Value::I64(1), Value::Null], vec![Value::I64(2), Value::Null]]).await;
    filled(fixture, &lines, &[line(1, 1, "pear"), line(1, 3, "Äpfel \"x\""), line(1, 2, "pear")]).await;
    let many = include(fixture, &lines, ("order_id", "id"), Arity::Many, &["product"]);
    let snapshot = open(fixture, &orders.selection_with(fixture.namespace("orders"), vec![many])).await;
    let found = scan_all(&*snapshot).await.expect("the tables can be read");
    let max = i64::MAX;
    assert_json(
        &found[0].values[2],
        &format!(
            r#"[{{"order_id":1,"line":1,"product":"pear","big":{max}}},{{"order_id":1,"line":2,"product":"pear","big":{max}}},
               {{"order_id":1,"line":3,"product":"Äpfel \"x\"","big":{max}}}]"#
        ),
    );
    assert_json(&found[1].values[2], "[]");
    let page = snapshot.fetch(&[found[0].key.clone()]).await.expect("a fetched record has them too");
    assert_eq!(records(&page).expect("rows decode"), found[..1]);
}

/// Many-to-one: an object, or null.
pub async fn includes_one(fixture: &dyn HostFixture) {
    let (orders, customers) = (orders(), customers());
    let rows = [[1, 7], [2, 8]].map(|row| row.map(Value::I64).to_vec());
    filled(fixture, &orders, &rows).await;
    fixture.insert(&orders, &[vec![Value::I64(3), Value::Null]]).await;
    filled(fixture, &customers, &[vec![Value::I64(7), Value::Null]]).await;
    let one = include(fixture, &customers, ("id", "customer_id"), Arity::One, &[]);
    let snapshot = open(fixture, &orders.selection_with(fixture.namespace("orders"), vec![one])).await;
    let found = scan_all(&*snapshot).await.expect("the tables can be read");
    assert_json(&found[0].values[2], r#"{"id":7,"name":null}"#);
    assert_eq!((&found[1].values[2], &found[2].values[2]), (&Value::Null, &Value::Null));
}

/// Customers with orders with lines.
pub async fn includes_nest(fixture: &dyn HostFixture) {
    let (customers, orders, lines) = (customers(), orders(), lines());
    filled(fixture, &customers, &[vec![Value::I64(7), Value::String("Zoë".into())]]).await;
    filled(fixture, &orders, &[[1, 7], [2, 7]].map(|row| row.map(Value::I64).to_vec())).await;
    filled(fixture, &lines, &[line(2, 1, "pear")]).await;
    let mut nested = include(fixture, &orders, ("customer_id", "id"), Arity::Many, &["id"]);
    nested.includes = vec![include(fixture, &lines, ("order_id", "id"), Arity::Many, &["line"])];
    let snapshot = open(fixture, &customers.selection_with(fixture.namespace("customers"), vec![nested])).await;
    let found = scan_all(&*snapshot).await.expect("the tables can be read");
    let max = i64::MAX;
    assert_json(
        &found[0].values[2],
        &format!(
            r#"[{{"id":1,"customer_id":7,"lines":[]}},
               {{"id":2,"customer_id":7,"lines":[{{"order_id":2,"line":1,"product":"pear","big":{max}}}]}}]"#
        ),
    );
}

/// Two matches of a `one` fail their record, by name, and no other.
pub async fn a_second_match_fails_alone(fixture: &dyn HostFixture) {
    let (orders, lines) = (orders(), lines());
    filled(fixture, &orders, &[[41, 1], [42, 1], [43, 1]].map(|row| row.map(Value::I64).to_vec())).await;
    filled(fixture, &lines, &[line(41, 1, "a"), line(42, 1, "a"), line(42, 2, "a"), line(43, 1, "a")]).await;
    let one = include(fixture, &lines, ("order_id", "id"), Arity::One, &[]);
    let snapshot = open(fixture, &orders.selection_with(fixture.namespace("orders"), vec![one])).await;
    let page = snapshot.scan(&KeyRange::ALL, None).await.expect("the other records can be read");
    assert_eq!(page.len(), 3);
    assert!(page.values(0).is_ok() && page.values(2).is_ok());
    let fault = page.values(1).expect_err("a second match is never a silent choice");
    assert_eq!(fault.kind, FaultKind::Permanent);
    assert!(fault.to_string().contains("42") && fault.to_string().contains("lines"), "{fault}");
}

/// A fingerprint changes with its row or a row included in it, and with nothing else.
pub async fn fingerprints_follow_the_row(fixture: &dyn HostFixture) {
    let (orders, lines) = (orders(), lines());
    filled(fixture, &orders, &[[1, 1], [2, 1], [3, 1]].map(|row| row.map(Value::I64).to_vec())).await;
    filled(fixture, &lines, &[line(1, 1, "a"), line(1, 2, "b"), line(2, 1, "a")]).await;
    let many = include(fixture, &lines, ("order_id", "id"), Arity::Many, &["line"]);
    let selection = orders.selection_with(fixture.namespace("orders"), vec![many]);
    let prints = async |selection: &Selection| -> Vec<_> {
        let found = scan_all(&*open(fixture, selection).await).await.expect("the tables can be read");
        found.iter().map(|record| record.fingerprint).collect()
    };
    let first = prints(&selection).await;
    assert_eq!(first, prints(&selection).await);
    // Put back as it was, in another physical order.
    fixture.delete(&lines, &[Value::I64(1), Value::I64(1)]).await;
    fixture.insert(&lines, &[line(1, 1, "a")]).await;
    assert_eq!(first, prints(&selection).await, "the same state has the same fingerprints");
    fixture.delete(&lines, &[Value::I64(1), Value::I64(2)]).await;
    fixture.insert(&lines, &[line(1, 2, "c")]).await;
    fixture.delete(&orders, &[Value::I64(3)]).await;
    fixture.insert(&orders, &[vec![Value::I64(3), Value::Null]]).await;
    let second = prints(&selection).await;
    assert!(first[0] != second[0] && first[2] != second[2], "what changed changed");
    assert_eq!(first[1], second[1], "what did not did not");
    let seeded = prints(&Selection { seed: 8, ..selection }).await;
    assert!(seeded.iter().all(|print| !second.contains(print)), "another mapping, other fingerprints");
}

/// A missing table or column is a Permanent fault that names it, and for a table that is described, nothing.
pub async fn missing_things_are_named(fixture: &dyn HostFixture) {
    let spec = items();
    fixture.create(&spec).await;
    let host = fixture.host();
    assert_eq!(host.describe(&fixture.namespace("nowhere")).await.expect("it can be asked for"), None);
    let refused = async |selection: Selection| {
        let fault = host.snapshot(&selection, DRAWN).await.map(drop).expect_err("it is missing");
        assert_eq!(fault.kind, FaultKind::Permanent, "{fault}");
        fault.to_string()
    };
    let fault = refused(spec.selection(fixture.namespace("nowhere"), 10)).await;
    assert!(fault.contains("nowhere"), "{fault}");
    let mut selection = spec.selection(fixture.namespace(spec.name), 10);
    for name in ["gone", "lost"] {
        selection.columns.push(fides_core::Column { name: name.into(), ..selection.columns[1].clone() });
    }
    let fault = refused(selection).await;
    assert!(["items", "gone", "lost"].iter().all(|name| fault.contains(name)), "{fault}");
}

/// Columns in order, nullability, primary key, listing.
pub async fn describes_what_is_there(fixture: &dyn HostFixture) {
    let mut spec = lines();
    spec.unique = vec!["big"];
    filled(fixture, &spec, &[line(1, 1, "a")]).await;
    let host = fixture.host();
    let namespace = fixture.namespace(spec.name);
    let table = host.describe(&namespace).await.expect("it can be described").expect("it exists");
    let found: Vec<_> =
        table.columns.iter().map(|column| (column.name.as_str(), column.kind, column.nullable)).collect();
    assert_eq!(found, spec.columns);
    assert_eq!(table.primary_key, spec.key);
    assert!(table.unique.contains(&table.primary_key), "{:?}", table.unique);
    assert!(host.namespaces().await.expect("they can be listed").contains(&namespace));
    assert_eq!(host.lineage().await.expect("it has one"), host.lineage().await.expect("and keeps it"));
}
