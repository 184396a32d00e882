//! How the records of a selection are read, whatever transaction reads them.

use std::sync::Arc;

use fides_core::{Column, Decode, Fault, Include, Key, Kind, Page, PageBuilder, Selection, Value, Version};
use futures::TryStreamExt;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row};

use crate::connect::Database;
use crate::describe::{is_collated, require, require_columns};
use crate::query::{KeyTerm, chunks, list, order, quoted, seek, table};
use crate::{bind, include, read};

/// Keys that one statement seeks.
const FETCH_KEYS_MAX: usize = 512;

/// A selection that was compared with the tables that it reads.
pub(crate) struct Reading {
    database: Arc<Database>,
    pub(crate) selection: Selection,
    pub(crate) key: Vec<KeyTerm>,
    pub(crate) key_positions: Vec<usize>,
    pub(crate) key_kinds: Vec<Kind>,
    pub(crate) table: String,
    /// What is read, in the order of the row.
    pub(crate) expressions: String,
    pub(crate) decoder: Arc<dyn Decode>,
}

impl Reading {
    /// Proves that the selection can be read as it says: tables, columns and a key without NULL.
    pub(crate) async fn open(
        database: Arc<Database>,
        connection: &mut SqliteConnection,
        selection: &Selection,
    ) -> Result<Self, Fault> {
        let key = check(&database, connection, selection).await?;
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
            database,
            key,
            expressions,
        })
    }

    /// The key whose columns begin at `first` in a row of another query.
    pub(crate) fn key_at(&self, row: &SqliteRow, first: usize) -> Result<Key, Fault> {
        let mut key = Vec::new();
        for (at, &position) in self.key_positions.iter().enumerate() {
            let column = &self.selection.columns[position];
            self.encode_key(column, &read::value(row, first + at, column.kind)?, &mut key)?;
        }
        Ok(Key::from_bytes(key))
    }

    /// A fault that was met while the table was read.
    pub(crate) fn fault(&self, error: sqlx::Error) -> Fault {
        self.database.fault(&format!("table {} could not be read", self.selection.namespace), error)
    }

    /// Binds a key as the next parameters.
    pub(crate) fn bind_key(&self, arguments: &mut SqliteArguments, key: &Key) -> Result<(), Fault> {
        let cells = bind::key(key, &self.key_kinds).map_err(|fault| fault.at(&self.selection.namespace))?;
        cells.iter().try_for_each(|cell| cell.bind(arguments))
    }

    /// Encodes a row into `row` and its key into `key`.
    pub(crate) fn encode(&self, from: &SqliteRow, key: &mut Vec<u8>, row: &mut Vec<u8>) -> Result<(), Fault> {
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

    /// Reads rows into a page; gives the first one behind `limit`.
    pub(crate) async fn read_into(
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

    /// The records under `keys`, in the state that the connection reads. What is not there is proven absent.
    pub(crate) async fn fetch(
        &self,
        connection: &mut SqliteConnection,
        keys: &[Key],
        version: Version,
    ) -> Result<Page, Fault> {
        let mut keys: Vec<&Key> = keys.iter().collect();
        keys.sort_unstable();
        keys.dedup();
        let mut page = PageBuilder::new(self.selection.seed);
        for chunk in chunks(keys.len(), FETCH_KEYS_MAX) {
            let mut arguments = SqliteArguments::default();
            let from = seek(&self.table, &self.key, chunk.len(), 0);
            keys[chunk].iter().try_for_each(|key| self.bind_key(&mut arguments, key))?;
            let sql = format!("SELECT {} {from} ORDER BY {}", self.expressions, order(&self.key));
            self.read_into(connection, sql, arguments, &mut page, usize::MAX).await?;
        }
        Ok(page.finish(version, self.decoder.clone(), false))
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
