//! One read transaction as a snapshot, of a host or of a target.

use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::Snapshot;
use fides_core::{Fault, Key, KeyRange, Kind, Page, PageBuilder, Selection, Value, Version};
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Row, Transaction};
use tokio::sync::{Mutex, MutexGuard};

use crate::connect::Database;
use crate::query::{beside, list, order};
use crate::reading::Reading;
use crate::{bind, read};

/// A consistent state: SQLite's read transactions belong to one connection, so its readers take turns.
pub(crate) struct SqliteSnapshot {
    reading: Reading,
    version: Version,
    transaction: Mutex<Transaction<'static, Sqlite>>,
}

impl SqliteSnapshot {
    /// Opens a state and proves that it can be read as the selection says: tables, columns and a key without NULL.
    pub(crate) async fn open(database: Arc<Database>, selection: &Selection, version: Version) -> Result<Self, Fault> {
        let transaction = database.begin_read().await?;
        Self::within(database, transaction, selection, version).await
    }

    /// The same over a state that is open already.
    pub(crate) async fn within(
        database: Arc<Database>,
        mut transaction: Transaction<'static, Sqlite>,
        selection: &Selection,
        version: Version,
    ) -> Result<Self, Fault> {
        let reading = Reading::open(database, &mut transaction, selection).await?;
        Ok(Self { reading, version, transaction: Mutex::new(transaction) })
    }

    async fn connection(&self) -> MutexGuard<'_, Transaction<'static, Sqlite>> {
        self.transaction.lock().await
    }

    /// The condition that keeps one side of `key`, which may name only the first columns: the other store plans, too.
    fn bound(&self, arguments: &mut SqliteArguments, key: &Key, operator: &str) -> Result<Option<String>, Fault> {
        let cells =
            bind::bound(key, &self.reading.key_kinds).map_err(|fault| fault.at(&self.reading.selection.namespace))?;
        if cells.is_empty() {
            return Ok(None);
        }
        // What begins with these columns sorts after them.
        let operator = if operator == ">" && cells.len() < self.reading.key.len() { ">=" } else { operator };
        let condition = beside(&self.reading.key[..cells.len()], operator, arguments.len());
        cells.iter().try_for_each(|cell| cell.bind(arguments))?;
        Ok(Some(condition))
    }

    /// Refuses a first row of the next page whose key is the last one of this page: the key is not unique.
    fn refuse_equal(&self, page: &Page, next: &SqliteRow) -> Result<(), Fault> {
        let (mut key, mut row) = (Vec::new(), Vec::new());
        self.reading.encode(next, &mut key, &mut row)?;
        let last = page.len().checked_sub(1).map(|at| page.keys.get(at));
        if last.is_some_and(|last| last >= key.as_slice()) {
            let columns = self.reading.selection.key.join(", ");
            return Err(Fault::permanent(format!(
                "table {}: key ({columns}) = {} is not unique",
                self.reading.selection.namespace,
                Key::from_bytes(key)
            ))
            .advise("name key columns that are unique and not null"));
        }
        Ok(())
    }

    /// Integers: the span between the smallest and the largest key, in equal parts. Two seeks.
    async fn split_integers(&self, want: usize) -> Result<Vec<Key>, Fault> {
        let (term, table) = (&self.reading.key[0].column, &self.reading.table);
        let sql = format!("SELECT (SELECT min({term}) FROM {table} r), (SELECT max({term}) FROM {table} r)");
        let mut connection = self.connection().await;
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut **connection).await;
        let row = row.map_err(|error| self.reading.fault(error))?;
        let (Value::I64(low), Value::I64(high)) = (read::value(&row, 0, Kind::I64)?, read::value(&row, 1, Kind::I64)?)
        else {
            return Ok(Vec::new());
        };
        let (low, span) = (i128::from(low), i128::from(high) - i128::from(low));
        let mut bounds: Vec<i64> = (1..want as i128)
            .map(|part| (low + span * part / want as i128) as i64)
            .filter(|&at| at > low as i64)
            .collect();
        bounds.dedup();
        bounds.into_iter().map(|bound| Key::encode(&[Value::I64(bound)])).collect()
    }

    /// Other keys: every n-th key of the index. A key without an index would be sorted each time: one range.
    async fn split_by_index(&self, want: usize) -> Result<Vec<Key>, Fault> {
        let (table, order) = (&self.reading.table, order(&self.reading.key));
        let columns = list(&self.reading.key, |term| term.column.clone());
        let mut connection = self.connection().await;
        let explain = format!("EXPLAIN QUERY PLAN SELECT {columns} FROM {table} r ORDER BY {order}");
        let steps = sqlx::query(AssertSqlSafe(explain)).fetch_all(&mut **connection).await;
        for step in steps.map_err(|error| self.reading.fault(error))? {
            let detail: String = step.try_get(3).map_err(|error| self.reading.fault(error))?;
            if detail.contains("TEMP B-TREE") {
                return Ok(Vec::new());
            }
        }
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {table}")))
            .fetch_one(&mut **connection)
            .await
            .map_err(|error| self.reading.fault(error))?;
        let step = (count as usize).div_ceil(want).max(1);
        let mut bounds: Vec<Key> = Vec::new();
        while bounds.len() + 1 < want {
            let mut arguments = SqliteArguments::default();
            let from = match bounds.last() {
                Some(last) => {
                    self.reading.bind_key(&mut arguments, last)?;
                    format!("WHERE {}", beside(&self.reading.key, ">=", 0))
                }
                None => String::new(),
            };
            let sql = format!("SELECT {columns} FROM {table} r {from} ORDER BY {order} LIMIT 1 OFFSET {step}");
            let row = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch_optional(&mut **connection).await;
            let Some(row) = row.map_err(|error| self.reading.fault(error))? else { break };
            bounds.push(self.reading.key_at(&row, 0)?);
        }
        Ok(bounds)
    }
}

#[async_trait]
impl Snapshot for SqliteSnapshot {
    fn version(&self) -> Version {
        self.version
    }

    async fn plan(&self, want: usize) -> Result<Vec<KeyRange>, Fault> {
        let bounds = match self.reading.key_positions.as_slice() {
            _ if want <= 1 => Vec::new(),
            [only] if self.reading.selection.columns[*only].kind == Kind::I64 => self.split_integers(want).await?,
            _ => self.split_by_index(want).await?,
        };
        let lowers = std::iter::once(None).chain(bounds.iter().cloned().map(Some));
        let uppers = bounds.iter().cloned().map(Some).chain([None]);
        Ok(lowers.zip(uppers).map(|(lower, upper)| KeyRange { lower, upper }).collect())
    }

    async fn scan(&self, range: &KeyRange, after: Option<&Key>) -> Result<Page, Fault> {
        let limit = self.reading.selection.page_records_max.max(1);
        let mut arguments = SqliteArguments::default();
        let mut conditions = Vec::new();
        let from = match (after, &range.lower) {
            (Some(after), Some(lower)) if after < lower => Some((lower, ">=")),
            (Some(after), _) => Some((after, ">")),
            (None, lower) => lower.as_ref().map(|lower| (lower, ">=")),
        };
        for (key, operator) in from.into_iter().chain(range.upper.as_ref().map(|upper| (upper, "<"))) {
            conditions.extend(self.bound(&mut arguments, key, operator)?);
        }
        // One row more than the page: it proves that there is more, or by its absence that there is not.
        let sql = format!(
            "SELECT {} FROM {} AS r{}{} ORDER BY {} LIMIT {}",
            self.reading.expressions,
            self.reading.table,
            if conditions.is_empty() { "" } else { " WHERE " },
            conditions.join(" AND "),
            order(&self.reading.key),
            limit + 1
        );
        let mut page = PageBuilder::new(self.reading.selection.seed);
        let next = self.reading.read_into(&mut *self.connection().await, sql, arguments, &mut page, limit).await?;
        let page = page.finish(self.version, self.reading.decoder.clone(), next.is_some());
        next.iter().try_for_each(|next| self.refuse_equal(&page, next))?;
        Ok(page)
    }

    async fn fetch(&self, keys: &[Key]) -> Result<Page, Fault> {
        self.reading.fetch(&mut *self.connection().await, keys, self.version).await
    }
}
