use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use fides_core::port::{Host, Lineage, Opened, Snapshot};
use fides_core::{Column, Fault, Key, Kind, Namespace, PipelineId, Selection, Table, Value, Version, encode_value};
use tokio::sync::watch;

use super::frozen::Frozen;
use super::{lock, log};

/// Who orders the states of a [`FakeHost`] (DESIGN §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The host's log: a snapshot has an exact commit position.
    Host,
    /// The same, and what changed is fetched. It has the order of the states that it is read from, which may lack the latest
    /// transactions of the log: where the log ends, and how much of it is visible.
    Fetched,
    /// The state store: a snapshot carries the version that was drawn for it.
    Fides,
}

impl Order {
    /// Whether there is a log that can be followed.
    pub fn has_log(self) -> bool {
        self != Self::Fides
    }
}

/// What a fetch finds.
pub(super) struct Seen {
    pub(super) rows: BTreeMap<i64, i64>,
    /// Position and sequence of whatever is fetched from it.
    pub(super) label: (u64, u32),
}

/// One committed transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Orders transactions; ascends, with gaps.
    pub position: u64,
    /// Whether it began by emptying the table.
    pub emptied: bool,
    /// In the order in which the transaction made them.
    pub changes: Vec<Logged>,
}

/// One row change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Place inside the transaction, from 1: scans have 0.
    pub sequence: u32,
    /// The row.
    pub key: i64,
    /// Its new value; `None` when it was deleted.
    pub value: Option<i64>,
}

/// A table `items (id bigint primary key, v bigint, note text)` with an ordered log of its transactions.
#[derive(Clone)]
pub struct FakeHost(Arc<Mutex<State>>);

struct State {
    order: Order,
    lineage: Lineage,
    rows: BTreeMap<i64, i64>,
    log: Vec<Commit>,
    position: u64,
    /// The last transaction that fetches see.
    visible: u64,
    /// New snapshots do not show rows from this one on.
    hides_from: Option<i64>,
    /// Readers for whom the log is kept.
    readers: BTreeSet<PipelineId>,
    /// Bytes that it keeps for them.
    lag: u64,
    /// Says to them that there is more.
    tick: watch::Sender<u64>,
}

impl FakeHost {
    /// An empty table.
    pub fn new(order: Order) -> Self {
        let lineage = Lineage("fake-1".into());
        Self(Arc::new(Mutex::new(State {
            order,
            lineage,
            rows: BTreeMap::new(),
            log: Vec::new(),
            position: 1_000,
            visible: 0,
            hides_from: None,
            readers: BTreeSet::new(),
            lag: 0,
            tick: watch::Sender::new(0),
        })))
    }

    /// The table's name.
    pub fn namespace() -> Namespace {
        Namespace(vec!["items".into()])
    }

    /// A selection of all columns.
    pub fn selection(seed: u64, page_records_max: usize) -> Selection {
        Selection {
            namespace: Self::namespace(),
            key: vec!["id".into()],
            columns: columns(),
            includes: Vec::new(),
            seed,
            page_records_max,
        }
    }

    /// Encoded key of a row.
    #[expect(clippy::missing_panics_doc, reason = "an integer always is a key")]
    pub fn key(id: i64) -> Key {
        Key::encode(&[Value::I64(id)]).expect("an integer always is a key")
    }

    /// Commits one transaction: sets or deletes rows, in order; a row may occur several times. The commit position.
    pub fn commit(&self, changes: &[(i64, Option<i64>)]) -> u64 {
        self.write(false, changes)
    }

    /// Empties the table, and commits `changes` in the same transaction. The log does not tell every row.
    pub fn truncate(&self, changes: &[(i64, Option<i64>)]) -> u64 {
        self.write(true, changes)
    }

    fn write(&self, emptied: bool, changes: &[(i64, Option<i64>)]) -> u64 {
        let mut state = lock(&self.0);
        state.position += 8;
        let logged = |(at, &(key, value)): (usize, &(i64, Option<i64>))| Logged { sequence: at as u32 + 1, key, value };
        let changes = changes.iter().enumerate().map(logged).collect();
        let commit = Commit { position: state.position, emptied, changes };
        commit.replay(&mut state.rows);
        state.log.push(commit);
        state.tick.send_replace(state.position);
        state.position
    }

    /// Says how many bytes the log keeps for its readers.
    pub fn set_log_lag(&self, bytes: u64) {
        lock(&self.0).lag = bytes;
    }

    /// Forgets what the log keeps for its readers, as whoever drops their slots does.
    pub fn drop_readers(&self) {
        lock(&self.0).readers.clear();
    }

    /// The transactions after `position`.
    pub fn log_from(&self, position: u64) -> Vec<Commit> {
        let state = lock(&self.0);
        state.log.iter().filter(|commit| commit.position > position).cloned().collect()
    }

    /// The last commit position.
    pub fn position(&self) -> u64 {
        lock(&self.0).position
    }

    /// The rows as they are now.
    pub fn rows(&self) -> BTreeMap<i64, i64> {
        lock(&self.0).rows.clone()
    }

    /// Goes back to the state at `position`, as a restored backup or a standby that lacked the last transactions does.
    /// Positions are used again, under a new lineage.
    pub fn restore(&self, position: u64, lineage: &str) {
        self.go_back(position);
        let mut state = lock(&self.0);
        state.lineage = Lineage(lineage.into());
        state.readers.clear();
        state.tick.send_replace(state.position);
    }

    /// The same under its old lineage, as a server does whose disk was put back: slots and all.
    pub fn go_back(&self, position: u64) {
        let mut state = lock(&self.0);
        state.log.retain(|commit| commit.position <= position);
        state.rows.clear();
        for commit in std::mem::take(&mut state.log) {
            commit.replay(&mut state.rows);
            state.log.push(commit);
        }
        state.position = position.min(state.position);
        state.tick.send_replace(state.position);
    }

    pub(super) fn order(&self) -> Order {
        lock(&self.0).order
    }

    /// A state that has seen the transaction at `position` and all that was seen before, and every third time everything.
    pub(super) fn seen(&self, position: u64) -> Seen {
        let mut state = lock(&self.0);
        let end = state.position;
        state.visible = if end.is_multiple_of(3) { end } else { state.visible.max(position).min(end) };
        let mut rows = BTreeMap::new();
        let visible = state.log.iter().filter(|commit| commit.position <= state.visible);
        let count = visible.inspect(|commit| commit.replay(&mut rows)).count();
        Seen { rows, label: (end, count as u32) }
    }

    pub(super) fn lineage_now(&self) -> Lineage {
        lock(&self.0).lineage.clone()
    }

    /// Says from now on that another authority orders its states.
    pub fn set_lineage(&self, lineage: &str) {
        lock(&self.0).lineage = Lineage(lineage.into());
    }

    /// Whether new snapshots show an empty table, whatever it holds: a bad listing (L8).
    pub fn answer_empty(&self, empty: bool) {
        self.hide_from(empty.then_some(i64::MIN));
    }

    /// Whether new snapshots leave out the rows from that one on, and take what is left for everything: a bad listing (L8).
    pub fn hide_from(&self, first: Option<i64>) {
        lock(&self.0).hides_from = first;
    }
}

impl Commit {
    fn replay(&self, rows: &mut BTreeMap<i64, i64>) {
        if self.emptied {
            rows.clear();
        }
        for change in &self.changes {
            match change.value {
                Some(value) => rows.insert(change.key, value),
                None => rows.remove(&change.key),
            };
        }
    }
}

fn columns() -> Vec<Column> {
    let column =
        |name: &str, kind, native: &str, nullable| Column { name: name.into(), kind, native: native.into(), nullable };
    vec![
        column("id", Kind::I64, "bigint", false),
        column("v", Kind::I64, "bigint", false),
        column("note", Kind::String, "text", true),
    ]
}

/// The raw row of `id` with the columns of a selection, as a scan and an event both have it.
pub fn raw_row(selection: &Selection, id: i64, v: i64) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    for column in &selection.columns {
        let value = match column.name.as_str() {
            "id" => Value::I64(id),
            "v" => Value::I64(v),
            "note" if v % 7 == 0 => Value::Null,
            "note" => Value::String(Cow::Owned(format!("note {v}"))),
            other => return Err(Fault::permanent(format!("table items has no column {other}"))),
        };
        encode_value(&mut bytes, &value);
    }
    Ok(bytes)
}

#[async_trait]
impl Host for FakeHost {
    async fn namespaces(&self) -> Result<Vec<Namespace>, Fault> {
        Ok(vec![Self::namespace()])
    }

    async fn describe(&self, namespace: &Namespace) -> Result<Option<Table>, Fault> {
        let table = || Table {
            columns: columns(),
            primary_key: vec!["id".into()],
            references: Vec::new(),
            unique: vec![vec!["id".into()]],
            contested: Vec::new(),
            records_estimate: lock(&self.0).rows.len() as u64,
            warnings: Vec::new(),
            store_warnings: Vec::new(),
        };
        Ok((*namespace == Self::namespace()).then(table))
    }

    async fn lineage(&self) -> Result<Lineage, Fault> {
        Ok(self.lineage_now())
    }

    async fn snapshot(&self, selection: &Selection, drawn: Version) -> Result<Arc<dyn Snapshot>, Fault> {
        if selection.namespace != Self::namespace() {
            return Err(Fault::permanent(format!("there is no table {}", selection.namespace)));
        }
        let state = lock(&self.0);
        let version = match state.order {
            Order::Host | Order::Fetched => Version::scan(drawn.epoch, state.position),
            Order::Fides => drawn,
        };
        let rows = state.rows.iter().filter(|&(&id, _)| state.hides_from.is_none_or(|first| id < first));
        let rows =
            rows.map(|(&id, &v)| Ok((Self::key(id), raw_row(selection, id, v)?))).collect::<Result<_, Fault>>()?;
        Ok(Arc::new(Frozen::new(version, selection, rows)))
    }

    async fn log(&self, selection: &Selection, reader: &PipelineId, after: Option<u64>) -> Result<Opened, Fault> {
        let (kept, ticks) = {
            let mut state = lock(&self.0);
            if !state.order.has_log() {
                return Err(Fault::permanent("this host has no log that could be followed"));
            }
            (!state.readers.insert(reader.clone()), state.tick.subscribe())
        };
        Ok(log::open(self, selection, after, kept, ticks))
    }

    async fn log_lag(&self, reader: &PipelineId) -> Result<Option<u64>, Fault> {
        let state = lock(&self.0);
        Ok(state.readers.contains(reader).then_some(state.lag))
    }

    async fn forget_log(&self, reader: &PipelineId) -> Result<(), Fault> {
        let mut state = lock(&self.0);
        state.readers.remove(reader);
        state.lag = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fides_core::KeyRange;

    #[tokio::test]
    async fn a_snapshot_is_frozen_and_its_pages_cover_every_key_once() {
        let host = FakeHost::new(Order::Host);
        let changes: Vec<_> = (-5..20).map(|id| (id, Some(id))).collect();
        let position = host.commit(&changes);
        let drawn = Version::scan(3, 1);
        let snapshot = host.snapshot(&FakeHost::selection(7, 4), drawn).await.unwrap();
        host.commit(&[(0, None), (100, Some(1))]);
        assert_eq!(snapshot.version(), Version::scan(3, position));
        for want in [1, 3, 50] {
            let mut met = Vec::new();
            for range in snapshot.plan(want).await.unwrap() {
                let mut after = None;
                loop {
                    let page = snapshot.scan(&range, after.as_ref()).await.unwrap();
                    assert!(page.len() <= 4);
                    met.extend((0..page.len()).map(|at| page.values(at).unwrap()[0].clone().into_owned()));
                    match page.next {
                        Some(next) => after = Some(next),
                        None => break,
                    }
                }
            }
            assert_eq!(met, (-5..20).map(Value::I64).collect::<Vec<_>>(), "{want} ranges");
        }
        let page = snapshot.fetch(&[FakeHost::key(3), FakeHost::key(100), FakeHost::key(-1)]).await.unwrap();
        assert_eq!(page.len(), 2);
        assert_eq!(page.find(FakeHost::key(100).as_bytes()), None);
    }

    #[tokio::test]
    async fn a_restored_backup_uses_positions_again_under_another_lineage() {
        let host = FakeHost::new(Order::Host);
        let first = host.commit(&[(1, Some(1)), (1, Some(2))]);
        let second = host.commit(&[(1, None)]);
        assert_eq!(host.log_from(0)[0].changes[1], Logged { sequence: 2, key: 1, value: Some(2) });
        let before = host.lineage().await.unwrap();
        host.restore(first, "fake-2");
        assert_eq!(host.rows(), BTreeMap::from([(1, 2)]));
        assert_ne!(host.lineage().await.unwrap(), before);
        assert_eq!(host.commit(&[(2, Some(2))]), second);
    }

    #[tokio::test]
    async fn a_bad_listing_is_empty_and_an_order_by_fides_keeps_the_drawn_version() {
        let host = FakeHost::new(Order::Fides);
        host.commit(&[(1, Some(1))]);
        host.answer_empty(true);
        let drawn = Version::scan(1, 77);
        let snapshot = host.snapshot(&FakeHost::selection(0, 10), drawn).await.unwrap();
        assert_eq!(snapshot.version(), drawn);
        assert!(snapshot.scan(&KeyRange::ALL, None).await.unwrap().is_empty());
    }
}
