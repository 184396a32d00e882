//! Making the outbox and its triggers, and taking them away again.

use std::path::Path;

use fides_core::{Fault, Namespace, Selection};
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use super::installed::{self, find, missing, uniques};
use super::schema::{TABLES, TICK, Watch};
use crate::connect::{Database, Mode};
use crate::describe::{require, require_columns};
use crate::query::quoted;

/// Makes the outbox and the triggers that tell every change that concerns the selections; gives the tables whose
/// triggers were made. What is there already stays, and nobody misses anything by it: repeating this is harmless. What
/// happened before new triggers is missing, and every reader finds that out.
pub async fn install_outbox(path: &Path, selections: &[Selection]) -> Result<Vec<String>, Fault> {
    let database = Database::new(path, Mode::Look, 1);
    let mut transaction = database.begin_write().await?;
    let installer = Installer { database: &database };
    installer.tables(&mut transaction).await?;
    let mut made = Vec::new();
    for selection in selections {
        for watch in Watch::all(selection)? {
            if installer.watch(&mut transaction, watch.clone()).await? {
                made.push(watch.shown());
            }
        }
    }
    transaction.commit().await.map_err(|error| database.fault("its outbox could not be made", error))?;
    Ok(made)
}

/// Removes every trigger of an outbox, and its tables; whether there was anything. Readers of all pipelines lose their
/// place.
pub async fn remove_outbox(path: &Path) -> Result<bool, Fault> {
    let database = Database::new(path, Mode::Look, 1);
    let fault = |error| database.fault("its outbox could not be removed", error);
    let mut transaction = database.begin_write().await?;
    let removed = Installer { database: &database }.clear(&mut transaction).await?;
    transaction.commit().await.map_err(fault)?;
    Ok(removed)
}

struct Installer<'a> {
    database: &'a Database,
}

impl Installer<'_> {
    fn fault(&self, error: sqlx::Error) -> Fault {
        self.database.fault("its outbox could not be made", error)
    }

    async fn execute(&self, connection: &mut SqliteConnection, sql: String) -> Result<(), Fault> {
        sqlx::query(AssertSqlSafe(sql)).execute(connection).await.map(drop).map_err(|error| self.fault(error))
    }

    /// The tables. Of an outbox that is there in part nothing can be kept: positions would have no author.
    async fn tables(&self, connection: &mut SqliteConnection) -> Result<(), Fault> {
        if installed::id(self.database, connection).await?.is_some() {
            return Ok(());
        }
        self.clear(connection).await?;
        for sql in TABLES {
            self.execute(connection, sql.to_owned()).await?;
        }
        Ok(())
    }

    /// Drops whatever there is of an outbox; whether there was anything.
    async fn clear(&self, connection: &mut SqliteConnection) -> Result<bool, Fault> {
        let sql = "SELECT type, name FROM main.sqlite_schema WHERE type IN ('table', 'trigger') \
                   AND name LIKE '\\_fides\\_outbox%' ESCAPE '\\' ORDER BY type DESC";
        let found: Vec<(String, String)> =
            sqlx::query_as(sql).fetch_all(&mut *connection).await.map_err(|error| self.fault(error))?;
        for (kind, name) in &found {
            self.execute(connection, format!("DROP {kind} main.{}", quoted(name))).await?;
        }
        Ok(!found.is_empty())
    }

    /// Makes the triggers of a table, unless they are there; whether they were made.
    async fn watch(&self, connection: &mut SqliteConnection, watch: Watch) -> Result<bool, Fault> {
        let watch = self.existing(connection, watch).await?;
        let uniques = uniques(self.database, connection, &watch.table).await?;
        let found = find(self.database, connection, &watch).await?;
        if let Some(found) = &found
            && missing(self.database, connection, &watch.triggers(found.id)).await?.is_none()
            && missing(self.database, connection, &watch.guards(found.id, &uniques)).await?.is_none()
        {
            return Ok(false);
        }
        self.widen(connection, watch.columns.len()).await?;
        let (since, _): (i64, i64) =
            sqlx::query_as(TICK).fetch_one(&mut *connection).await.map_err(|error| self.fault(error))?;
        let sql = "INSERT INTO main._fides_outbox_watched (name, columns, since) VALUES (?1, ?2, ?3) \
                   ON CONFLICT (name, columns) DO UPDATE SET since = excluded.since RETURNING id";
        let id: i64 = sqlx::query_scalar(sql)
            .bind(&watch.table)
            .bind(watch.stored_columns())
            .bind(since)
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| self.fault(error))?;
        let prefix = format!("\\_fides\\_outbox\\_{id}\\_%");
        let old = "SELECT name FROM main.sqlite_schema WHERE type = 'trigger' AND name LIKE ?1 ESCAPE '\\'";
        let old: Vec<String> = sqlx::query_scalar(old)
            .bind(prefix)
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| self.fault(error))?;
        for name in old {
            self.execute(connection, format!("DROP TRIGGER main.{}", quoted(&name))).await?;
        }
        for trigger in watch.triggers(id).into_iter().chain(watch.guards(id, &uniques)) {
            self.execute(connection, trigger.sql).await.map_err(|fault| fault.at(watch.shown()))?;
        }
        Ok(true)
    }

    /// The table by the name that it has, with the columns that are watched; a view has no triggers.
    async fn existing(&self, connection: &mut SqliteConnection, watch: Watch) -> Result<Watch, Fault> {
        let namespace = Namespace(vec![watch.table.clone()]);
        let declared = require(self.database, connection, &namespace).await?;
        require_columns(&namespace, &declared, watch.columns.iter().map(String::as_str))?;
        let sql =
            "SELECT name, type FROM main.sqlite_schema WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE";
        let found: Option<(String, String)> = sqlx::query_as(sql)
            .bind(&watch.table)
            .fetch_optional(connection)
            .await
            .map_err(|error| self.fault(error))?;
        match found {
            Some((table, kind)) if kind == "table" => Ok(Watch { table, ..watch }),
            _ => Err(Fault::permanent(format!("{namespace} is not a table, and only tables have triggers"))
                .advise("leave `events` out of the pipeline: imports find what changed")),
        }
    }

    /// As many columns for values as the longest key needs.
    async fn widen(&self, connection: &mut SqliteConnection, columns: usize) -> Result<(), Fault> {
        let sql = "SELECT count(*) FROM pragma_table_info('_fides_outbox', 'main') WHERE name LIKE 'k%'";
        let present: i64 =
            sqlx::query_scalar(sql).fetch_one(&mut *connection).await.map_err(|error| self.fault(error))?;
        for at in usize::try_from(present).unwrap_or_default() + 1..=columns {
            self.execute(connection, format!("ALTER TABLE main._fides_outbox ADD COLUMN k{at}")).await?;
        }
        Ok(())
    }
}
