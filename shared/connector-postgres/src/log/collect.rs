//! What the log says, made into changes of the selection's records. No waiting in here: an event that was taken from the
//! connection is in the batch, so that a cancelled read loses nothing.

use std::collections::HashMap;
use std::sync::Arc;

use fides_core::{Fault, Key};
use pgwire_replication::ReplicationEvent;

use super::batch::{Batch, Nested, Pending};
use super::columns::{self, Columns, Found, Mismatch, NoKey};
use super::message::{Described, Message, Tuple};
use super::tables::{Followed, Tables};
use crate::copy_text::Lines;

/// A transaction whose changes are being read.
#[derive(Clone, Copy, Debug)]
struct Transaction {
    id: u32,
    /// Where its commit record starts: what a snapshot compares with.
    position: u64,
    /// The number of its latest change.
    sequence: u32,
    /// Whether it has a change of a row whose key cannot be read.
    is_unreadable: bool,
}

impl Transaction {
    fn next(&mut self) -> Result<u32, Fault> {
        self.sequence = self.sequence.checked_add(1).ok_or_else(|| {
            Fault::permanent(format!("transaction {} has more changes than can be numbered (2^32)", self.id))
        })?;
        Ok(self.sequence)
    }
}

/// A table of the log as its changes come now.
#[derive(Debug)]
struct Shape {
    /// Number among the tables that are followed.
    table: usize,
    root: Option<Columns>,
    /// Whether a row's key may be that of another row in the middle of a transaction.
    shares_keys: bool,
    /// One for each path of the table.
    paths: Vec<Columns>,
}

/// Reads events into a batch.
#[derive(Debug)]
pub(super) struct Collector {
    pub(super) tables: Tables,
    pub(super) lines: Arc<Lines>,
    pub(super) seed: u64,
    /// Whether a row of the log lacks what a record nests.
    pub(super) nests: bool,
    pub(super) batch: Batch,
    /// Everything before it was read to its end.
    pub(super) place: u64,
    /// A table that no longer fits; nothing more is read.
    pub(super) mismatch: Option<Mismatch>,
    transaction: Option<Transaction>,
    /// By OID; `None` for a table that nobody asked for.
    shapes: HashMap<u32, Option<Shape>>,
}

impl Collector {
    pub(super) fn new(tables: Tables, lines: Arc<Lines>, seed: u64, place: u64) -> Self {
        let nests = !lines.includes.is_empty();
        Self {
            tables,
            lines,
            seed,
            nests,
            batch: Batch::default(),
            place,
            mismatch: None,
            transaction: None,
            shapes: HashMap::new(),
        }
    }

    /// Whether changes of a transaction were read whose end was not.
    pub(super) fn is_inside(&self) -> bool {
        self.transaction.is_some_and(|transaction| transaction.sequence > 0)
    }

    /// Takes one event.
    pub(super) fn take(&mut self, event: ReplicationEvent) -> Result<(), Fault> {
        match event {
            ReplicationEvent::Begin { final_lsn, xid, .. } => {
                self.transaction =
                    Some(Transaction { id: xid, position: final_lsn.as_u64(), sequence: 0, is_unreadable: false });
            }
            ReplicationEvent::Commit { end_lsn, .. } => {
                self.transaction = None;
                self.place = self.place.max(end_lsn.as_u64());
            }
            // Inside a transaction it says nothing about what is complete.
            ReplicationEvent::KeepAlive { wal_end, .. } if self.transaction.is_none() => {
                self.place = self.place.max(wal_end.as_u64());
            }
            ReplicationEvent::XLogData { data, .. } => self.message(&data)?,
            ReplicationEvent::KeepAlive { .. }
            | ReplicationEvent::Message { .. }
            | ReplicationEvent::StoppedAt { .. } => {}
        }
        Ok(())
    }

    fn message(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        match Message::parse(bytes).ok_or_else(|| self.damaged("a message makes no sense"))? {
            Message::Relation(described) => self.describe(&described),
            Message::Insert { relation, new } => self.change(relation, None, Some(&new))?,
            Message::Update { relation, old, new } => self.change(relation, old.as_ref(), Some(&new))?,
            Message::Delete { relation, old } => self.change(relation, Some(&old), None)?,
            Message::Truncate(relations) => self.empty(&relations)?,
            Message::Other => {}
        }
        Ok(())
    }

    fn damaged(&self, what: &str) -> Fault {
        Fault::transient(format!("the log of table {}: {what}", self.lines.place))
    }

    /// Learns how the changes of a table come from here on.
    fn describe(&mut self, described: &Described) {
        let followed = self.tables.0.iter().position(|followed| followed.oid == described.oid);
        let shape = followed.map(|table| Shape::of(table, &self.tables.0[table], self.lines.key, described));
        match shape.transpose() {
            Ok(shape) => drop(self.shapes.insert(described.oid, shape)),
            Err(mismatch) => self.mismatch = Some(mismatch),
        }
    }

    fn change(&mut self, relation: u32, old: Option<&Tuple<'_>>, new: Option<&Tuple<'_>>) -> Result<(), Fault> {
        let (Some(shape), Some(mut transaction)) = (self.shapes.get(&relation), self.transaction) else {
            return Err(self.damaged("a change of an unknown table, or outside of a transaction"));
        };
        let Some(shape) = shape else { return Ok(()) };
        let mut intake = Intake {
            batch: &mut self.batch,
            transaction: &mut transaction,
            lines: &self.lines,
            seed: self.seed,
            nests: self.nests,
            shares_keys: shape.shares_keys,
        };
        if let Some(columns) = &shape.root {
            intake.root(columns, old, new)?;
        }
        let followed = &self.tables.0[shape.table];
        for (path, columns) in shape.paths.iter().enumerate() {
            intake.nested((shape.table, path), followed, columns, old, new)?;
        }
        self.transaction = Some(transaction);
        Ok(())
    }

    /// A TRUNCATE, of the root or of what its records nest.
    fn empty(&mut self, relations: &[u32]) -> Result<(), Fault> {
        if !relations.iter().any(|oid| self.tables.0.iter().any(|followed| followed.oid == *oid)) {
            return Ok(());
        }
        let Some(transaction) = &mut self.transaction else {
            return Err(self.damaged("a TRUNCATE outside of a transaction"));
        };
        let sequence = transaction.next()?;
        self.batch.push(transaction.id, transaction.position, sequence, Pending::Emptied);
        Ok(())
    }
}

impl Shape {
    fn of(table: usize, followed: &Followed, key: usize, described: &Described) -> Result<Self, Mismatch> {
        let place = followed.place();
        if (&followed.schema, &followed.table) != (&described.schema, &described.table) {
            let found = Found::Table(format!("{}.{}", described.schema, described.table));
            return Err(Mismatch { expected: place.clone(), place, column: String::new(), found });
        }
        let root = followed.root.as_ref().map(|expected| Columns::find(&place, expected, key, described));
        let shares_keys =
            followed.root.as_ref().is_some_and(|expected| !columns::are_apart(&expected[..key], described));
        let paths = followed.paths.iter().map(|path| Columns::find(&place, &path.own, path.own.len(), described));
        Ok(Self { table, root: root.transpose()?, shares_keys, paths: paths.collect::<Result<_, _>>()? })
    }
}

/// One change on its way into the batch.
struct Intake<'c> {
    batch: &'c mut Batch,
    transaction: &'c mut Transaction,
    lines: &'c Lines,
    seed: u64,
    nests: bool,
    shares_keys: bool,
}

impl Intake<'_> {
    fn push(&mut self, what: Pending) -> Result<(), Fault> {
        let sequence = self.transaction.next()?;
        self.batch.push(self.transaction.id, self.transaction.position, sequence, what);
        Ok(())
    }

    /// A change of a root: the old key is gone if it is another now.
    fn root(&mut self, columns: &Columns, old: Option<&Tuple<'_>>, new: Option<&Tuple<'_>>) -> Result<(), Fault> {
        let before = match old {
            Some(old) => self.readable(columns.key(self.lines, old, None))?,
            None => None,
        };
        let Some(new) = new else {
            return before.map_or(Ok(()), |key| self.gone(key));
        };
        let now = self.record(columns, old, new)?;
        let key = match &now {
            Some(Pending::Row { key, .. } | Pending::Fetch(key)) => Some(key),
            _ => None,
        };
        if let Some(before) = before.filter(|before| Some(before) != key) {
            self.gone(before)?;
        }
        now.map_or(Ok(()), |now| self.push(now))
    }

    /// A key, unless it is none that a record has. What becomes of such a row nobody can tell from the log, and it must not stop
    /// the log of all others: an import looks, and says what is wrong for as long as it is.
    fn readable(&mut self, key: Result<Key, NoKey>) -> Result<Option<Key>, Fault> {
        let fault = match key {
            Ok(key) => return Ok(Some(key)),
            Err(NoKey::Untold(fault)) => return Err(fault),
            Err(NoKey::Unreadable(fault)) => fault,
        };
        if !std::mem::replace(&mut self.transaction.is_unreadable, true) {
            tracing::warn!(transaction = self.transaction.id, %fault, "the log changes a row that has no key");
            self.push(Pending::Emptied)?;
        }
        Ok(None)
    }

    /// A record that nests others is looked up like all its changes: they have one order, that of the states they are read from.
    /// And so is one whose key another row may have taken already, in the same transaction: it would be taken for gone (L8).
    fn gone(&mut self, key: Key) -> Result<(), Fault> {
        self.push(if self.nests || self.shares_keys { Pending::Deleted(key) } else { Pending::Gone(key) })
    }

    /// A root as it is now: its row, where the log has all of it.
    fn record(
        &mut self,
        columns: &Columns,
        old: Option<&Tuple<'_>>,
        new: &Tuple<'_>,
    ) -> Result<Option<Pending>, Fault> {
        if !self.nests && columns.are_whole() {
            let row = self.batch.row(self.seed, |out| columns.put_line(new, old, out));
            if let Some((at, line)) = row {
                let key = columns::key(self.lines, line).map_err(NoKey::Unreadable);
                return Ok(self.readable(key)?.map(|key| Pending::Row { key, at }));
            }
        }
        Ok(self.readable(columns.key(self.lines, new, old))?.map(Pending::Fetch))
    }

    /// A change of an included table: the roots that nest it now, and those that did.
    fn nested(
        &mut self,
        (table, number): (usize, usize),
        followed: &Followed,
        columns: &Columns,
        old: Option<&Tuple<'_>>,
        new: Option<&Tuple<'_>>,
    ) -> Result<(), Fault> {
        let path = &followed.paths[number];
        let values = |row: Option<&Tuple<'_>>, old: Option<&Tuple<'_>>| match row {
            Some(row) => {
                path.values(columns, row, old).map_err(|fault| fault.at(format!("table {}", followed.place())))
            }
            None => Ok(None),
        };
        let (before, now) = (values(old, None)?, values(new, old)?);
        let before = before.filter(|before| now.as_ref() != Some(before));
        for values in [before, now].into_iter().flatten() {
            let key: Option<Key> = path.key(&values);
            self.push(match key {
                Some(key) => Pending::Fetch(key),
                None => Pending::Roots(Nested { table, path: number, values }, None),
            })?;
        }
        Ok(())
    }
}
