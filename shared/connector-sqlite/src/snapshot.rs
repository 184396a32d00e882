//! One read transaction as a snapshot, of a host or of a target.

use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::Snapshot;
use fides_core::{Column, Decode, Fault, Include, Key, KeyRange, Kind, Page, PageBuilder, Selection, Value, Version};
use futures::TryStreamExt;
use sqlx::Arguments;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row, Transaction};
use tokio::sync::{Mutex, MutexGuard};

use crate::connect::Database;
use crate::describe::{is_collated, require, require_columns};
use crate::query::{KeyTerm, beside, chunks, list, order, quoted, seek, table};
use crate::{bind, include, read};

/// Keys that one statement seeks.
const FETCH_KEYS_MAX: usize = 512;

/// A consistent state: SQLite's read transactions belong to one connection, so its readers take turns.
pub(crate) struct SqliteSnapshot {
    database: Arc<Database>,
    selection: Selection,
    version: Version,
    key: Vec<KeyTerm>,
    key_positions: Vec<usize>,
    key_kinds: Vec<Kind>,
    table: String,
    /// What is read, in the order of the row.
    expressions: String,
    decoder: Arc<dyn Decode>,
    transaction: Mutex<Transaction<'static, Sqlite>>,
}

impl SqliteSnapshot {
    /// Opens a state and proves that it can be read as the selection says: tables, columns and a key without NULL.
    pub(crate) async fn open(database: Arc<Database>, selection: &Selection, version: Version) -> Result<Self, Fault> {
        let mut transaction = database.begin_read().await?;
        let key = check(&database, &mut transaction, selection).await?;
        let mut aliases = 0;
        let mut expressions = list(&selection.columns, |column| format!("r.{}", quoted(&column.name)));
        for related in &selection.includes {
            expressions.push_str(", ");
            expressions.push_str(&include::subquery(related, "r", &mut aliases)?);
        }
        Ok(Self {
            table: table(&selection.namespace)?,
            key_kinds: selection.key_positions().iter().map(|&at| selection.columns[at].kind).collect(),
            key_positions: selection.key_positions(),
            decoder: include::decoder(selection),
            selection: selection.clone(),
            transaction: Mutex::new(transaction),
            database,
            version,
            key,
            expressions,
        })
    }

    async fn connection(&self) -> MutexGuard<'_, Transaction<'static, Sqlite>> {
        self.transaction.lock().await
    }

    fn fault(&self, error: sqlx::Error) -> Fault {
        self.database.fault(&format!("table {} could not be read", self.selection.namespace), error)
    }

    fn bind_key(&self, arguments: &mut SqliteArguments, key: &Key) -> Result<(), Fault> {
        let cells = bind::key(key, &self.key_kinds).map_err(|fault| fault.at(&self.selection.namespace))?;
        cells.iter().try_for_each(|cell| cell.bind(arguments))
    }

    /// The condition that keeps one side of `key`, which may name only the first columns: the other store plans, too.
    fn bound(&self, arguments: &mut SqliteArguments, key: &Key, operator: &str) -> Result<Option<String>, Fault> {
        let cells = bind::bound(key, &self.key_kinds).map_err(|fault| fault.at(&self.selection.namespace))?;
        if cells.is_empty() {
            return Ok(None);
        }
        // What begins with these columns sorts after them.
        let operator = if operator == ">" && cells.len() < self.key.len() { ">=" } else { operator };
        let condition = beside(&self.key[..cells.len()], operator, arguments.len());
        cells.iter().try_for_each(|cell| cell.bind(arguments))?;
        Ok(Some(condition))
    }

    /// Encodes a row into `row` and its key into `key`.
    fn encode(&self, from: &SqliteRow, key: &mut Vec<u8>, row: &mut Vec<u8>) -> Result<(), Fault> {
        let place = |fault: Fault| fault.at(format_args!("table {}", self.selection.namespace));
        let columns = &self.selection.columns;
        for &at in &self.key_positions {
            let value = read::value(from, at, columns[at].kind).map_err(place)?;
            self.encode_key(&columns[at], &value, key)?;
        }
        for (at, column) in columns.iter().enumerate() {
            fides_core::encode_value(row, &read::value(from, at, column.kind).map_err(place)?);
        }
        for at in columns.len()..columns.len() + self.selection.includes.len() {
            // SQLite made this text: it is JSON.
            let text: Option<&str> = from.try_get_unchecked(at).map_err(|error| self.fault(error))?;
            fides_core::encode_value(row, &text.map_or(Value::Null, |text| Value::Json(text.into())));
        }
        Ok(())
    }

    /// A key value of another kind than its column's would sort, and be matched, differently elsewhere.
    fn encode_key(&self, column: &Column, value: &Value<'_>, key: &mut Vec<u8>) -> Result<(), Fault> {
        let fits = match (column.kind, value.kind()) {
            (_, None) => return Err(null_key(&self.selection, &column.name)),
            (Kind::Any, Some(kind)) => matches!(kind, Kind::I64 | Kind::String | Kind::Bytes),
            (Kind::U64, Some(kind)) => kind == Kind::U64,
            (declared, Some(kind)) => declared == kind,
        };
        if !fits {
            let (found, place) = (value.kind().map_or("null", Kind::name), &self.selection.namespace);
            return Err(Fault::permanent(format!(
                "key column {place}.{} ({}) holds {}, which is {found}, not {}",
                column.name,
                column.native,
                fides_format::to_json(value),
                column.kind
            ))
            .advise("values of one kind only can be a key: correct the record, or the column's type"));
        }
        Key::encode_column(value, key).map_err(|fault| fault.at(format_args!("key column {}", column.name)))
    }

    async fn read_into(
        &self,
        connection: &mut SqliteConnection,
        sql: String,
        arguments: SqliteArguments,
        page: &mut PageBuilder,
        limit: usize,
    ) -> Result<Option<SqliteRow>, Fault> {
        let mut rows = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch(connection);
        while let Some(row) = rows.try_next().await.map_err(|error| self.fault(error))? {
            if page.len() == limit {
                return Ok(Some(row));
            }
            let pushed = page.push(|key, bytes| self.encode(&row, key, bytes));
            pushed.map_err(|fault| fault.at(format_args!("table {}", self.selection.namespace)))?;
        }
        Ok(None)
    }

    /// Refuses a first row of the next page whose key is the last one of this page: the key is not unique.
    fn refuse_equal(&self, page: &Page, next: &SqliteRow) -> Result<(), Fault> {
        let (mut key, mut row) = (Vec::new(), Vec::new());
        self.encode(next, &mut key, &mut row)?;
        let last = page.len().checked_sub(1).map(|at| page.keys.get(at));
        if last.is_some_and(|last| last >= key.as_slice()) {
            let columns = self.selection.key.join(", ");
            return Err(Fault::permanent(format!(
                "table {}: key ({columns}) = {} is not unique",
                self.selection.namespace,
                Key::from_bytes(key)
            ))
            .advise("name key columns that are unique and not null"));
        }
        Ok(())
    }

    /// Integers: the span between the smallest and the largest key, in equal parts. Two seeks.
    async fn split_integers(&self, want: usize) -> Result<Vec<Key>, Fault> {
        let (term, table) = (&self.key[0].column, &self.table);
        let sql = format!("SELECT (SELECT min({term}) FROM {table} r), (SELECT max({term}) FROM {table} r)");
        let mut connection = self.connection().await;
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut **connection).await;
        let row = row.map_err(|error| self.fault(error))?;
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
        let (table, order) = (&self.table, order(&self.key));
        let columns = list(&self.key, |term| term.column.clone());
        let mut connection = self.connection().await;
        let explain = format!("EXPLAIN QUERY PLAN SELECT {columns} FROM {table} r ORDER BY {order}");
        let steps = sqlx::query(AssertSqlSafe(explain)).fetch_all(&mut **connection).await;
        for step in steps.map_err(|error| self.fault(error))? {
            let detail: String = step.try_get(3).map_err(|error| self.fault(error))?;
            if detail.contains("TEMP B-TREE") {
                return Ok(Vec::new());
            }
        }
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {table}")))
            .fetch_one(&mut **connection)
            .await
            .map_err(|error| self.fault(error))?;
        let step = (count as usize).div_ceil(want).max(1);
        let mut bounds: Vec<Key> = Vec::new();
        while bounds.len() + 1 < want {
            let mut arguments = SqliteArguments::default();
            let from = match bounds.last() {
                Some(last) => {
                    self.bind_key(&mut arguments, last)?;
                    format!("WHERE {}", beside(&self.key, ">=", 0))
                }
                None => String::new(),
            };
            let sql = format!("SELECT {columns} FROM {table} r {from} ORDER BY {order} LIMIT 1 OFFSET {step}");
            let row = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch_optional(&mut **connection).await;
            let Some(row) = row.map_err(|error| self.fault(error))? else { break };
            let mut key = Vec::new();
            for (at, &position) in self.key_positions.iter().enumerate() {
                let column = &self.selection.columns[position];
                self.encode_key(column, &read::value(&row, at, column.kind)?, &mut key)?;
            }
            bounds.push(Key::from_bytes(key));
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
        let bounds = match self.key_positions.as_slice() {
            _ if want <= 1 => Vec::new(),
            [only] if self.selection.columns[*only].kind == Kind::I64 => self.split_integers(want).await?,
            _ => self.split_by_index(want).await?,
        };
        let lowers = std::iter::once(None).chain(bounds.iter().cloned().map(Some));
        let uppers = bounds.iter().cloned().map(Some).chain([None]);
        Ok(lowers.zip(uppers).map(|(lower, upper)| KeyRange { lower, upper }).collect())
    }

    async fn scan(&self, range: &KeyRange, after: Option<&Key>) -> Result<Page, Fault> {
        let limit = self.selection.page_records_max.max(1);
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
            self.expressions,
            self.table,
            if conditions.is_empty() { "" } else { " WHERE " },
            conditions.join(" AND "),
            order(&self.key),
            limit + 1
        );
        let mut page = PageBuilder::new(self.selection.seed);
        let next = self.read_into(&mut *self.connection().await, sql, arguments, &mut page, limit).await?;
        let page = page.finish(self.version, self.decoder.clone(), next.is_some());
        next.iter().try_for_each(|next| self.refuse_equal(&page, next))?;
        Ok(page)
    }

    async fn fetch(&self, keys: &[Key]) -> Result<Page, Fault> {
        let mut keys: Vec<&Key> = keys.iter().collect();
        keys.sort_unstable();
        keys.dedup();
        let mut page = PageBuilder::new(self.selection.seed);
        let mut connection = self.connection().await;
        for chunk in chunks(keys.len(), FETCH_KEYS_MAX) {
            let mut arguments = SqliteArguments::default();
            let from = seek(&self.table, &self.key, chunk.len(), 0);
            keys[chunk].iter().try_for_each(|key| self.bind_key(&mut arguments, key))?;
            let sql = format!("SELECT {} {from} ORDER BY {}", self.expressions, order(&self.key));
            self.read_into(&mut connection, sql, arguments, &mut page, usize::MAX).await?;
        }
        Ok(page.finish(self.version, self.decoder.clone(), false))
    }
}

/// Everything that would make reading wrong rather than impossible; gives the key's columns.
async fn check(
    database: &Database,
    connection: &mut SqliteConnection,
    selection: &Selection,
) -> Result<Vec<KeyTerm>, Fault> {
    let namespace = &selection.namespace;
    let declared = require(database, connection, namespace).await?;
    let read = selection.columns.iter().map(|column| column.name.as_str());
    let joined = selection.includes.iter().flat_map(|include| &include.on).map(|(_, parent)| parent.as_str());
    let named = read.chain(selection.key.iter().map(String::as_str)).chain(joined);
    require_columns(namespace, &declared, named)?;
    check_includes(database, connection, &selection.includes).await?;
    if selection.key.is_empty() || selection.key_positions().len() != selection.key.len() {
        return Err(Fault::permanent(format!("table {namespace}: each key column must be one of the columns read")));
    }
    let encoding: String = sqlx::query_scalar("PRAGMA encoding")
        .fetch_one(&mut *connection)
        .await
        .map_err(|error| database.fault("its encoding could not be read", error))?;
    let mut terms = Vec::with_capacity(selection.key.len());
    for &at in &selection.key_positions() {
        let Column { name, kind, native, .. } = &selection.columns[at];
        if matches!(
            kind,
            Kind::Decimal | Kind::F64 | Kind::Date | Kind::Time | Kind::Timestamp | Kind::TimestampTz | Kind::Json
        ) {
            return Err(Fault::permanent(format!(
                "key column {namespace}.{name} ({native}) is of kind {kind}, which has no order that every store shares"
            ))
            .advise("use columns of kind i64, bool, string, uuid or bytes as the key"));
        }
        let textual = matches!(kind, Kind::String | Kind::Uuid | Kind::Any);
        if textual && encoding != "UTF-8" {
            return Err(Fault::permanent(format!(
                "text key {namespace}.{name}: the file's encoding is {encoding}, which does not sort by code point"
            ))
            .advise("make the file anew with `PRAGMA encoding = 'UTF-8'`, or use an integer key"));
        }
        let collated = textual && is_collated(database, connection, namespace, name).await?;
        terms.push(KeyTerm { column: format!("r.{}", quoted(name)), collated });
    }
    let nullable = |name: &&String| declared.iter().any(|other| other.column.name == **name && other.column.nullable);
    let nullable: Vec<&String> = selection.key.iter().filter(nullable).collect();
    if let Some(name) = first_null(database, connection, namespace, &nullable).await? {
        return Err(null_key(selection, name));
    }
    Ok(terms)
}

async fn check_includes(
    database: &Database,
    connection: &mut SqliteConnection,
    includes: &[Include],
) -> Result<(), Fault> {
    for include in includes {
        let declared = require(database, connection, &include.namespace).await?;
        let read = include.columns.iter().map(|column| &column.name);
        let parents = include.includes.iter().flat_map(|inner| &inner.on).map(|(_, parent)| parent);
        let named = read.chain(include.on.iter().map(|(own, _)| own)).chain(&include.order_by).chain(parents);
        require_columns(&include.namespace, &declared, named.map(String::as_str))?;
        Box::pin(check_includes(database, connection, &include.includes)).await?;
    }
    Ok(())
}

/// The first of the columns that holds a NULL. Comparisons skip NULLs, so that a scan of ranges could miss one silently;
/// only columns that are not declared NOT NULL are asked.
async fn first_null<'a>(
    database: &Database,
    connection: &mut SqliteConnection,
    namespace: &fides_core::Namespace,
    columns: &[&'a String],
) -> Result<Option<&'a String>, Fault> {
    for &column in columns {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {} IS NULL)", table(namespace)?, quoted(column));
        let found: bool = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| database.fault(&format!("table {namespace} could not be read"), error))?;
        if found {
            return Ok(Some(column));
        }
    }
    Ok(None)
}

fn null_key(selection: &Selection, column: &str) -> Fault {
    Fault::permanent(format!("key column {}.{column} holds NULL", selection.namespace))
        .advise("choose key columns that are declared NOT NULL and unique, or remove the record")
}
