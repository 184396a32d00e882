//! What every [`Target`] must do. A connector's test calls `fides_testkit::target_conformance!(fixture().await)`.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use fides_core::port::{Outcome, Sink, Target, Write};
use fides_core::{
    Change, Fault, FaultKind, Fingerprint, Key, Kind, Lane, Namespace, Op, PipelineId, Shape, Value, Version,
    encode_row,
};

use super::host::{assert_same, kinds};
use super::{Record, Spec, column, records, scan_all};

mod fencing;
mod sizes;
mod trouble;

pub use fencing::*;
pub use sizes::*;
pub use trouble::*;

/// A store with a connector over it.
#[async_trait]
pub trait TargetFixture: Send + Sync {
    /// The connector under test.
    fn target(&self) -> Arc<dyn Target>;
    /// Where `table` is.
    fn namespace(&self, table: &str) -> Namespace;
    /// Creates an empty table, past the connector.
    async fn create(&self, spec: &Spec);
    /// A value that a column of its kind cannot hold in this store.
    fn unholdable(&self) -> (Kind, Value<'static>);
    /// A value for `people.name` that the store refuses: NULL where the column says NOT NULL, another one in a store that has
    /// no such rule.
    fn refused(&self) -> Value<'static> {
        Value::Null
    }
    /// A whole number in JSON that the store keeps, as large as any.
    fn json_number(&self) -> u64 {
        super::host::JSON_NUMBER
    }
    /// A target of the same kind where nobody listens.
    async fn gone(&self) -> Arc<dyn Target> {
        panic!("the fixture neither has one nor says why it cannot")
    }
    /// A target whose credential is refused, and the secret in it.
    async fn unauthorised(&self) -> (Arc<dyn Target>, &'static str) {
        panic!("the fixture neither has one nor says why it cannot")
    }
    /// Bytes of a text that the store cannot hold.
    fn oversized(&self) -> usize {
        panic!("the fixture neither has a limit nor says why it cannot")
    }
    /// Breaks something between target and store.
    async fn make(&self, trouble: Trouble) {
        panic!("the fixture neither makes {trouble:?} nor says why it cannot")
    }
    /// Ends what was broken.
    async fn mend(&self) {}
    /// Why a case cannot be run against this store.
    fn cannot(&self, _case: &str) -> Option<&'static str> {
        None
    }
}

/// One test for each case, over a fixture of its own.
#[macro_export]
macro_rules! target_conformance {
    ($fixture:expr) => {
        $crate::target_conformance!($fixture;
            creates_what_is_missing, names_all_that_is_missing, what_is_inspected_is_refused,
            a_version_column_holds_text, every_kind_comes_back, writes_and_replaces,
            deletes_even_what_is_absent, applying_again_is_harmless, an_empty_batch_is_nothing,
            a_large_batch_is_aligned, large_records_come_back, composite_and_odd_keys, a_bad_record_fails_alone, a_violation_fails_alone,
            a_unique_violation_is_deferred, an_older_version_is_stale, an_older_token_is_refused,
            a_displaced_writer_writes_nothing, lanes_do_not_displace_each_other, an_oversized_record_fails_alone,
            a_store_that_is_gone_is_unavailable, a_wrong_credential_is_unavailable, a_throttled_store_says_how_long,
            a_write_without_an_answer_is_unknown);
    };
    ($fixture:expr; $($case:ident),+) => {
        mod target_conformance {
            use super::*;
            $(#[tokio::test]
            async fn $case() {
                let fixture = $fixture;
                let cannot = $crate::conformance::target::TargetFixture::cannot(&fixture, stringify!($case));
                match cannot {
                    Some(reason) => eprintln!("cannot target/{}: {reason}", stringify!($case)),
                    None => $crate::conformance::target::$case(&fixture).await,
                }
                $crate::conformance::report(env!("CARGO_PKG_NAME"), "target", stringify!($case), cannot);
            })+
        }
    };
}

const PIPELINE: &str = "conformance";

/// A target with a table, and who writes it.
struct Writer {
    target: Arc<dyn Target>,
    spec: Spec,
    shape: Shape,
    sink: Sink,
    lane: Lane,
    token: u64,
}

impl Writer {
    /// Creates the table past the connector, then prepares and claims it.
    async fn over(fixture: &dyn TargetFixture, spec: Spec, version_field: Option<&str>) -> Self {
        fixture.create(&spec).await;
        let writer = Self::new(fixture, spec, version_field);
        writer.target.prepare(&writer.sink, &writer.shape, false).await.expect("the table fits");
        writer.claimed(1).await
    }

    fn new(fixture: &dyn TargetFixture, spec: Spec, version_field: Option<&str>) -> Self {
        let pipeline = PipelineId::new(PIPELINE);
        let mut shape = spec.shape();
        // The version is the connector's to write: it is no field of the documents.
        shape.fields.retain(|field| Some(field.name.as_str()) != version_field);
        Self {
            target: fixture.target(),
            shape,
            sink: Sink {
                namespace: fixture.namespace(spec.name),
                pipeline: pipeline.clone(),
                version_field: version_field.map(str::to_owned),
            },
            lane: Lane { pipeline, index: 0 },
            token: 1,
            spec,
        }
    }

    async fn claimed(mut self, token: u64) -> Self {
        self.target.claim(&self.sink, &self.lane, token).await.expect("the lane can be claimed");
        self.token = token;
        self
    }

    async fn claimed_by(&self) -> Option<u64> {
        self.target.claimed(&self.sink, &self.lane).await.expect("the lane's token can be read")
    }

    async fn apply(&self, changes: &[Change]) -> Vec<Outcome> {
        let write = Write { sink: &self.sink, shape: &self.shape, lane: &self.lane, token: self.token };
        let outcomes = self.target.apply(&write, changes).await;
        assert_eq!(outcomes.len(), changes.len(), "one outcome for each change");
        outcomes
    }

    /// Applies and expects that all of it was written.
    async fn write(&self, changes: &[Change]) {
        for (change, outcome) in changes.iter().zip(self.apply(changes).await) {
            assert!(matches!(outcome, Outcome::Applied), "{}: {outcome:?}", change.key);
        }
    }

    async fn held(&self) -> Vec<Record> {
        let mut selection = self.spec.selection(self.sink.namespace.clone(), 1000);
        selection.columns.retain(|column| self.shape.fields.iter().any(|field| field.name == column.name));
        let snapshot = self.target.snapshot(&self.sink, &selection).await.expect("the target can be read");
        let all = scan_all(&*snapshot).await.expect("to its end");
        let keys: Vec<Key> = all.iter().map(|record| record.key.clone()).collect();
        let fetched = records(&snapshot.fetch(&keys).await.expect("and fetched from")).expect("rows decode");
        assert_eq!(fetched, all);
        all
    }

    async fn names(&self) -> Vec<(Value<'static>, Value<'static>)> {
        self.held().await.into_iter().map(|record| (record.values[0].clone(), record.values[1].clone())).collect()
    }
}

fn people() -> Spec {
    let mut name = column("name", Kind::String);
    name.2 = false;
    Spec::new("people", 1, &[column("id", Kind::I64), name, column("badge", Kind::I64)])
}

fn change(position: u64, key: &[Value<'static>], op: Op) -> Change {
    let fingerprint = matches!(op, Op::Upsert(_)).then_some(Fingerprint(u128::from(position)));
    let key = Key::encode(key).expect("the suites' keys can be encoded");
    Change { key, version: Version::scan(1, position), fingerprint, op, forced: false }
}

fn document(row: &[Value<'_>]) -> Op {
    let mut bytes = Vec::new();
    encode_row(&mut bytes, row);
    Op::Upsert(Bytes::from(bytes))
}

fn upsert(position: u64, id: i64, name: &'static str) -> Change {
    change(position, &[Value::I64(id)], document(&[Value::I64(id), Value::String(name.into()), Value::Null]))
}

fn delete(position: u64, id: i64) -> Change {
    change(position, &[Value::I64(id)], Op::Delete)
}

fn named(pairs: &[(i64, &'static str)]) -> Vec<(Value<'static>, Value<'static>)> {
    pairs.iter().map(|&(id, name)| (Value::I64(id), Value::String(name.into()))).collect()
}

fn failed(outcome: &Outcome) -> &Fault {
    match outcome {
        Outcome::Failed(fault) => fault,
        other => panic!("{other:?} where a failure was expected"),
    }
}

/// With `create`, a missing namespace is made so that it holds every kind; preparing again changes nothing.
pub async fn creates_what_is_missing(fixture: &dyn TargetFixture) {
    let (spec, rows) = kinds(fixture.json_number());
    let writer = Writer::new(fixture, spec, Some("synced_version"));
    let described = async || writer.target.describe(&writer.sink.namespace).await.expect("it can be described");
    assert_eq!(described().await, None);
    for _ in 0..2 {
        writer.target.prepare(&writer.sink, &writer.shape, true).await.expect("it is created");
    }
    let table = described().await.expect("it exists");
    assert!(table.column("synced_version").is_some());
    assert_eq!(table.primary_key, writer.spec.key);
    for (name, kind, _) in &writer.spec.columns {
        assert_eq!(table.column(name).map(|column| column.kind), Some(*kind), "{name}");
    }
    let writer = writer.claimed(1).await;
    writer.write(&[change(1, &rows[0][..1], document(&rows[0]))]).await;
    assert_same(&writer.spec, &writer.held().await[0].values, &rows[0]);
}

/// Without `create`, one fault names the table, or every column that it lacks.
pub async fn names_all_that_is_missing(fixture: &dyn TargetFixture) {
    let wide = Spec::new("people", 1, &[column("id", Kind::I64), column("gone", Kind::I64), column("lost", Kind::I64)]);
    let writer = Writer::new(fixture, wide, Some("unversioned"));
    let refused = async || {
        let fault = writer.target.prepare(&writer.sink, &writer.shape, false).await.expect_err("it is missing");
        assert_eq!(fault.kind, FaultKind::Permanent, "{fault}");
        fault.to_string()
    };
    let fault = refused().await;
    assert!(fault.contains("people"), "{fault}");
    fixture.create(&people()).await;
    let fault = refused().await;
    assert!(["people", "gone", "lost", "unversioned"].iter().all(|name| fault.contains(name)), "{fault}");
}

/// Inspecting changes nothing, finds what preparing would refuse, all of it, and nothing else.
pub async fn what_is_inspected_is_refused(fixture: &dyn TargetFixture) {
    let inspected = async |writer: &Writer, create: bool, expected: &[&str]| {
        let (sink, shape) = (&writer.sink, &writer.shape);
        let inspect = async || writer.target.inspect(sink, shape, create).await.expect("it can be inspected");
        let (found, again) = (inspect().await, inspect().await);
        assert_eq!(found, again);
        let said: Vec<&str> = found.iter().map(|obstacle| obstacle.what.as_str()).collect();
        assert_eq!(said.len(), expected.len(), "{said:?}");
        for part in expected {
            assert!(said.iter().any(|what| what.contains(part)), "{part}: {said:?}");
        }
        match writer.target.prepare(sink, shape, create).await {
            Ok(()) => assert!(expected.is_empty(), "prepared in spite of {said:?}"),
            Err(fault) => {
                assert_eq!(fault.kind, FaultKind::Permanent, "{fault}");
                assert!(!said.is_empty(), "{fault}");
                assert!(said.iter().all(|what| fault.to_string().contains(what)), "{said:?}: {fault}");
            }
        }
    };
    let narrow = |name, key: Kind| Spec::new(name, 1, &[column("id", key), column("badge", Kind::I64)]);
    let absent = Writer::new(fixture, narrow("people", Kind::I64), None);
    inspected(&absent, false, &["exist"]).await;
    assert_eq!(absent.target.describe(&absent.sink.namespace).await.expect("it can be described"), None);
    fixture.create(&people()).await;
    inspected(&absent, true, &["column name is NOT NULL without a default"]).await;
    inspected(&Writer::new(fixture, people(), None), false, &[]).await;
    let of_text = Spec::new("people", 1, &[column("id", Kind::String), column("name", Kind::String)]);
    inspected(&Writer::new(fixture, of_text, None), false, &["key column id is of type"]).await;
    let wide = [column("id", Kind::I64), column("gone", Kind::I64), column("name", Kind::String)];
    let wide = Writer::new(fixture, Spec::new("people", 1, &wide), Some("unversioned"));
    inspected(&wide, false, &["column gone is missing", "column unversioned is missing"]).await;
    let other_key = [column("badge", Kind::I64), column("id", Kind::I64), column("name", Kind::String)];
    inspected(&Writer::new(fixture, Spec::new("people", 1, &other_key), None), false, &["unique index"]).await;
    let made = Writer::new(fixture, narrow("made", Kind::I64), Some("synced_version"));
    for _ in 0..2 {
        inspected(&made, true, &[]).await;
    }
}

/// Versions are compared as text: a column that would spell one in another way is refused.
pub async fn a_version_column_holds_text(fixture: &dyn TargetFixture) {
    for kind in [Kind::I64, Kind::F64, Kind::Bytes, Kind::Uuid, Kind::String] {
        let spec = Spec::new(kind.name(), 1, &[column("id", Kind::I64), column("synced_version", kind)]);
        fixture.create(&spec).await;
        let writer = Writer::new(fixture, spec, Some("synced_version"));
        match writer.target.prepare(&writer.sink, &writer.shape, false).await {
            Ok(()) => assert_eq!(kind, Kind::String, "was accepted"),
            Err(fault) => {
                assert_ne!(kind, Kind::String, "{fault}");
                assert!(fault.to_string().contains("version column synced_version is of type"), "{kind}: {fault}");
            }
        }
    }
}

/// What was applied is read back: every kind, NULL, the extremes.
pub async fn every_kind_comes_back(fixture: &dyn TargetFixture) {
    let (spec, mut rows) = kinds(fixture.json_number());
    let mut extreme = rows[0].clone();
    extreme[0] = Value::I64(i64::MIN);
    extreme[2] = Value::Decimal("-0.000000000000000000000000000001".into());
    extreme[3] = Value::F64(-1.797_693_134_862_315_7e308);
    extreme[4] = Value::String("e\u{301} '\"\\ \t\n 😀".into());
    extreme[5] = Value::Bytes(Vec::new().into());
    rows.insert(0, extreme);
    let writer = Writer::over(fixture, spec, None).await;
    let changes: Vec<_> = rows.iter().map(|row| change(1, &row[..1], document(row))).collect();
    writer.write(&changes).await;
    let held = writer.held().await;
    assert_eq!(held.len(), rows.len());
    for (record, row) in held.iter().zip(&rows) {
        assert_same(&writer.spec, &record.values, row);
    }
}

/// An upsert inserts, or replaces the whole document.
pub async fn writes_and_replaces(fixture: &dyn TargetFixture) {
    let writer = Writer::over(fixture, people(), None).await;
    writer.write(&[upsert(1, 2, "two"), upsert(1, 1, "one"), upsert(1, -3, "minus")]).await;
    let badge = document(&[Value::I64(2), Value::String("zwei".into()), Value::I64(22)]);
    writer.write(&[change(2, &[Value::I64(2)], badge), upsert(2, 4, "four")]).await;
    assert_eq!(writer.names().await, named(&[(-3, "minus"), (1, "one"), (2, "zwei"), (4, "four")]));
    assert_eq!(writer.held().await[2].values[2], Value::I64(22));
    writer.write(&[upsert(3, 2, "deux")]).await;
    assert_eq!(writer.held().await[2].values[2], Value::Null, "a document is replaced, not merged");
}

/// A deletion holds whether or not there was a document; deletions and upserts share a batch.
pub async fn deletes_even_what_is_absent(fixture: &dyn TargetFixture) {
    let writer = Writer::over(fixture, people(), None).await;
    writer.write(&[upsert(1, 1, "one"), upsert(1, 2, "two")]).await;
    writer.write(&[delete(2, 1), delete(2, 99), upsert(2, 3, "three"), delete(2, 98)]).await;
    assert_eq!(writer.names().await, named(&[(2, "two"), (3, "three")]));
}

/// A crash between write and mark repeats a batch: same outcome, same state (L2).
pub async fn applying_again_is_harmless(fixture: &dyn TargetFixture) {
    for version_field in [None, Some("synced_version")] {
        let mut spec = people();
        spec.name = if version_field.is_some() { "people_versioned" } else { "people" };
        spec.columns.extend(version_field.map(|name| column(name, Kind::String)));
        let writer = Writer::over(fixture, spec, version_field).await;
        writer.write(&[upsert(1, 2, "two")]).await;
        for _ in 0..3 {
            writer.write(&[upsert(2, 1, "one"), delete(2, 2), upsert(2, 3, "three")]).await;
        }
        assert_eq!(writer.names().await, named(&[(1, "one"), (3, "three")]));
    }
}

/// Keys of several columns and of odd text find exactly their record.
pub async fn composite_and_odd_keys(fixture: &dyn TargetFixture) {
    let columns = [column("a", Kind::String), column("b", Kind::I64), column("c", Kind::Uuid), column("v", Kind::I64)];
    let writer = Writer::over(fixture, Spec::new("composite", 3, &columns), None).await;
    let texts = ["", "a", "A", "a ", "é", "e\u{301}", "'\"\\%_", "😀"];
    let keys = texts.iter().flat_map(|text| [-1, 5].map(|number| (*text, number)));
    let key = |(text, number): (&'static str, i64)| {
        vec![Value::String(text.into()), Value::I64(number), Value::Uuid([number as u8; 16])]
    };
    let keys: Vec<_> = keys.map(key).collect();
    let row = |(at, key): (usize, &Vec<Value<'static>>)| {
        let mut row = key.clone();
        row.push(Value::I64(at as i64));
        change(1, key, document(&row))
    };
    writer.write(&keys.iter().enumerate().map(row).collect::<Vec<_>>()).await;
    let held = writer.held().await;
    assert_eq!(held.len(), keys.len(), "no two keys are one record");
    writer.write(&keys[1..].iter().map(|key| change(2, key, Op::Delete)).collect::<Vec<_>>()).await;
    let held = writer.held().await;
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].values[..3], keys[0]);
}

/// A value that the store cannot hold fails its record, for good; the others are written.
pub async fn a_bad_record_fails_alone(fixture: &dyn TargetFixture) {
    let (kind, value) = fixture.unholdable();
    let writer =
        Writer::over(fixture, Spec::new("narrow", 1, &[column("id", Kind::I64), column("v", kind)]), None).await;
    let row = |id: i64, value| change(1, &[Value::I64(id)], document(&[Value::I64(id), value]));
    let outcomes = writer.apply(&[row(1, Value::Null), row(2, value), row(3, Value::Null)]).await;
    let fault = failed(&outcomes[1]);
    assert_eq!(fault.kind, FaultKind::Permanent, "{fault}");
    assert!(matches!((&outcomes[0], &outcomes[2]), (Outcome::Applied, Outcome::Applied)), "{outcomes:?}");
    let ids: Vec<_> = writer.held().await.into_iter().map(|record| record.values[0].clone()).collect();
    assert_eq!(ids, [Value::I64(1), Value::I64(3)]);
}

/// So does one that breaks a constraint, naming the column; what it held before stays.
pub async fn a_violation_fails_alone(fixture: &dyn TargetFixture) {
    let writer = Writer::over(fixture, people(), None).await;
    writer.write(&[upsert(1, 2, "two")]).await;
    let null = change(2, &[Value::I64(2)], document(&[Value::I64(2), fixture.refused(), Value::Null]));
    let outcomes = writer.apply(&[upsert(2, 1, "one"), null, delete(2, 9), upsert(2, 3, "three")]).await;
    let fault = failed(&outcomes[1]);
    assert_eq!(fault.kind, FaultKind::Permanent, "{fault}");
    assert!(fault.to_string().contains("name"), "{fault}");
    assert!(outcomes.iter().enumerate().all(|(at, outcome)| at == 1 || matches!(outcome, Outcome::Applied)));
    assert_eq!(writer.names().await, named(&[(1, "one"), (2, "two"), (3, "three")]));
}

/// A value that another record still holds may be free later: Deferred, and written once it is.
pub async fn a_unique_violation_is_deferred(fixture: &dyn TargetFixture) {
    let mut spec = people();
    spec.unique = vec!["badge"];
    let writer = Writer::over(fixture, spec, None).await;
    let holder = |position, id, badge| {
        let row = [Value::I64(id), Value::String("x".into()), Value::I64(badge)];
        change(position, &[Value::I64(id)], document(&row))
    };
    writer.write(&[holder(1, 1, 100)]).await;
    let outcomes = writer.apply(&[holder(2, 2, 100), holder(2, 3, 300)]).await;
    let fault = failed(&outcomes[0]);
    assert_eq!(fault.kind, FaultKind::Deferred, "{fault}");
    assert!(matches!(outcomes[1], Outcome::Applied), "{outcomes:?}");
    writer.write(&[delete(3, 1), holder(3, 2, 100)]).await;
    assert_eq!(writer.held().await.len(), 2);
}

/// With a version field, an older change of a record is refused as stale: upserts and deletions.
pub async fn an_older_version_is_stale(fixture: &dyn TargetFixture) {
    let mut spec = people();
    spec.columns.push(column("synced_version", Kind::String));
    let writer = Writer::over(fixture, spec, Some("synced_version")).await;
    writer.write(&[upsert(5, 1, "new"), upsert(5, 2, "new"), upsert(5, 3, "new")]).await;
    let outcomes =
        writer.apply(&[upsert(4, 1, "old"), delete(4, 2), upsert(6, 3, "newer"), upsert(4, 4, "first")]).await;
    assert!(
        matches!(outcomes[..], [Outcome::Stale, Outcome::Stale, Outcome::Applied, Outcome::Applied]),
        "{outcomes:?}"
    );
    assert_eq!(writer.names().await, named(&[(1, "new"), (2, "new"), (3, "newer"), (4, "first")]));
    writer.write(&[delete(7, 1)]).await;
    assert_eq!(writer.names().await, named(&[(2, "new"), (3, "newer"), (4, "first")]));
}
