//! What the log says, made into changes of the selection's records. No waiting in here: an event that was taken from the
//! connection is in the batch, so that a cancelled read loses nothing.

use std::collections::HashMap;

use fides_core::{Fault, Key};

use super::batch::{Batch, Nested, Pending};
use super::columns::{Columns, Told};
use super::event::{self, kind};
use super::prepared::Prepared;
use super::row::{Did, Field, Form, Rows, TableMap};
use super::spot::{Spot, refuse_file};
use super::statement::{self, Effect};
use super::stream::Head;
use super::tables::Tables;
use crate::place;

/// The number of the table of rows that end a statement without telling a row.
const NO_TABLE: u64 = 0x00ff_ffff;
/// An event that a reader may pass over if it does not know it.
const IGNORABLE: u16 = 0x80;

/// A transaction whose changes are being read.
#[derive(Clone, Copy, Debug)]
struct Transaction {
    /// Where it starts: what a snapshot compares with. Every snapshot that sees it is at its end, or behind.
    position: u64,
    offset: u32,
    /// The number of its latest change.
    sequence: u32,
    /// Whether a commit ends it; otherwise its one statement does.
    has_end: bool,
}

/// A table of the log as its changes come now.
#[derive(Debug)]
struct Shape {
    /// Number among the tables that are followed.
    table: usize,
    forms: Vec<Form>,
    root: Option<Columns>,
    /// One for each path of the table.
    paths: Vec<Columns>,
}

/// What is known of a table of the log.
#[derive(Debug)]
enum Known {
    Foreign,
    Ours(Shape),
    /// It is ours, and cannot be read.
    Unreadable,
}

/// Reads events into a batch.
#[derive(Debug)]
pub(super) struct Collector {
    pub(super) tables: Tables,
    pub(super) batch: Batch,
    /// Everything before it was read to its end.
    pub(super) place: u64,
    /// A table of ours was defined anew: nothing more is read until it has been looked up.
    pub(super) is_redefined: bool,
    file: u32,
    mark: u8,
    transaction: Option<Transaction>,
    prepared: Prepared,
    /// By the number of the table.
    shapes: HashMap<u64, Known>,
}

impl Collector {
    pub(super) fn new(tables: Tables, from: Spot) -> Self {
        Self {
            tables,
            batch: Batch::default(),
            place: from.place(),
            is_redefined: false,
            file: from.file,
            mark: from.mark,
            transaction: None,
            prepared: Prepared::default(),
            shapes: HashMap::new(),
        }
    }

    /// Whether changes of a transaction were read whose end was not.
    pub(super) fn is_inside(&self) -> bool {
        self.transaction.is_some_and(|transaction| transaction.sequence > 0)
    }

    /// The tables as they are now.
    pub(super) fn redefine(&mut self, tables: Tables) {
        self.tables = tables;
        self.shapes.clear();
        self.is_redefined = false;
    }

    /// Takes one event.
    pub(super) fn take(&mut self, head: Head, body: &[u8]) -> Result<(), Fault> {
        match head.kind {
            kind::ROTATE => self.rotate(body)?,
            kind::DESCRIPTION => {
                self.mark = Spot::mark_of(head.second);
                // The first event of a file, and not a copy of it.
                if head.end > 0 {
                    self.place = Spot { file: self.file, mark: self.mark, offset: head.end }.place();
                }
            }
            kind::GTID | kind::ANONYMOUS => self.begin(head, false),
            kind::MARIADB_GTID => self.begin(head, !event::is_standalone(body).ok_or_else(|| self.damaged())?),
            kind::XID => self.end(head),
            kind::XA_PREPARE => {
                self.prepared.learn(body, self.is_inside()).ok_or_else(|| self.damaged())?;
                self.end(head);
            }
            kind::QUERY | kind::QUERY_COMPRESSED => self.statement(head, body)?,
            kind::TABLE_MAP => self.map(body)?,
            kind::EXECUTE_LOAD => self.untold(head, Pending::Untold, "a file was loaded by a statement")?,
            kind::INCIDENT => self.untold(head, Pending::Emptied, "the server says that its log lacks something")?,
            known if kind::is_silent(known) => {}
            other => match Did::of(other) {
                Some(did) => {
                    let rows = Rows::read(did, other, body).ok_or_else(|| self.damaged())?;
                    self.rows(head, &rows)?;
                }
                None if head.flags & IGNORABLE != 0 => {}
                None => return Err(self.unknown(other)),
            },
        }
        Ok(())
    }

    fn damaged(&self) -> Fault {
        Fault::transient(format!("the log of table {}: an event makes no sense", self.tables.0[0].place()))
    }

    /// Whoever passes over what it does not know loses rows.
    fn unknown(&self, kind: u8) -> Fault {
        let place = self.tables.0[0].place();
        Fault::permanent(format!("the log of table {place}: an event of kind {kind}, which is not known"))
            .advise("leave `events` out of the pipeline: imports find what changed")
    }

    fn rotate(&mut self, body: &[u8]) -> Result<(), Fault> {
        let next = event::rotate(body).and_then(|(name, _)| place::number(name)).ok_or_else(|| self.damaged())?;
        refuse_file(next)?;
        if next != self.file {
            self.file = next;
            // Both begin anew in every file.
            self.transaction = None;
            self.shapes.clear();
        }
        Ok(())
    }

    fn begin(&mut self, head: Head, has_end: bool) {
        let offset = head.end.saturating_sub(head.size);
        let position = place::position(self.file, offset);
        self.transaction = Some(Transaction { position, offset, sequence: 0, has_end });
    }

    fn end(&mut self, head: Head) {
        let Some(transaction) = self.transaction.take() else { return };
        // Offsets have 32 bits: behind 4 GiB they begin anew, and the next file is not far.
        if head.end > transaction.offset {
            self.place = Spot { file: self.file, mark: self.mark, offset: head.end }.place();
        }
    }

    fn statement(&mut self, head: Head, body: &[u8]) -> Result<(), Fault> {
        let (database, text) = event::query(body, head.kind == kind::QUERY_COMPRESSED).ok_or_else(|| self.damaged())?;
        let ours = self.tables.0.iter().map(|followed| (followed.database.as_str(), followed.table.as_str()));
        match statement::effect(&database, &text, ours) {
            Effect::Begin => match &mut self.transaction {
                Some(transaction) => transaction.has_end = true,
                None => self.begin(head, true),
            },
            Effect::End => self.end(head),
            effect => {
                if self.transaction.is_none() {
                    self.begin(head, false);
                }
                match effect {
                    Effect::Untold => self.untold(head, Pending::Untold, "rows were changed by a statement")?,
                    Effect::CommitsPrepared if self.prepared.may_be_ours(&text) => {
                        self.untold(head, Pending::Untold, "a prepared transaction was committed")?;
                    }
                    Effect::Defines => {
                        self.untold(head, Pending::Emptied, "a table was emptied or changed")?;
                        self.is_redefined = true;
                    }
                    _ => {}
                }
                if self.transaction.is_some_and(|transaction| !transaction.has_end) {
                    self.end(head);
                }
            }
        }
        Ok(())
    }

    /// Something changed, and what it was is not in the log: judged by an import.
    fn untold(&mut self, head: Head, what: Pending, why: &str) -> Result<(), Fault> {
        if self.transaction.is_none() {
            self.begin(head, true);
        }
        let Some(transaction) = &mut self.transaction else { return Ok(()) };
        // Once for a transaction is enough, unless something else came between.
        let last = self.batch.entries.last();
        if last.is_some_and(|last| last.position == transaction.position && last.covers(&what)) {
            return Ok(());
        }
        tracing::warn!(table = self.tables.0[0].place(), why, "the log does not tell which records changed");
        let sequence = transaction.next()?;
        self.batch.push(transaction.position, sequence, what);
        Ok(())
    }

    /// Learns how the changes of a table come from here on.
    fn map(&mut self, body: &[u8]) -> Result<(), Fault> {
        let map = TableMap::read(body).ok_or_else(|| self.damaged())?;
        let known = match self.tables.position(map.database, map.table) {
            None => Known::Foreign,
            Some(table) => {
                let forms = map.columns().ok_or_else(|| self.damaged())?;
                match Shape::new(table, &self.tables, forms) {
                    Ok(shape) => Known::Ours(shape),
                    Err(fault) => {
                        tracing::warn!(%fault, "a part of the log cannot be read");
                        Known::Unreadable
                    }
                }
            }
        };
        self.shapes.insert(map.id, known);
        Ok(())
    }

    fn rows(&mut self, head: Head, rows: &Rows<'_>) -> Result<(), Fault> {
        if rows.table == NO_TABLE {
            return Ok(());
        }
        let Some(mut transaction) = self.transaction else { return Err(self.damaged()) };
        let unreadable = match self.shapes.get(&rows.table) {
            None => return Err(self.damaged()),
            Some(Known::Foreign) => return Ok(()),
            Some(Known::Unreadable) => true,
            Some(Known::Ours(shape)) => {
                let mut intake =
                    Intake { batch: &mut self.batch, transaction: &mut transaction, shape, is_untold: false };
                let place = self.tables.0[shape.table].place();
                let damaged = || Fault::transient(format!("the log of table {place}: rows make no sense"));
                rows.each(&shape.forms, |old, new| intake.change(rows.did, old, new), damaged)?;
                let untold = intake.is_untold;
                self.transaction = Some(transaction);
                untold
            }
        };
        if unreadable { self.untold(head, Pending::Untold, "a row in the log cannot be read") } else { Ok(()) }
    }
}

impl Transaction {
    fn next(&mut self) -> Result<u32, Fault> {
        self.sequence = self
            .sequence
            .checked_add(1)
            .ok_or_else(|| Fault::permanent("a transaction has more changes than can be numbered (2^32)".to_owned()))?;
        Ok(self.sequence)
    }
}

impl Shape {
    fn new(table: usize, tables: &Tables, forms: Vec<Form>) -> Result<Self, Fault> {
        let followed = &tables.0[table];
        let place = followed.place();
        let find = |expected: &[_]| Columns::find(&place, expected, followed.width, &forms);
        let root = followed.root.as_deref().map(find).transpose()?;
        let paths = followed.paths.iter().map(|path| find(&path.own)).collect::<Result<_, _>>()?;
        Ok(Self { table, forms, root, paths })
    }
}

/// Changes on their way into the batch.
struct Intake<'c> {
    batch: &'c mut Batch,
    transaction: &'c mut Transaction,
    shape: &'c Shape,
    /// Whether something of them could not be read.
    is_untold: bool,
}

type Row<'r, 'b> = Option<&'r [Field<'b>]>;

impl Intake<'_> {
    fn push(&mut self, what: Pending) -> Result<(), Fault> {
        let sequence = self.transaction.next()?;
        self.batch.push(self.transaction.position, sequence, what);
        Ok(())
    }

    fn change(&mut self, did: Did, old: Row<'_, '_>, new: Row<'_, '_>) -> Result<(), Fault> {
        let shape = self.shape;
        if let Some(columns) = &shape.root {
            let before = self.told(old.map(|old| columns.key(&shape.forms, old, None)));
            let now = self.told(new.map(|new| columns.key(&shape.forms, new, old)));
            self.root(did, before, now)?;
        }
        for (path, columns) in shape.paths.iter().enumerate() {
            let before = self.told(old.map(|old| columns.literals(&shape.forms, old, None)));
            let now = self.told(new.map(|new| columns.literals(&shape.forms, new, old)));
            // A row that moved is in both roots.
            let before = before.filter(|before| now.as_ref() != Some(before));
            for values in [before, now].into_iter().flatten() {
                self.push(Pending::Roots(Nested { table: shape.table, path, values }, None))?;
            }
        }
        Ok(())
    }

    /// A change of a root: the old key is gone if it is another now.
    fn root(&mut self, did: Did, before: Option<Key>, now: Option<Key>) -> Result<(), Fault> {
        match (did, before, now) {
            (_, Some(before), Some(now)) if before != now => {
                self.push(Pending::Deleted(before))?;
                self.push(Pending::Changed(now))
            }
            (_, _, Some(now)) => self.push(Pending::Changed(now)),
            (Did::Delete, Some(before), None) => self.push(Pending::Deleted(before)),
            _ => Ok(()),
        }
    }

    /// What a row says; a NULL leads nowhere.
    fn told<T>(&mut self, told: Option<Result<Told<T>, Fault>>) -> Option<T> {
        match told? {
            Ok(Told::All(values)) => Some(values),
            Ok(Told::Null) => None,
            Ok(Told::Absent) => {
                self.is_untold = true;
                None
            }
            Err(fault) => {
                tracing::warn!(%fault, "a row in the log cannot be read");
                self.is_untold = true;
                None
            }
        }
    }
}
