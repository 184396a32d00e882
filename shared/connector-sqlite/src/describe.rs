//! What the file says of its tables.

use std::collections::BTreeMap;

use fides_core::{Column, Fault, Kind, Namespace, Table};
use sqlx::sqlite::SqliteConnection;

use crate::connect::Database;
use crate::kind;
use crate::query::{list, quoted, table, table_name};

/// Records counted one by one for an estimate; a few milliseconds.
const COUNTED_MAX: i64 = 100_000;

/// A column as `table_xinfo` tells it.
pub(crate) struct Declared {
    pub column: Column,
    /// Place in the primary key, from 1; 0 outside it.
    pub primary: i64,
    /// Computed by SQLite: cannot be written.
    pub generated: bool,
    /// Whether a row that says nothing of it has a value all the same.
    pub filled: bool,
}

/// Every table and view that is not SQLite's or Fides' own, in name order.
pub(crate) async fn namespaces(database: &Database) -> Result<Vec<Namespace>, Fault> {
    let mut connection = database.acquire().await?;
    let sql = "SELECT name FROM main.sqlite_schema WHERE type IN ('table', 'view') \
               AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_fides\\_%' ESCAPE '\\' \
               ORDER BY name COLLATE BINARY";
    let names: Vec<String> = sqlx::query_scalar(sql)
        .fetch_all(&mut *connection)
        .await
        .map_err(|error| database.fault("its tables could not be listed", error))?;
    Ok(names.into_iter().map(|name| Namespace(vec![name])).collect())
}

/// Name, type, NOT NULL, place in the primary key, number of indexes for it, generated, has a default.
type Row = (String, String, bool, i64, i64, bool, bool);

/// The columns of a table or view, generated ones included; `None` when there is no such table.
pub(crate) async fn columns(
    database: &Database,
    connection: &mut SqliteConnection,
    namespace: &Namespace,
) -> Result<Option<Vec<Declared>>, Fault> {
    let sql = "SELECT i.name, i.type, i.\"notnull\", i.pk, \
               (SELECT count(*) FROM pragma_index_list(?1, 'main') l WHERE l.origin = 'pk'), \
               i.hidden <> 0, i.dflt_value IS NOT NULL AND upper(i.dflt_value) <> 'NULL' \
               FROM pragma_table_xinfo(?1, 'main') i WHERE i.hidden <> 1 ORDER BY i.cid";
    let rows: Vec<Row> = sqlx::query_as(sql)
        .bind(table_name(namespace)?)
        .fetch_all(connection)
        .await
        .map_err(|error| database.fault(&format!("table {namespace} could not be described"), error))?;
    let primary = rows.iter().filter(|row| row.3 > 0).count();
    let declared = |(name, native, not_null, place, indexes, generated, has_default): Row| {
        // The only key that SQLite keeps from being NULL without being told: the row id's other name.
        let row_id = primary == 1 && place == 1 && indexes == 0 && native.eq_ignore_ascii_case("INTEGER");
        let kind = if row_id { Kind::I64 } else { kind::of(&native) };
        let column = Column { name, kind, native, nullable: !(not_null || row_id) };
        Declared { column, primary: place, generated, filled: row_id || has_default }
    };
    Ok(Some(rows.into_iter().map(declared).collect::<Vec<_>>()).filter(|columns| !columns.is_empty()))
}

/// A table's columns, or a Permanent fault that says it is missing.
pub(crate) async fn require(
    database: &Database,
    connection: &mut SqliteConnection,
    namespace: &Namespace,
) -> Result<Vec<Declared>, Fault> {
    columns(database, connection, namespace).await?.ok_or_else(|| {
        Fault::permanent(format!("table {namespace} does not exist in {}", database.path().display()))
            .advise("correct the name, or create the table")
    })
}

/// A Permanent fault that names every one of `wanted` that the table lacks.
pub(crate) fn require_columns<'a>(
    namespace: &Namespace,
    present: &[Declared],
    wanted: impl IntoIterator<Item = &'a str>,
) -> Result<(), Fault> {
    let lacks = |name: &&str| !present.iter().any(|declared| declared.column.name == *name);
    let mut missing: Vec<&str> = wanted.into_iter().filter(lacks).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let present = list(present, |declared| declared.column.name.clone());
    Err(Fault::permanent(format!("table {namespace} has no column {}", missing.join(", ")))
        .advise(format!("its columns are {present}")))
}

/// All that [`Table`] holds.
pub(crate) async fn table_of(database: &Database, namespace: &Namespace) -> Result<Option<Table>, Fault> {
    let mut connection = database.acquire().await?;
    let Some(declared) = columns(database, &mut connection, namespace).await? else { return Ok(None) };
    let mut primary: Vec<&Declared> = declared.iter().filter(|declared| declared.primary > 0).collect();
    primary.sort_by_key(|declared| declared.primary);
    let primary_key: Vec<String> = primary.iter().map(|declared| declared.column.name.clone()).collect();
    let nullable_key = primary.iter().any(|declared| declared.column.nullable);

    let context = Context { database, namespace, name: table_name(namespace)? };
    let not_null = |name: &String| declared.iter().any(|other| other.column.name == *name && !other.column.nullable);
    let mut unique: Vec<Vec<String>> = Vec::from_iter((!primary_key.is_empty()).then(|| primary_key.clone()));
    let mut contested = Vec::new();
    for (columns, _) in context.unique_indexes(&mut connection).await? {
        if columns != primary_key {
            contested.push(columns.clone());
        }
        if columns.iter().all(not_null) && !unique.contains(&columns) {
            unique.push(columns);
        }
    }
    if context.is_watched(&mut connection).await? {
        contested.clear();
    }
    let mut warnings = context.warnings(&mut connection, &primary_key).await?;
    if nullable_key {
        warnings.push(format!(
            "primary key ({}) is not declared NOT NULL, and SQLite lets it be NULL: a NULL stops a sync",
            primary_key.join(", ")
        ));
    }
    let store_warnings = context.store_warnings(&mut connection).await?;
    let references = context.references(&mut connection).await?;
    let records_estimate = context.estimate(&mut connection).await?;
    let columns = declared.into_iter().map(|declared| declared.column).collect();
    Ok(Some(Table { columns, primary_key, references, unique, contested, records_estimate, warnings, store_warnings }))
}

/// Sets of columns with a unique index (not partial, not over expressions), the primary key included.
pub(crate) async fn unique_sets(
    database: &Database,
    connection: &mut SqliteConnection,
    namespace: &Namespace,
    declared: &[Declared],
) -> Result<Vec<Vec<String>>, Fault> {
    let context = Context { database, namespace, name: table_name(namespace)? };
    let indexes = context.unique_indexes(connection).await?;
    let mut primary: Vec<&Declared> = declared.iter().filter(|declared| declared.primary > 0).collect();
    primary.sort_by_key(|declared| declared.primary);
    let primary = primary.into_iter().map(|declared| declared.column.name.clone()).collect();
    Ok(std::iter::once(primary).chain(indexes.into_iter().map(|(columns, _)| columns)).collect())
}

/// Whether comparing `column` by its own collation differs from comparing code points. SQLite tells a column's
/// collation nowhere, so it is asked to compare: a subquery's column keeps the collation.
pub(crate) async fn is_collated(
    database: &Database,
    connection: &mut SqliteConnection,
    namespace: &Namespace,
    column: &str,
) -> Result<bool, Fault> {
    let (table, column) = (table(namespace)?, quoted(column));
    let sql = format!(
        "SELECT max(x = 'A' OR x = 'a ') FROM (SELECT {column} AS x FROM {table} WHERE 0 UNION ALL SELECT 'a')"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .fetch_one(connection)
        .await
        .map_err(|error| database.fault(&format!("collation of {namespace}.{column}"), error))
}

/// Whether the table is STRICT, where a column of type ANY converts nothing.
pub(crate) async fn is_strict(
    database: &Database,
    connection: &mut SqliteConnection,
    namespace: &Namespace,
) -> Result<bool, Fault> {
    let strict: Option<bool> =
        sqlx::query_scalar("SELECT strict FROM pragma_table_list WHERE schema = 'main' AND lower(name) = lower(?1)")
            .bind(table_name(namespace)?)
            .fetch_optional(connection)
            .await
            .map_err(|error| database.fault(&format!("table {namespace} could not be described"), error))?;
    Ok(strict.unwrap_or(false))
}

/// Questions about one table.
struct Context<'a> {
    database: &'a Database,
    namespace: &'a Namespace,
    name: &'a str,
}

impl Context<'_> {
    fn fault(&self, error: sqlx::Error) -> Fault {
        self.database.fault(&format!("table {} could not be described", self.namespace), error)
    }

    /// Columns of each unique index, and whether all of them sort by code point.
    async fn unique_indexes(&self, connection: &mut SqliteConnection) -> Result<Vec<(Vec<String>, bool)>, Fault> {
        let sql = "SELECT l.seq, x.name, x.coll = 'BINARY' FROM pragma_index_list(?1, 'main') l \
                   JOIN pragma_index_xinfo(l.name, 'main') x WHERE l.\"unique\" AND NOT l.partial AND x.key \
                   ORDER BY l.seq DESC, x.seqno";
        let rows: Vec<(i64, Option<String>, bool)> =
            sqlx::query_as(sql).bind(self.name).fetch_all(connection).await.map_err(|error| self.fault(error))?;
        let mut indexes: Vec<(i64, Option<Vec<String>>, bool)> = Vec::new();
        for (index, column, binary) in rows {
            if indexes.last().is_none_or(|last| last.0 != index) {
                indexes.push((index, Some(Vec::new()), true));
            }
            let Some(last) = indexes.last_mut() else { continue };
            last.2 &= binary;
            // An expression has no name: such an index proves nothing about columns.
            match (column, &mut last.1) {
                (Some(column), Some(columns)) => columns.push(column),
                _ => last.1 = None,
            }
        }
        Ok(indexes.into_iter().filter_map(|(_, columns, binary)| Some((columns?, binary))).collect())
    }

    /// Whether a foreign key or a trigger may see that a row is gone for a moment.
    async fn is_watched(&self, connection: &mut SqliteConnection) -> Result<bool, Fault> {
        let sql = "SELECT EXISTS (SELECT 1 FROM main.sqlite_master m, pragma_foreign_key_list(m.name, 'main') f \
                   WHERE m.type = 'table' AND lower(f.\"table\") = lower(?1)) \
                   OR EXISTS (SELECT 1 FROM main.sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = lower(?1))";
        sqlx::query_scalar(sql).bind(self.name).fetch_one(connection).await.map_err(|error| self.fault(error))
    }

    async fn references(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<(Vec<String>, Namespace, Vec<String>)>, Fault> {
        // Without a column of its own, a foreign key means the other table's primary key.
        let sql = "SELECT f.id, f.\"from\", f.\"table\", coalesce(f.\"to\", (SELECT p.name FROM \
                   pragma_table_info(f.\"table\", 'main') p WHERE p.pk = f.seq + 1), 'rowid') \
                   FROM pragma_foreign_key_list(?1, 'main') f ORDER BY f.id, f.seq";
        let rows: Vec<(i64, String, String, String)> =
            sqlx::query_as(sql).bind(self.name).fetch_all(connection).await.map_err(|error| self.fault(error))?;
        let mut keys: BTreeMap<i64, (Vec<String>, Namespace, Vec<String>)> = BTreeMap::new();
        for (id, own, other, column) in rows {
            let key = keys.entry(id).or_insert_with(|| (Vec::new(), Namespace(vec![other]), Vec::new()));
            key.0.push(own);
            key.2.push(column);
        }
        Ok(keys.into_values().collect())
    }

    /// Cheap: the statistics of ANALYZE, else a count that stops early, else the span of row ids bounded by the size of
    /// the file.
    async fn estimate(&self, connection: &mut SqliteConnection) -> Result<u64, Fault> {
        let table = table(self.namespace)?;
        let analysed = "SELECT CAST(stat AS INTEGER) FROM main.sqlite_stat1 WHERE tbl = ?1 LIMIT 1";
        let analysed: Option<i64> =
            sqlx::query_scalar(analysed).bind(self.name).fetch_optional(&mut *connection).await.unwrap_or(None);
        if let Some(count) = analysed {
            return Ok(count.max(0) as u64);
        }
        let count = format!("SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT {COUNTED_MAX})");
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(count))
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| self.fault(error))?;
        if count < COUNTED_MAX {
            return Ok(count.max(0) as u64);
        }
        let span = format!(
            "SELECT coalesce(min((SELECT max(rowid) FROM {table}) * 1.0 - (SELECT min(rowid) FROM {table}) + 1, \
             (SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM pragma_page_size) / 4.0), 0)"
        );
        let span: Result<f64, _> = sqlx::query_scalar(sqlx::AssertSqlSafe(span)).fetch_one(&mut *connection).await;
        // A view, or a table without row ids, has no span: there are at least those that were counted.
        Ok(span.map_or(0, |span| span as u64).max(count.max(0) as u64))
    }

    async fn warnings(&self, connection: &mut SqliteConnection, primary_key: &[String]) -> Result<Vec<String>, Fault> {
        let mut warnings = Vec::new();
        if primary_key.is_empty() {
            warnings.push("it has no primary key: name key columns that are unique and not null".to_owned());
        }
        let indexes = self.unique_indexes(connection).await?;
        for (columns, _) in indexes.iter().filter(|(_, binary)| !binary) {
            warnings.push(format!(
                "the index over ({0}) does not sort by code point: as a key, each page would sort the whole table; \
                 add an index over ({0}) COLLATE BINARY",
                columns.join(", ")
            ));
        }
        Ok(warnings)
    }

    /// What is to be known of the whole file.
    async fn store_warnings(&self, connection: &mut SqliteConnection) -> Result<Vec<String>, Fault> {
        let mut warnings = Vec::new();
        let (journal, encoding): (String, String) =
            sqlx::query_as("SELECT j.journal_mode, e.encoding FROM pragma_journal_mode j, pragma_encoding e")
                .fetch_one(connection)
                .await
                .map_err(|error| self.fault(error))?;
        if journal != "wal" {
            warnings.push(format!(
                "the file's journal mode is {journal}: while Fides reads, its writers wait; \
                 `PRAGMA journal_mode = WAL` removes that"
            ));
        }
        if encoding != "UTF-8" {
            warnings.push(format!("the file's encoding is {encoding}: text keys cannot be read in code point order"));
        }
        Ok(warnings)
    }
}
