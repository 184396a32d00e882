//! What must hold of a table so that its log tells every change: checked before anything is made on the server, because
//! a table without a replica identity refuses its owner's updates as soon as it is published.

use std::collections::BTreeSet;

use fides_core::Fault;
use sqlx::{PgConnection, Row};

use crate::fault::fault;

// A table, and the leaves of a partitioned one: rows are logged with the identity of their leaf.
const TABLES: &str = "\
SELECT c.relkind::text, c.relpersistence::text, row_security_active(c.oid), \
  c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid), \
  format('%I.%I', n.nspname, c.relname), \
  array(SELECT a.attname::text FROM pg_catalog.pg_attribute a \
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND (c.relreplident = 'f' OR a.attnum IN ( \
      SELECT k.num FROM pg_catalog.pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY k(num, at) \
      WHERE i.indrelid = c.oid AND i.indimmediate AND i.indisvalid AND k.at <= i.indnkeyatts \
        AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END))), \
  array(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated <> '') \
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
WHERE c.oid = $1::oid OR c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree($1::oid::regclass) WHERE isleaf) \
ORDER BY c.oid <> $1::oid, c.oid";

/// Refuses what cannot be followed. `needed` are the columns whose values a deletion or a move has to tell.
pub(super) async fn check(
    connection: &mut PgConnection,
    oid: u32,
    place: &str,
    needed: &BTreeSet<String>,
) -> Result<(), Fault> {
    let read = |error| fault(&format!("looking up the replica identity of table {place}"), error);
    let rows = sqlx::query(TABLES).bind(i64::from(oid)).fetch_all(connection).await.map_err(read)?;
    let mut root: Option<Vec<String>> = None;
    for row in &rows {
        let (kind, persistence): (String, String) = (row.try_get(0).map_err(read)?, row.try_get(1).map_err(read)?);
        let (hides, inherited): (bool, bool) = (row.try_get(2).map_err(read)?, row.try_get(3).map_err(read)?);
        let quoted: String = row.try_get(4).map_err(read)?;
        let (held, generated): (Vec<String>, Vec<String>) =
            (row.try_get(5).map_err(read)?, row.try_get(6).map_err(read)?);
        refuse(place, &kind, &persistence, hides, inherited)?;
        if let Some(column) = needed.iter().find(|name| generated.contains(name)) {
            return Err(Fault::permanent(format!(
                "column {place}.{column} is generated: the log does not carry it, and records are found by it"
            ))
            .advise("choose columns that are stored by writers"));
        }
        // Old rows of a leaf are told in the terms of the root's identity.
        let needs = needed.iter().chain(root.iter().flatten());
        let missing: BTreeSet<&str> =
            needs.map(String::as_str).filter(|name| !held.iter().any(|one| one == name)).collect();
        if !missing.is_empty() {
            let missing = missing.into_iter().collect::<Vec<_>>().join(", ");
            return Err(Fault::permanent(format!(
                "table {place}: the replica identity of {quoted} does not contain {missing}: a deletion or a change of \
                 it would not say which record it was"
            ))
            .advise(format!("run: ALTER TABLE {quoted} REPLICA IDENTITY FULL")));
        }
        root.get_or_insert(held);
    }
    Ok(())
}

fn refuse(place: &str, kind: &str, persistence: &str, hides: bool, inherited: bool) -> Result<(), Fault> {
    let (why, advice) = if !matches!(kind, "r" | "p") {
        ("is no table: only tables have a log", "name the tables behind it, and nest them as includes")
    } else if persistence != "p" {
        ("is unlogged or temporary: it has no log", "run: ALTER TABLE … SET LOGGED")
    } else if hides {
        ("has row security, which hides rows from this user that the log would show", "give the user BYPASSRLS")
    } else if inherited {
        ("has tables that inherit from it, whose changes come under their own names", "use partitions")
    } else {
        return Ok(());
    };
    Err(Fault::permanent(format!("{place} {why}")).advise(advice))
}
