//! How a selection is read: checked once, then the SQL of its pages.

use std::sync::Arc;

use fides_core::{Fault, Key, KeyRange, PageBuilder, Selection};
use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, Executor, MySqlConnection};

use crate::catalog::{self, Relation};
use crate::cells::Cells;
use crate::fault::fault;
use crate::key::{Bound, KeyColumns};
use crate::query::scalar;
use crate::{include, quote};

/// Keys of one lookup.
const FETCH_KEYS_MAX: usize = 1_024;

/// The SQL of one selection.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) selection: Selection,
    pub(crate) relation: Relation,
    pub(crate) key: KeyColumns,
    pub(crate) cells: Arc<Cells>,
    /// The quoted name of the table.
    pub(crate) table: String,
    select: String,
}

impl Reading {
    /// Proves that the selection can be read: tables, columns, and a key without NULL. Everything that is missing is
    /// named in one Permanent fault.
    pub(crate) async fn open(connection: &mut MySqlConnection, selection: &Selection) -> Result<Self, Fault> {
        let namespace = &selection.namespace;
        let relation = catalog::require(connection, namespace).await?;
        let read = selection.columns.iter().map(|column| &column.name).chain(&selection.key);
        let unknown = read.filter(|name| relation.column(name).is_none());
        let mut missing: Vec<String> = unknown.map(|name| format!("column {namespace}.{name}")).collect();
        let related = include::look_up(connection, &selection.includes, &relation, &mut missing).await?;
        if !missing.is_empty() {
            missing.dedup();
            return Err(Fault::permanent(format!("table {namespace}: there is no {}", missing.join(", no ")))
                .advise("check the names in the mapping, and that this user may see them"));
        }
        let key = KeyColumns::new(selection, &relation)?;
        refuse_null_keys(connection, selection, &relation).await?;
        let cells = cells(selection, &relation);
        let mut fields: Vec<String> = Vec::new();
        for (name, ty) in &cells.columns {
            fields.push(ty.selected(&format!("p.{}", quote::name(name))));
        }
        let mut next = 0;
        for (include, related) in selection.includes.iter().zip(&related) {
            fields.push(include::subquery(include, related, "p", &mut next)?);
        }
        let table = quote::table(namespace)?;
        let select = format!("SELECT {} FROM {table} AS p", fields.join(", "));
        Ok(Self { selection: selection.clone(), relation, key, cells: Arc::new(cells), table, select })
    }

    /// The rows of `range` behind `after`, at most `limit`.
    pub(crate) fn page(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<String, Fault> {
        let lower = match (after, &range.lower) {
            (Some(after), Some(lower)) if after < lower => Some((Bound::From, lower)),
            (Some(after), _) => Some((Bound::After, after)),
            (None, lower) => lower.as_ref().map(|lower| (Bound::From, lower)),
        };
        let bounds = lower.into_iter().chain(range.upper.as_ref().map(|upper| (Bound::Before, upper)));
        let conditions = bounds.map(|(bound, key)| self.key.compare(bound, key)).collect::<Result<Vec<_>, _>>()?;
        let conditions = if conditions.is_empty() { "TRUE".to_owned() } else { conditions.join(" AND ") };
        Ok(format!("{} WHERE {conditions} ORDER BY {} LIMIT {limit}", self.select, self.key.order()))
    }

    /// The rows of `keys`, and perhaps some that only the collation calls equal.
    pub(crate) fn among<'k>(&self, keys: impl Iterator<Item = &'k Key>) -> Result<String, Fault> {
        Ok(format!("{} WHERE {} ORDER BY {}", self.select, self.key.among(keys)?, self.key.order()))
    }

    /// Reads the rows of `sql` into `page` until it has `limit`; whether there are more. Rows that `wanted` refuses by
    /// their key are left out.
    pub(crate) async fn read(
        &self,
        connection: &mut MySqlConnection,
        sql: String,
        page: &mut PageBuilder,
        limit: usize,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<bool, Fault> {
        let place = || format!("reading table {}", self.selection.namespace);
        let cells = &self.cells;
        let (mut key, mut row, mut more) = (Vec::new(), Vec::new(), false);
        let mut rows = connection.fetch(sqlx::raw_sql(AssertSqlSafe(sql)));
        while let Some(found) = rows.try_next().await.map_err(|error| fault(&place(), error))? {
            key.clear();
            row.clear();
            cells.put(&found, &mut key, &mut row)?;
            if !wanted(&key) {
                continue;
            }
            if page.len() == limit {
                more = true;
                continue;
            }
            let pushed = page.push(|keys, rows| {
                keys.extend_from_slice(&key);
                rows.extend_from_slice(&row);
                Ok(())
            });
            pushed.map_err(|fault| fault.at(format_args!("table {}", cells.place)))?;
        }
        Ok(more)
    }

    /// Reads the records under `keys`, which ascend, into `page`.
    pub(crate) async fn fetch(
        &self,
        connection: &mut MySqlConnection,
        keys: &[&Key],
        page: &mut PageBuilder,
    ) -> Result<(), Fault> {
        // Nothing is read where one of the keys makes no sense.
        let chunks = keys.chunks(FETCH_KEYS_MAX).map(|chunk| Ok((chunk, self.among(chunk.iter().copied())?)));
        for (chunk, sql) in chunks.collect::<Result<Vec<_>, Fault>>()? {
            let wanted = |key: &[u8]| chunk.binary_search_by(|wanted| wanted.as_bytes().cmp(key)).is_ok();
            self.read(connection, sql, page, usize::MAX, wanted).await?;
        }
        Ok(())
    }

    /// The keys of records under a condition behind `after`, at most `limit`, in their order.
    pub(crate) async fn keys(
        &self,
        connection: &mut MySqlConnection,
        condition: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Key>, Fault> {
        let failed = |error| fault(&format!("reading keys of table {}", self.selection.namespace), error);
        let behind = match after {
            Some(after) => self.key.compare(Bound::After, after)?,
            None => "TRUE".to_owned(),
        };
        let names = quote::names("p.", self.key.columns.iter().map(|column| column.name.as_str()));
        let places: Vec<usize> = (0..self.key.columns.len()).collect();
        let sql = format!(
            "SELECT {names} FROM {} AS p WHERE ({condition}) AND {behind} ORDER BY {} LIMIT {limit}",
            self.table,
            self.key.order()
        );
        let mut rows = connection.fetch(sqlx::raw_sql(AssertSqlSafe(sql)));
        let mut keys = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            let mut key = Vec::new();
            self.cells.put_key(&row, &places, &mut key)?;
            keys.push(Key::from_bytes(key));
        }
        Ok(keys)
    }
}

fn cells(selection: &Selection, relation: &Relation) -> Cells {
    let own = |column: &fides_core::Column| {
        let found = relation.column(&column.name).map_or(crate::kind::MyType::Other, |found| found.ty);
        (column.name.clone(), found.read_as(column.kind))
    };
    Cells {
        place: selection.namespace.to_string(),
        columns: selection.columns.iter().map(own).collect(),
        key: selection.key_positions(),
        includes: selection.includes.iter().map(|include| include.name.clone()).collect(),
    }
}

/// Comparisons skip NULLs, so that a scan of ranges would miss such a record silently. Only columns that are not
/// declared NOT NULL are asked.
async fn refuse_null_keys(
    connection: &mut MySqlConnection,
    selection: &Selection,
    relation: &Relation,
) -> Result<(), Fault> {
    let namespace = &selection.namespace;
    for name in selection.key.iter().filter(|name| relation.column(name).is_some_and(|column| !column.not_null)) {
        let sql =
            format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {} IS NULL)", quote::table(namespace)?, quote::name(name));
        let found =
            scalar(connection, &sql).await.map_err(|error| fault(&format!("reading table {namespace}"), error))?;
        if found.as_deref() == Some("1") {
            return Err(Fault::permanent(format!("key column {namespace}.{name} holds NULL"))
                .advise("choose key columns that are declared NOT NULL and unique, or remove the record"));
        }
    }
    Ok(())
}
