//! The lane's token (L6): a row that every write locks and reads in its own transaction. A claim updates that row, so it
//! waits for a write in flight, and every later write of an older token finds another one.
//!
//! A token is of one table: one that was made anew under the old name holds nothing that a mark tells of (L11).

use fides_core::port::{Obstacle, Write};
use fides_core::{Fault, Lane};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use crate::connect::run;
use crate::fault::{fault, state};
use crate::quote;

const TABLE: &str = "_fides_lane";

/// The quoted table of tokens in a schema.
pub(crate) fn table(schema: &str) -> String {
    format!("{}.{TABLE}", quote::name(schema))
}

/// Creates the table of tokens unless it is there.
pub(crate) async fn ensure(connection: &mut PgConnection, table: &str) -> Result<(), Fault> {
    let failed = |error| fault(&format!("creating table {table}"), error);
    let found: Option<String> = sqlx::query_scalar("SELECT to_regclass($1)::text")
        .bind(table)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if found.is_some() {
        return Ok(());
    }
    match run(connection, statement(table)).await {
        Ok(()) => Ok(()),
        // IF NOT EXISTS still races with another session that creates it.
        Err(error) if matches!(state(&error).as_deref(), Some("42P07" | "42710" | "23505")) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// What stands in the way of keeping tokens in a schema.
pub(crate) async fn inspect(connection: &mut PgConnection, schema: &str) -> Result<Option<Obstacle>, Fault> {
    let table = table(schema);
    let sql = "SELECT CASE WHEN to_regclass($1) IS NULL THEN has_schema_privilege($2, 'CREATE') \
        ELSE has_table_privilege(to_regclass($1)::oid, 'SELECT') AND has_table_privilege(to_regclass($1)::oid, 'INSERT') \
            AND has_table_privilege(to_regclass($1)::oid, 'UPDATE') END, to_regclass($1) IS NULL";
    let (is_usable, is_missing): (bool, bool) = sqlx::query_as(sql)
        .bind(&table)
        .bind(schema)
        .fetch_one(connection)
        .await
        .map_err(|error| fault(&format!("looking for table {table}"), error))?;
    let grant = format!("GRANT SELECT, INSERT, UPDATE ON {table} TO this user");
    Ok(match (is_usable, is_missing) {
        (true, _) => None,
        (false, true) => Some(
            Obstacle::new(format!(
                "the table that fences writers off, {table}, is missing, and this user may not make it"
            ))
            .advise(format!("as a user who may, run: {}; {grant}", statement(&table))),
        ),
        (false, false) => {
            let what = format!("this user may not write the table that fences writers off, {table}");
            Some(Obstacle::new(what).advise(grant))
        }
    })
}

fn statement(table: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {table} \
         (pipeline text NOT NULL, lane int NOT NULL, token bigint NOT NULL, relation bigint NOT NULL, \
         PRIMARY KEY (pipeline, lane))"
    )
}

/// Makes `token` the only one of a lane to the table `relation`; an older one is refused.
pub(crate) async fn claim(
    connection: &mut PgConnection,
    table: &str,
    relation: i64,
    lane: &Lane,
    token: i64,
) -> Result<(), Fault> {
    let sql = format!(
        "INSERT INTO {table} AS l (pipeline, lane, token, relation) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (pipeline, lane) DO UPDATE SET token = excluded.token, relation = excluded.relation \
         WHERE l.token <= excluded.token RETURNING token"
    );
    let claimed: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(lane.pipeline.to_string())
        .bind(i32::from(lane.index))
        .bind(token)
        .bind(relation)
        .fetch_optional(connection)
        .await
        .map_err(|error| fault(&format!("claiming {lane} (a write in flight holds it until it has ended)"), error))?;
    match claimed {
        Some(_) => Ok(()),
        None => Err(Fault::permanent(format!("{lane}: token {token} is older than the one that owns it"))
            .advise("another process owns this lane now")),
    }
}

/// The present token of a lane to the table `relation`, if it was ever claimed.
pub(crate) async fn claimed(
    connection: &mut PgConnection,
    table: &str,
    relation: i64,
    lane: &Lane,
) -> Result<Option<u64>, Fault> {
    let sql = format!("SELECT token FROM {table} WHERE pipeline = $1 AND lane = $2 AND relation = $3");
    let found: Result<Option<i64>, _> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(lane.pipeline.to_string())
        .bind(i32::from(lane.index))
        .bind(relation)
        .fetch_optional(connection)
        .await;
    match found {
        Ok(token) => Ok(token.and_then(|token| u64::try_from(token).ok())),
        // Nobody ever claimed anything in this schema.
        Err(error) if state(&error).as_deref() == Some("42P01") => Ok(None),
        Err(error) => Err(fault(&format!("reading the token of {lane}"), error)),
    }
}

/// Locks the lane's row until the transaction ends and compares its token, which is one to whatever table has the name
/// `of` now.
pub(crate) async fn hold(
    connection: &mut PgConnection,
    table: &str,
    of: &str,
    write: &Write<'_>,
) -> Result<Held, sqlx::Error> {
    let sql = format!(
        "SELECT token FROM {table} WHERE pipeline = $1 AND lane = $2 AND relation = to_regclass($3)::oid::bigint \
         FOR SHARE"
    );
    let found: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(write.lane.pipeline.to_string())
        .bind(i32::from(write.lane.index))
        .bind(of)
        .fetch_optional(connection)
        .await?;
    Ok(match found {
        Some(found) if u64::try_from(found) == Ok(write.token) => Held::Ours,
        found => Held::Lost(found),
    })
}

/// The same as a part of a statement that writes: one row where the lane is the writer's, and none where it is not. Its
/// parameters from $2 on are those of [`bind`].
pub(crate) fn held(table: &str) -> String {
    format!(
        "held AS MATERIALIZED (SELECT 1 FROM {table} WHERE pipeline = $2 AND lane = $3 AND token = $4 \
         AND relation = to_regclass($5)::oid::bigint FOR SHARE)"
    )
}

/// Gives [`held`] its parameters.
pub(crate) fn bind<'q>(
    query: Query<'q, Postgres, PgArguments>,
    of: &str,
    write: &Write<'_>,
) -> Query<'q, Postgres, PgArguments> {
    // A token that no lane's row can have is nobody's.
    let token = i64::try_from(write.token).unwrap_or(-1);
    query.bind(write.lane.pipeline.to_string()).bind(i32::from(write.lane.index)).bind(token).bind(of.to_owned())
}

/// Whose lane it is.
pub(crate) enum Held {
    /// The write's token owns it.
    Ours,
    /// Another token, or none.
    Lost(Option<i64>),
}
