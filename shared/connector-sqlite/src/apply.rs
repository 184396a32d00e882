//! One batch of changes as one transaction, in which only the bad record fails.

use fides_core::port::{Outcome, Write};
use fides_core::{Change, Fault, FaultKind, Kind, Op, Value, decode_row};
use sqlx::sqlite::{Sqlite, SqliteArguments};
use sqlx::{AssertSqlSafe, Transaction};

use crate::bind::{self, Cell};
use crate::connect::Database;
use crate::lane;
use crate::query::{KeyTerm, chunks, joined, list, parameters, quoted, rows, seek, table};

/// Parameters of one statement (SQLite allows 32,766).
const PARAMETERS_MAX: usize = 32_766;

/// Rows of one statement: beyond this nothing is gained, and a bad record costs more.
const ROWS_MAX: usize = 256;

/// Keys of one DELETE: each is a term of an OR, and SQLite bounds the depth of expressions.
const DELETE_KEYS_MAX: usize = 128;

/// Writes the changes; see [`fides_core::port::Target::apply`].
///
/// Cancelled before the commit, nothing was written; cancelled during it, nobody knows.
pub(crate) async fn apply(database: &Database, write: &Write<'_>, changes: &[Change]) -> Vec<Outcome> {
    let writer = match Writer::new(database, write) {
        Ok(writer) => writer,
        Err(fault) => return changes.iter().map(|_| Outcome::Failed(fault.clone())).collect(),
    };
    let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(changes.len());
    let mut pending = Vec::with_capacity(changes.len());
    for (at, change) in changes.iter().enumerate() {
        let item = writer.item(at, change);
        outcomes.push(item.as_ref().err().cloned().map(Outcome::Failed));
        pending.extend(item);
    }
    writer.write(&pending, &mut outcomes).await;
    let missing = || Outcome::Failed(Fault::transient("the change was not written"));
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missing)).collect()
}

/// A change, ready to be bound.
struct Item {
    /// Its place among the changes.
    at: usize,
    key: Vec<Cell>,
    /// The row; `None` deletes.
    row: Option<Vec<Cell>>,
    version: String,
}

struct Writer<'a> {
    database: &'a Database,
    write: &'a Write<'a>,
    table: String,
    key: Vec<String>,
    key_kinds: Vec<Kind>,
    columns: Vec<String>,
}

impl<'a> Writer<'a> {
    fn new(database: &'a Database, write: &'a Write<'a>) -> Result<Self, Fault> {
        let columns = write.shape.fields.iter().map(|field| &field.name).chain(&write.sink.version_field);
        Ok(Self {
            table: table(&write.sink.namespace)?,
            key: write.shape.key_names().map(quoted).collect(),
            key_kinds: write.shape.key.iter().map(|&at| write.shape.fields[at].kind).collect(),
            columns: columns.map(|name| quoted(name)).collect(),
            database,
            write,
        })
    }

    fn item(&self, at: usize, change: &Change) -> Result<Item, Fault> {
        let place = |fault: Fault| fault.at(format_args!("record {} of {}", change.key, self.write.sink.namespace));
        let version = hex(change.version.to_bytes());
        let row = match &change.op {
            Op::Upsert(document) => Some(self.row(document, &version).map_err(place)?),
            Op::Delete => None,
            Op::Reject { reason, .. } => return Err(Fault::permanent(reason.clone())),
        };
        let key = match &row {
            Some(row) => self.write.shape.key.iter().filter_map(|&at| row.get(at).cloned()).collect(),
            None => bind::key(&change.key, &self.key_kinds).map_err(place)?,
        };
        Ok(Item { at, key, row, version })
    }

    fn row(&self, document: &[u8], version: &str) -> Result<Vec<Cell>, Fault> {
        let shape = self.write.shape;
        let values = decode_row(document)?;
        if values.len() != shape.fields.len() {
            let (found, expected) = (values.len(), shape.fields.len());
            return Err(Fault::permanent(format!("the document has {found} fields, expected {expected}")));
        }
        let mut row = Vec::with_capacity(self.columns.len());
        for (at, (value, field)) in values.iter().zip(&shape.fields).enumerate() {
            let is_key = shape.key.contains(&at);
            let cell = match is_key {
                true if !bind::is_key_of(field.kind, value) => Err(other_key(value, field.kind)),
                true => Cell::of_key(value),
                false => Cell::of(value, field.kind),
            };
            row.push(cell.map_err(|fault| fault.at(format_args!("field {}", field.name)))?);
        }
        row.extend(self.write.sink.version_field.iter().map(|_| Cell::Text(version.into())));
        Ok(row)
    }

    /// One transaction; where only its commit finds a bad record (deferred foreign keys), one for each half.
    async fn write(&self, items: &[Item], outcomes: &mut [Option<Outcome>]) {
        let mut parts = vec![items];
        while let Some(items) = parts.pop() {
            let Some(failure) = self.transact(items, outcomes).await else { continue };
            let fault = match failure {
                Failure::Commit(fault) if is_of_record(&fault) && items.len() > 1 => {
                    let (left, right) = items.split_at(items.len() / 2);
                    parts.extend([right, left]);
                    continue;
                }
                Failure::Commit(fault) if !is_of_record(&fault) => {
                    settle(outcomes, items, &Outcome::Unknown(fault));
                    continue;
                }
                Failure::Commit(fault) | Failure::Batch(fault) => fault,
            };
            settle(outcomes, items, &Outcome::Failed(fault));
        }
    }

    /// Writes and commits `items`, and settles their outcomes, unless it fails as a whole.
    async fn transact(&self, items: &[Item], outcomes: &mut [Option<Outcome>]) -> Option<Failure> {
        if items.is_empty() {
            return None;
        }
        match self.attempt(items).await {
            Ok(found) => {
                for (item, outcome) in items.iter().zip(found) {
                    outcomes[item.at] = Some(outcome);
                }
                None
            }
            Err(failure) => Some(failure),
        }
    }

    async fn attempt(&self, items: &[Item]) -> Result<Vec<Outcome>, Failure> {
        let mut transaction = self.database.begin_write().await?;
        lane::require(self.database, &mut transaction, self.write).await?;
        let mut outcomes = vec![Outcome::Applied; items.len()];
        self.judge_versions(&mut transaction, items, &mut outcomes).await?;
        let admitted = |(at, item): (usize, &'_ Item)| {
            matches!(outcomes[at], Outcome::Applied).then_some((at, item.row.is_some()))
        };
        let (upserts, deletes): (Vec<_>, Vec<_>) =
            items.iter().enumerate().filter_map(admitted).partition(|(_, upsert)| *upsert);
        // Deletes first: they may free a unique value for an upsert.
        for (chosen, statement) in [(deletes, Statement::Delete), (upserts, Statement::Upsert)] {
            let chosen: Vec<usize> = chosen.into_iter().map(|(at, _)| at).collect();
            self.run(&mut transaction, statement, items, &chosen, &mut outcomes).await?;
        }
        transaction.commit().await.map_err(|error| Failure::Commit(self.fault(error)))?;
        Ok(outcomes)
    }

    /// With a version field: what the target holds in a newer version is stale. Read under the write lock, so it holds
    /// until the commit. An equal version is the same state, so that applying it again is harmless.
    async fn judge_versions(
        &self,
        transaction: &mut Transaction<'static, Sqlite>,
        items: &[Item],
        outcomes: &mut [Outcome],
    ) -> Result<(), Fault> {
        let Some(field) = &self.write.sink.version_field else { return Ok(()) };
        let term = |column: &String| KeyTerm { column: format!("r.{column}"), collated: false };
        let key: Vec<KeyTerm> = self.key.iter().map(term).collect();
        for chunk in chunks(items.len(), (PARAMETERS_MAX / (key.len() + 1)).min(ROWS_MAX)) {
            let mut arguments = SqliteArguments::default();
            for at in chunk.clone() {
                items[at].key.iter().try_for_each(|cell| cell.bind(&mut arguments))?;
                Cell::Integer(at as i64).bind(&mut arguments)?;
            }
            let from = seek(&self.table, &key, chunk.len(), 1);
            let held = format!("r.{}", quoted(field));
            let sql = format!("SELECT k.column{}, {held} {from} WHERE typeof({held}) = 'text'", key.len() + 1);
            let found: Vec<(i64, String)> = sqlx::query_as_with(AssertSqlSafe(sql), arguments)
                .fetch_all(&mut **transaction)
                .await
                .map_err(|error| self.fault(error))?;
            for (at, held) in found {
                if held > items[at as usize].version {
                    outcomes[at as usize] = Outcome::Stale;
                }
            }
        }
        Ok(())
    }

    /// Runs a statement over the chosen items in chunks. A chunk that fails through one of its records is undone and
    /// halved, until the bad record stands alone.
    async fn run(
        &self,
        transaction: &mut Transaction<'static, Sqlite>,
        statement: Statement,
        items: &[Item],
        chosen: &[usize],
        outcomes: &mut [Outcome],
    ) -> Result<(), Fault> {
        let max = match statement {
            Statement::Upsert => (PARAMETERS_MAX / self.columns.len().max(1)).min(ROWS_MAX),
            Statement::Delete => DELETE_KEYS_MAX,
        };
        for chunk in chunks(chosen.len(), max) {
            let mut parts = vec![chunk];
            while let Some(part) = parts.pop() {
                self.execute(transaction, "SAVEPOINT fides_part").await?;
                let (sql, arguments) = self.statement(statement, part.clone().map(|at| &items[chosen[at]]))?;
                let done = sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&mut **transaction).await;
                if let Err(error) = done {
                    let fault = self.fault(error);
                    if !is_of_record(&fault) {
                        return Err(fault);
                    }
                    // Fails where a trigger has ended the whole transaction: then nothing of it may be reported.
                    self.execute(transaction, "ROLLBACK TO fides_part").await?;
                    if part.len() == 1 {
                        outcomes[chosen[part.start]] = Outcome::Failed(fault);
                    } else {
                        let middle = part.start.midpoint(part.end);
                        parts.extend([middle..part.end, part.start..middle]);
                    }
                }
                self.execute(transaction, "RELEASE fides_part").await?;
            }
        }
        Ok(())
    }

    fn statement<'i>(
        &self,
        statement: Statement,
        items: impl ExactSizeIterator<Item = &'i Item>,
    ) -> Result<(String, SqliteArguments), Fault> {
        let mut arguments = SqliteArguments::default();
        let sql = match statement {
            Statement::Upsert => self.upsert_sql(items.len()),
            Statement::Delete => self.delete_sql(items.len()),
        };
        for item in items {
            let cells = item.row.as_ref().unwrap_or(&item.key);
            cells.iter().try_for_each(|cell| cell.bind(&mut arguments))?;
        }
        Ok((sql, arguments))
    }

    /// OR ABORT overrides what the table's own constraints say of conflicts: none may swallow a record.
    fn upsert_sql(&self, count: usize) -> String {
        let rest = self.columns.iter().filter(|column| !self.key.contains(column));
        let set = list(rest, |column| format!("{column} = excluded.{column}"));
        let action = if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {set}") };
        format!(
            "INSERT OR ABORT INTO {} ({}) VALUES {} ON CONFLICT ({}) DO {action}",
            self.table,
            self.columns.join(", "),
            rows(count, self.columns.len()),
            self.key.join(", ")
        )
    }

    fn delete_sql(&self, count: usize) -> String {
        let condition = match self.key.as_slice() {
            [only] => format!("{only} IN ({})", parameters(0, count)),
            key => {
                let one = format!("({})", joined(key.iter().map(|column| format!("{column} = ?")), " AND "));
                joined((0..count).map(|_| one.clone()), " OR ")
            }
        };
        format!("DELETE FROM {} WHERE {condition}", self.table)
    }

    async fn execute(&self, transaction: &mut Transaction<'static, Sqlite>, sql: &'static str) -> Result<(), Fault> {
        sqlx::query(sql).execute(&mut **transaction).await.map(drop).map_err(|error| {
            let fault = self.fault(error);
            Fault { kind: FaultKind::Unavailable, ..fault }
        })
    }

    fn fault(&self, error: sqlx::Error) -> Fault {
        self.database.fault(&format!("table {} could not be written", self.write.sink.namespace), error)
    }
}

#[derive(Clone, Copy)]
enum Statement {
    Upsert,
    Delete,
}

/// Why a transaction did not happen.
enum Failure {
    /// Before its commit: nothing was written.
    Batch(Fault),
    /// At its commit.
    Commit(Fault),
}

/// No record is to blame for what stops a batch: whatever it was, nothing of it may become a dead letter.
impl From<Fault> for Failure {
    fn from(mut fault: Fault) -> Self {
        if is_of_record(&fault) {
            fault.kind = FaultKind::Unavailable;
        }
        Failure::Batch(fault)
    }
}

/// Whether one record is to blame, rather than the file or the connection.
fn is_of_record(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::Permanent | FaultKind::Deferred)
}

fn other_key(value: &Value<'_>, declared: Kind) -> Fault {
    let found = value.kind().map_or("null", Kind::name);
    Fault::permanent(format!("a key of kind {found} would be read back as another, where {declared} is declared"))
}

fn settle(outcomes: &mut [Option<Outcome>], items: &[Item], outcome: &Outcome) {
    for item in items {
        outcomes[item.at] = Some(outcome.clone());
    }
}

fn hex(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}
