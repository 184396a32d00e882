//! What every [`Host`] must do. A connector's test calls `fides_testkit::host_conformance!(fixture().await)`.

use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::{Host, Snapshot};
use fides_core::{FaultKind, Key, KeyRange, Kind, Namespace, Selection, Value, Version};

mod nesting;
mod values;

pub use nesting::{
    a_second_match_fails_alone, fingerprints_follow_the_row, includes_many, includes_nest, includes_one,
};
pub(super) use values::{assert_same, kinds};
pub use values::{
    bool_keys, byte_keys, composite_keys, every_kind, extreme_numbers, nulls, odd_text, text_keys, uuid_keys,
};

use nesting::{line, lines};

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
    /// A whole number in JSON that the store keeps, as large as any.
    fn json_number(&self) -> u64 {
        JSON_NUMBER
    }
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
            empty_table, scan_is_ordered_and_repeatable, pages_are_bounded, plan_covers_every_key_once, bounds_may_be_prefixes,
            fetch_is_exact, large_records_are_read, text_keys, byte_keys, uuid_keys, composite_keys, bool_keys, extreme_numbers, odd_text,
            nulls, every_kind, snapshot_is_isolated, includes_many, includes_one, includes_nest, a_second_match_fails_alone,
            fingerprints_follow_the_row, missing_things_are_named, describes_what_is_there);
    };
    ($fixture:expr; $($case:ident),+) => {
        mod host_conformance {
            use super::*;
            $(#[tokio::test]
            async fn $case() {
                let fixture = $fixture;
                let cannot = $crate::conformance::host::HostFixture::cannot(&fixture, stringify!($case));
                match cannot {
                    Some(reason) => eprintln!("cannot host/{}: {reason}", stringify!($case)),
                    None => $crate::conformance::host::$case(&fixture).await,
                }
                $crate::conformance::report(env!("CARGO_PKG_NAME"), "host", stringify!($case), cannot);
            })+
        }
    };
}

/// Beyond what a float of 64 bits holds.
pub(super) const JSON_NUMBER: u64 = 9_007_199_254_740_993;

/// Bytes of a large record: what the smallest type of text holds that a store takes for one.
pub(super) const LARGE_BYTES: usize = 60_000;

/// Large records, of more bytes together than any store answers at once.
pub(super) const LARGE_RECORDS: i64 = 300;

const DRAWN: Version = Version::scan(3, 41);

fn items() -> Spec {
    Spec::new("items", 1, &[column("nr", Kind::I64), column("name", Kind::String), column("amount", Kind::I64)])
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

/// A range may be cut by the first columns of a key only, and by a key that no record has: the bounds of one side's
/// plan are read on the other side, too.
pub async fn bounds_may_be_prefixes(fixture: &dyn HostFixture) {
    let columns = [column("a", Kind::String), column("b", Kind::I64), column("c", Kind::I64)];
    let spec = Spec::new("triples", 3, &columns);
    let mut rows = Vec::new();
    for a in ["", "k", "kk", "l"] {
        for (b, c) in [(-1, 0), (0, 1), (0, 2), (7, 7)] {
            rows.push(vec![Value::String(a.into()), Value::I64(b), Value::I64(c)]);
        }
    }
    filled(fixture, &spec, &rows).await;
    let snapshot = open(fixture, &spec.selection(fixture.namespace(spec.name), 3)).await;
    let text = |text: &'static str| Value::String(text.into());
    let beyond = Value::U64(u64::MAX);
    let bounds = [
        vec![text("")],
        vec![text("k")],
        vec![text("k"), Value::I64(0)],
        vec![text("k"), Value::I64(0), Value::I64(2)],
        vec![text("k"), Value::I64(3)],
        vec![text("k"), beyond.clone()],
        vec![text("k"), Value::I64(7), beyond],
        vec![text("kk")],
        vec![text("m")],
    ];
    let bounds: Vec<Key> = bounds.iter().map(|bound| key(bound)).collect();
    let all = scan_all(&*snapshot).await.expect("the table can be read");
    for (at, lower) in bounds.iter().enumerate() {
        for upper in &bounds[at..] {
            let range = KeyRange { lower: Some(lower.clone()), upper: Some(upper.clone()) };
            let expected: Vec<_> = all.iter().filter(|record| range.contains(record.key.as_bytes())).cloned().collect();
            let found = scan_range(&*snapshot, &range).await.expect("a range can be read");
            assert_eq!(found, expected, "from {lower} to {upper}");
        }
        let page = snapshot.scan(&KeyRange::ALL, Some(lower)).await.expect("and from anywhere");
        let expected: Vec<_> = all.iter().filter(|record| record.key > *lower).take(3).cloned().collect();
        assert_eq!(records(&page).expect("rows decode"), expected, "after {lower}");
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
    let seed = spec.selection(fixture.namespace(spec.name), 3).seed;
    let hashed = |at: usize| page.fingerprints[at] == fides_core::fingerprint(page.rows.get(at), seed);
    assert!((0..page.len()).all(hashed), "fingerprints are those of the raw rows");
    assert!(page.find(key(&[Value::I64(7)]).as_bytes()).is_none());
}

/// Together they are more than any answer of a store holds: what is not on a page of fetched records has to be absent (L8).
pub async fn large_records_are_read(fixture: &dyn HostFixture) {
    let spec = items();
    let name = "x".repeat(LARGE_BYTES);
    let large = |id| vec![Value::I64(id), Value::String(name.clone().into()), Value::I64(id)];
    filled(fixture, &spec, &(0..LARGE_RECORDS).map(large).collect::<Vec<_>>()).await;
    let snapshot = open(fixture, &spec.selection(fixture.namespace(spec.name), 1000)).await;
    let asked: Vec<Key> = (0..LARGE_RECORDS).map(|id| key(&[Value::I64(id)])).collect();
    let fetched = records(&snapshot.fetch(&asked).await.expect("keys can be fetched")).expect("rows decode");
    assert_eq!(fetched.len(), asked.len());
    assert!((0..).zip(&fetched).all(|(id, record)| record.values == large(id)), "each whole, and under its key");
    let scanned = scan_all(&*snapshot).await.expect("the table can be read");
    assert!(scanned == fetched, "{} scanned", scanned.len());
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
