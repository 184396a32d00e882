//! Tables whose rows a snapshot does not see any more: they were rewritten (TRUNCATE, many an ALTER TABLE) after it was taken, or others
//! have their names now. PostgreSQL shows them empty, without a word.

use fides_core::Fault;
use sqlx::PgConnection;

use crate::connect::run;
use crate::fault::fault;

/// Of the relations that this transaction has locked. What `pg_class` holds is read by the snapshot, what functions say is so now.
const REWRITTEN: &str = "\
SELECT min(now.identity) FROM pg_catalog.pg_locks AS l \
  CROSS JOIN LATERAL pg_identify_object('pg_catalog.pg_class'::regclass, l.relation, 0) AS now \
  LEFT JOIN pg_catalog.pg_class AS c ON c.oid = l.relation \
  LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
  WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.relation >= 16384 \
    AND now.type IN ('table', 'view', 'materialized view') \
    AND (c.oid IS NULL OR now.identity IS DISTINCT FROM format('%I.%I', n.nspname, c.relname) \
      OR c.relkind IN ('r', 'm') AND pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode)";

/// Fails where a table that was read in this transaction, and is locked till its end, is not what the snapshot knows (L8).
/// Transient: a new snapshot sees it.
pub(crate) async fn refuse(connection: &mut PgConnection, place: &str) -> Result<(), Fault> {
    let asking = |error| fault(&format!("table {place}: asking what was rewritten"), error);
    match sqlx::query_scalar::<_, Option<String>>(REWRITTEN).fetch_one(connection).await.map_err(asking)? {
        None => Ok(()),
        Some(rewritten) => Err(Fault::transient(format!(
            "table {place}: {rewritten} was rewritten or replaced since the snapshot was taken, which may see none of its rows"
        ))),
    }
}

/// The same before the rows of a SELECT are read: locks what it names.
pub(crate) async fn refuse_for(connection: &mut PgConnection, place: &str, select: &str) -> Result<(), Fault> {
    let locking = |error| fault(&format!("reading table {place}"), error);
    run(connection, format!("{select} LIMIT 0")).await.map_err(locking)?;
    refuse(connection, place).await
}
