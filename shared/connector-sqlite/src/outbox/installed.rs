//! What of the outbox is there, and whether it tells everything that a selection needs.

use fides_core::{Fault, Selection};
use sqlx::sqlite::SqliteConnection;

use super::schema::{Trigger, Unique, Watch};
use super::{COMMAND, lineage_of};
use crate::connect::Database;

const DOING: &str = "its outbox could not be looked at";

/// An outbox that tells everything of one selection.
#[derive(Clone, Debug)]
pub(super) struct Installed {
    pub(super) lineage: fides_core::port::Lineage,
    /// What [`Watch::all`] names, in its order.
    pub(super) watched: Vec<i64>,
    /// Nothing is missing behind this sequence.
    pub(super) since: i64,
}

/// One table that is watched.
pub(super) struct Watched {
    pub(super) id: i64,
    /// By the name that it has in the file.
    pub(super) watch: Watch,
    pub(super) since: i64,
}

/// The name of the outbox; `None` where there is none, or only a part of it.
pub(super) async fn id(database: &Database, connection: &mut SqliteConnection) -> Result<Option<String>, Fault> {
    let fault = |error| database.fault(DOING, error);
    let tables = "SELECT count(*) FROM main.sqlite_schema WHERE type = 'table' AND name IN ('_fides_outbox', \
                  '_fides_outbox_watched', '_fides_outbox_readers', '_fides_outbox_meta')";
    let tables: i64 = sqlx::query_scalar(tables).fetch_one(&mut *connection).await.map_err(fault)?;
    if tables < 4 {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT id FROM main._fides_outbox_meta").fetch_optional(connection).await.map_err(fault)
}

impl Installed {
    /// Looks at the outbox; a Permanent fault says what it lacks and how that is mended.
    pub(super) async fn require(
        database: &Database,
        connection: &mut SqliteConnection,
        selection: &Selection,
    ) -> Result<Installed, Fault> {
        let lacks = |what: String| {
            Fault::permanent(format!("{}: {what}", database.path().display()))
                .advise(format!("{COMMAND}; an import then finds what was not told"))
        };
        let Some(id) = id(database, connection).await? else {
            return Err(lacks(format!("it has no outbox that tells of changes in {}", selection.namespace)));
        };
        let mut installed = Installed { lineage: lineage_of(&id), watched: Vec::new(), since: 0 };
        for watch in Watch::all(selection)? {
            let Some(found) = find(database, connection, &watch).await? else {
                return Err(lacks(format!("its outbox does not tell of changes in {}", watch.shown())));
            };
            if let Some(name) = missing(database, connection, &found.watch.triggers(found.id)).await? {
                return Err(lacks(format!("trigger {name} on {} is missing, or another one", watch.shown())));
            }
            installed.watched.push(found.id);
            installed.since = installed.since.max(found.since);
        }
        Ok(installed)
    }
}

/// What is kept of a watched table. Says nothing of its triggers.
pub(super) async fn find(
    database: &Database,
    connection: &mut SqliteConnection,
    watch: &Watch,
) -> Result<Option<Watched>, Fault> {
    let sql = "SELECT id, name, since FROM main._fides_outbox_watched WHERE name = ?1 COLLATE NOCASE AND columns = ?2";
    let found: Option<(i64, String, i64)> = sqlx::query_as(sql)
        .bind(&watch.table)
        .bind(watch.stored_columns())
        .fetch_optional(connection)
        .await
        .map_err(|error| database.fault(DOING, error))?;
    Ok(found.map(|(id, table, since)| Watched { id, watch: Watch { table, ..watch.clone() }, since }))
}

/// The first trigger that is not as it was made.
pub(super) async fn missing(
    database: &Database,
    connection: &mut SqliteConnection,
    triggers: &[Trigger],
) -> Result<Option<String>, Fault> {
    for trigger in triggers {
        let sql = "SELECT sql FROM main.sqlite_schema WHERE type = 'trigger' AND name = ?1";
        let kept: Option<String> = sqlx::query_scalar(sql)
            .bind(&trigger.name)
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| database.fault(DOING, error))?;
        if kept.as_ref() != Some(&trigger.sql) {
            return Ok(Some(trigger.name.clone()));
        }
    }
    Ok(None)
}

/// Every set of columns that SQLite keeps unique, but for those of partial indexes and of expressions.
pub(super) async fn uniques(
    database: &Database,
    connection: &mut SqliteConnection,
    table: &str,
) -> Result<Vec<Unique>, Fault> {
    let fault = |error| database.fault(DOING, error);
    let sql = "SELECT l.name, x.name, x.coll FROM pragma_index_list(?1, 'main') l \
               JOIN pragma_index_xinfo(l.name, 'main') x WHERE l.\"unique\" AND NOT l.partial AND x.key \
               AND NOT EXISTS (SELECT 1 FROM pragma_index_xinfo(l.name, 'main') e WHERE e.key AND e.name IS NULL) \
               ORDER BY l.name, x.seqno";
    let rows: Vec<(String, String, String)> =
        sqlx::query_as(sql).bind(table).fetch_all(&mut *connection).await.map_err(fault)?;
    let mut uniques: Vec<(String, Unique)> = Vec::new();
    for (index, column, collation) in rows {
        if uniques.last().is_none_or(|(last, _)| *last != index) {
            uniques.push((index, Unique { columns: Vec::new() }));
        }
        if let Some((_, unique)) = uniques.last_mut() {
            unique.columns.push((column, collation));
        }
    }
    // The row id by its other name has no index.
    let sql = "SELECT i.name FROM pragma_table_xinfo(?1, 'main') i WHERE i.pk = 1 AND upper(i.type) = 'INTEGER' \
               AND (SELECT count(*) FROM pragma_table_xinfo(?1, 'main') p WHERE p.pk > 0) = 1 \
               AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?1, 'main') l WHERE l.origin = 'pk')";
    let row_id: Option<String> = sqlx::query_scalar(sql).bind(table).fetch_optional(connection).await.map_err(fault)?;
    let row_id = row_id.map(|name| Unique { columns: vec![(name, "BINARY".to_owned())] });
    Ok(uniques.into_iter().map(|(_, unique)| unique).chain(row_id).collect())
}

/// Unique indexes of which no guard knows which row they hit: partial ones, and those over expressions.
pub(super) async fn unguarded(
    database: &Database,
    connection: &mut SqliteConnection,
    table: &str,
) -> Result<Vec<String>, Fault> {
    let sql = "SELECT l.name FROM pragma_index_list(?1, 'main') l WHERE l.\"unique\" AND (l.partial OR EXISTS \
               (SELECT 1 FROM pragma_index_xinfo(l.name, 'main') e WHERE e.key AND e.name IS NULL)) ORDER BY l.name";
    sqlx::query_scalar(sql).bind(table).fetch_all(connection).await.map_err(|error| database.fault(DOING, error))
}
