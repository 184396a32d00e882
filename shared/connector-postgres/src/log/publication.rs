//! The publication of a reader: which tables the server decodes for it.

use fides_core::Fault;
use sqlx::{PgConnection, Row};

use super::tables::Tables;
use crate::connect::run;
use crate::fault::{fault, state};
use crate::quote;

const OPTIONS: &str = "publish = 'insert, update, delete, truncate', publish_via_partition_root = true";

/// What a publication lacks, and the statements that add it.
#[derive(Debug)]
pub(super) struct Lacking {
    pub(super) why: String,
    pub(super) statements: Vec<String>,
}

const FIND: &str = "\
SELECT oid::bigint, pubinsert AND pubupdate AND pubdelete AND pubtruncate AND pubviaroot, puballtables \
FROM pg_catalog.pg_publication WHERE pubname = $1";

// Row filters and column lists came with PostgreSQL 15.
const TABLES: &str = "\
SELECT r.prrelid::bigint, \
  to_jsonb(r)->>'prqual' IS NOT NULL OR to_jsonb(r)->>'prattrs' IS NOT NULL \
FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = $1::oid";

/// What the publication `name` lacks to carry every change of the tables; `None` when it lacks nothing.
pub(super) async fn lacking(
    connection: &mut PgConnection,
    name: &str,
    tables: &Tables,
) -> Result<Option<Lacking>, Fault> {
    let read = |error| fault(&format!("looking up publication {name}"), error);
    let (all, quoted) = (tables.published(), quote::name(name));
    let Some(found) = sqlx::query(FIND).bind(name).fetch_optional(&mut *connection).await.map_err(read)? else {
        let create = format!("CREATE PUBLICATION {quoted} FOR TABLE {} WITH ({OPTIONS})", names(&all));
        return Ok(Some(Lacking { why: format!("there was no publication {name}"), statements: vec![create] }));
    };
    let (is_whole, has_all): (bool, bool) = (found.try_get(1).map_err(read)?, found.try_get(2).map_err(read)?);
    let held = held(connection, found.try_get(0).map_err(read)?).await.map_err(read)?;
    let is_ours = |oid: &i64| all.iter().any(|(one, _)| one == oid);
    if held.iter().any(|(oid, is_filtered)| *is_filtered && is_ours(oid)) {
        return Err(Fault::permanent(format!("publication {name} leaves rows or columns out"))
            .advise(format!("run: ALTER PUBLICATION {quoted} SET TABLE {}", names(&all))));
    }
    let (mut statements, mut lacks) = (Vec::new(), Vec::new());
    if !is_whole {
        statements.push(format!("ALTER PUBLICATION {quoted} SET ({OPTIONS})"));
        lacks.push("some kinds of changes".to_owned());
    }
    let is_missing = |(oid, _): &&(i64, String)| !has_all && held.iter().all(|(one, _)| one != oid);
    let missing: Vec<(i64, String)> = all.iter().filter(is_missing).cloned().collect();
    if !missing.is_empty() {
        statements.push(format!("ALTER PUBLICATION {quoted} ADD TABLE {}", names(&missing)));
        lacks.push(names(&missing));
    }
    let why = format!("publication {name} lacked {}", lacks.join(", "));
    Ok((!statements.is_empty()).then_some(Lacking { why, statements }))
}

/// Whether this user may add what is lacking: the tables and the publication are its own, and it may make a new one.
pub(super) async fn is_mendable(connection: &mut PgConnection, name: &str, tables: &Tables) -> Result<bool, Fault> {
    const MAY: &str = "SELECT bool_and(pg_has_role(c.relowner, 'USAGE')) \
        AND coalesce((SELECT pg_has_role(p.pubowner, 'USAGE') FROM pg_catalog.pg_publication p WHERE p.pubname = $2), \
          has_database_privilege(current_database(), 'CREATE')) \
        FROM pg_catalog.pg_class c WHERE c.oid::bigint = ANY($1)";
    let oids: Vec<i64> = tables.published().into_iter().map(|(oid, _)| oid).collect();
    let may: Option<bool> = sqlx::query_scalar(MAY)
        .bind(oids)
        .bind(name)
        .fetch_one(connection)
        .await
        .map_err(|error| fault(&format!("looking up who may change publication {name}"), error))?;
    Ok(may.unwrap_or(false))
}

fn names(tables: &[(i64, String)]) -> String {
    tables.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ")
}

/// The tables of a publication by OID, and whether it leaves something of them out.
async fn held(connection: &mut PgConnection, publication: i64) -> Result<Vec<(i64, bool)>, sqlx::Error> {
    let rows = sqlx::query(TABLES).bind(publication).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Adds what is lacking, in the open transaction. Only an owner of the tables may.
pub(super) async fn mend(connection: &mut PgConnection, lacking: &Lacking) -> Result<(), Fault> {
    for sql in &lacking.statements {
        tracing::info!(sql, "a publication is changed");
        run(connection, sql.clone()).await.map_err(|error| match state(&error).as_deref() {
            Some("42501") => Fault::permanent("this user may not publish the tables that are followed")
                .because(error)
                .advise(format!("let the owner of the tables run: {}", lacking.statements.join("; "))),
            // Somebody else did the same at the same moment.
            Some("42710") => Fault::transient(format!("could not run {sql}")).because(error),
            _ => fault(&format!("could not run {sql}"), error),
        })?;
    }
    Ok(())
}
