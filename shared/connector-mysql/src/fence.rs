//! The lane's token (L6): a row that every write locks and reads in its own transaction. A claim updates that row, so it
//! waits for a write in flight, and every later write of an older token finds another one. It also stands in for
//! tombstones: nobody but the token's holder can bring a deleted record back.

use fides_core::port::{Obstacle, Write};
use fides_core::{Fault, Lane, PipelineId};
use sqlx::MySqlConnection;

use crate::fault::{DENIED, NO_TABLE, fault, number};
use crate::query::{run, scalar};
use crate::{inspect, quote};

/// The table of tokens, in the database of what is written.
pub(crate) const TABLE: &str = "_fides_lane";

/// The quoted table of tokens in a database.
pub(crate) fn table(database: &str) -> String {
    format!("{}.{TABLE}", quote::name(database))
}

fn statement(table: &str) -> String {
    // Names are compared byte by byte: two pipelines may differ in case only.
    format!(
        "CREATE TABLE IF NOT EXISTS {table} (pipeline varbinary(255) NOT NULL, lane int NOT NULL, \
         token bigint NOT NULL, PRIMARY KEY (pipeline, lane)) ENGINE = InnoDB"
    )
}

/// Creates the table of tokens unless it is there.
pub(crate) async fn ensure(connection: &mut MySqlConnection, table: &str) -> Result<(), Fault> {
    match scalar(connection, &format!("SELECT 1 FROM {table} LIMIT 1")).await {
        Ok(_) => return Ok(()),
        Err(error) if number(&error).is_some_and(|number| NO_TABLE.contains(&number)) => {}
        Err(error) => return Err(fault(&format!("looking for table {table}"), error)),
    }
    run(connection, &statement(table)).await.map_err(|error| fault(&format!("creating table {table}"), error))
}

/// What stands in the way of keeping tokens in a database.
pub(crate) async fn inspect(connection: &mut MySqlConnection, database: &str) -> Result<Option<Obstacle>, Fault> {
    let table = table(database);
    let grant = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO this user");
    let tried = [
        format!("EXPLAIN SELECT token FROM {table}"),
        format!("EXPLAIN INSERT INTO {table} (pipeline, lane, token) VALUES ('', 0, 0)"),
        format!("EXPLAIN UPDATE {table} SET token = 0 WHERE lane = -1"),
        format!("EXPLAIN DELETE FROM {table} WHERE lane = -1"),
    ];
    for sql in tried {
        match scalar(connection, &sql).await.map_err(|error| (number(&error).unwrap_or_default(), error)) {
            Ok(_) => {}
            Err((1146, _)) if inspect::may_create(connection, database).await? => return Ok(None),
            Err((1146, _)) => {
                let what =
                    format!("the table that fences writers off, {table}, is missing, and this user may not make it");
                let mend = format!("as a user who may, run: {}; {grant}", statement(&table));
                return Ok(Some(Obstacle::new(what).advise(mend)));
            }
            // A table that is not there is denied, too, to whoever has no right on it.
            Err((denied, _)) if DENIED.contains(&denied) => {
                if inspect::may_create(connection, database).await? {
                    return Ok(None);
                }
                let what = format!("this user may not write the table that fences writers off, {table}");
                let mend = format!("as a user who may, run: {}; {grant}", statement(&table));
                return Ok(Some(Obstacle::new(what).advise(mend)));
            }
            Err((_, error)) => return Err(fault(&format!("looking for table {table}"), error)),
        }
    }
    Ok(None)
}

/// Forgets the tokens of a pipeline whose table is made anew: it holds nothing that a mark tells of (L11).
pub(crate) async fn forget(connection: &mut MySqlConnection, table: &str, pipeline: &PipelineId) -> Result<(), Fault> {
    let sql = format!("DELETE FROM {table} WHERE pipeline = {}", quote::text(pipeline.as_str()));
    run(connection, &sql).await.map_err(|error| fault(&format!("emptying table {table}"), error))
}

/// Makes `token` the only one of a lane; an older one is refused.
pub(crate) async fn claim(connection: &mut MySqlConnection, table: &str, lane: &Lane, token: i64) -> Result<(), Fault> {
    let (pipeline, index) = (quote::text(lane.pipeline.as_str()), lane.index);
    let raise = format!(
        "INSERT INTO {table} (pipeline, lane, token) VALUES ({pipeline}, {index}, {token}) \
         ON DUPLICATE KEY UPDATE token = GREATEST(token, VALUES(token))"
    );
    let claiming = async {
        run(connection, "START TRANSACTION").await?;
        run(connection, &raise).await?;
        let present = scalar(connection, &present(table, lane)).await?;
        run(connection, "COMMIT").await?;
        Ok(present)
    };
    let present = claiming
        .await
        .map_err(|error| fault(&format!("claiming {lane} (a write in flight holds it until it has ended)"), error))?;
    if present.is_some_and(|present| present == token.to_string()) {
        return Ok(());
    }
    Err(Fault::permanent(format!("{lane}: token {token} is older than the one that owns it"))
        .advise("another process owns this lane now"))
}

/// The present token of a lane, if it was ever claimed.
pub(crate) async fn claimed(connection: &mut MySqlConnection, table: &str, lane: &Lane) -> Result<Option<u64>, Fault> {
    match scalar(connection, &present(table, lane)).await {
        Ok(token) => Ok(token.and_then(|token| token.parse().ok())),
        // Nobody ever claimed anything in this database.
        Err(error) if number(&error).is_some_and(|number| NO_TABLE.contains(&number)) => Ok(None),
        Err(error) => Err(fault(&format!("reading the token of {lane}"), error)),
    }
}

/// Locks the lane's row until the transaction ends and compares its token. What is returned is the reason to write
/// nothing. Unavailable, not Permanent: the records are sound and belong to the lane's new owner.
pub(crate) async fn hold(
    connection: &mut MySqlConnection,
    table: &str,
    write: &Write<'_>,
) -> Result<Result<(), Fault>, sqlx::Error> {
    let found = scalar(connection, &format!("{} LOCK IN SHARE MODE", present(table, write.lane))).await?;
    if found.as_ref().is_some_and(|found| *found == write.token.to_string()) {
        return Ok(Ok(()));
    }
    let owner = found.map_or("nobody".to_owned(), |token| format!("token {token}"));
    Ok(Err(Fault::unavailable(format!("{} belongs to {owner}, not to token {}", write.lane, write.token))
        .advise("another process has taken it over; this one stops writing it")))
}

fn present(table: &str, lane: &Lane) -> String {
    let pipeline = quote::text(lane.pipeline.as_str());
    format!("SELECT token FROM {table} WHERE pipeline = {pipeline} AND lane = {}", lane.index)
}
