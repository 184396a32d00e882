//! The publication of a reader: which tables the server decodes for it.

use fides_core::Fault;
use sqlx::{PgConnection, Row};

use super::tables::Tables;
use crate::connect::run;
use crate::fault::{fault, state};
use crate::quote;

const OPTIONS: &str = "publish = 'insert, update, delete, truncate', publish_via_partition_root = true";

/// What was published before the log was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// All that is needed.
    Before,
    /// Not all: what was left out.
    Widened(String),
    /// Nothing: the publication is new.
    Made,
}

const FIND: &str = "\
SELECT oid::bigint, pubinsert AND pubupdate AND pubdelete AND pubtruncate AND pubviaroot, puballtables \
FROM pg_catalog.pg_publication WHERE pubname = $1";

// Row filters and column lists came with PostgreSQL 15.
const TABLES: &str = "\
SELECT r.prrelid::bigint, \
  to_jsonb(r)->>'prqual' IS NOT NULL OR to_jsonb(r)->>'prattrs' IS NOT NULL \
FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = $1::oid";

/// Makes sure that the publication `name` carries every change of the tables.
pub(super) async fn ensure(connection: &mut PgConnection, name: &str, tables: &Tables) -> Result<Published, Fault> {
    let read = |error| fault(&format!("looking up publication {name}"), error);
    let all: Vec<(i64, String)> = tables.published();
    let names = |of: &mut dyn Iterator<Item = &(i64, String)>| {
        of.map(|(_, table)| table.clone()).collect::<Vec<_>>().join(", ")
    };
    let quoted = quote::name(name);
    let Some(found) = sqlx::query(FIND).bind(name).fetch_optional(&mut *connection).await.map_err(read)? else {
        let tables = names(&mut all.iter());
        change(connection, format!("CREATE PUBLICATION {quoted} FOR TABLE {tables} WITH ({OPTIONS})")).await?;
        return Ok(Published::Made);
    };
    let (oid, is_whole, has_all): (i64, bool, bool) =
        (found.try_get(0).map_err(read)?, found.try_get(1).map_err(read)?, found.try_get(2).map_err(read)?);
    let mut widened = Vec::new();
    if !is_whole {
        change(connection, format!("ALTER PUBLICATION {quoted} SET ({OPTIONS})")).await?;
        widened.push("some kinds of changes".to_owned());
    }
    let rows = sqlx::query(TABLES).bind(oid).fetch_all(&mut *connection).await.map_err(read)?;
    let held = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<Vec<(i64, bool)>, _>>();
    let held = held.map_err(read)?;
    if held.iter().any(|(oid, filtered)| *filtered && all.iter().any(|(one, _)| one == oid)) {
        let set = format!("ALTER PUBLICATION {quoted} SET TABLE {}", names(&mut all.iter()));
        return Err(
            Fault::permanent(format!("publication {name} leaves rows or columns out")).advise(format!("run: {set}"))
        );
    }
    let missing: Vec<&(i64, String)> =
        all.iter().filter(|(oid, _)| !has_all && held.iter().all(|(one, _)| one != oid)).collect();
    if !missing.is_empty() {
        let missing = names(&mut missing.into_iter());
        change(connection, format!("ALTER PUBLICATION {quoted} ADD TABLE {missing}")).await?;
        widened.push(missing);
    }
    if widened.is_empty() {
        return Ok(Published::Before);
    }
    Ok(Published::Widened(format!("publication {name} lacked {}", widened.join(", "))))
}

/// Runs a statement that only an owner may run.
async fn change(connection: &mut PgConnection, sql: String) -> Result<(), Fault> {
    tracing::info!(sql, "the publication is changed");
    let shown = sql.clone();
    run(connection, sql).await.map_err(|error| match state(&error).as_deref() {
        Some("42501") => Fault::permanent("this user may not publish the tables that are followed")
            .because(error)
            .advise(format!("let the owner of the tables run: {shown}")),
        // Somebody else did the same at the same moment.
        Some("42710") => Fault::transient(format!("could not run {shown}")).because(error),
        _ => fault(&format!("could not run {shown}"), error),
    })
}
