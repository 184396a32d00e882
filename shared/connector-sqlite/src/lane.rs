//! The lane's token (L6): a row that every write reads inside its own transaction, so that a displaced writer's late
//! write cannot land. It also stands in for tombstones: nobody but the token's holder can bring a deleted record back.

use fides_core::port::Write;
use fides_core::{Fault, Lane, PipelineId};
use sqlx::sqlite::SqliteConnection;

use crate::connect::Database;

/// Makes the table of tokens when there is none.
pub(crate) async fn ensure(database: &Database, connection: &mut SqliteConnection) -> Result<(), Fault> {
    let sql = "CREATE TABLE IF NOT EXISTS main._fides_lane (pipeline TEXT NOT NULL, lane INTEGER NOT NULL, \
               token INTEGER NOT NULL, PRIMARY KEY (pipeline, lane)) WITHOUT ROWID";
    let made = sqlx::query(sql).execute(connection).await;
    made.map(drop).map_err(|error| database.fault("table _fides_lane could not be created", error))
}

/// Forgets the tokens of a pipeline whose table is made anew: it holds nothing that a mark tells of (L11).
pub(crate) async fn forget(
    database: &Database,
    connection: &mut SqliteConnection,
    pipeline: &PipelineId,
) -> Result<(), Fault> {
    let forgotten = sqlx::query("DELETE FROM main._fides_lane WHERE pipeline = ?1").bind(pipeline.as_str());
    let forgotten = forgotten.execute(connection).await;
    forgotten.map(drop).map_err(|error| database.fault("table _fides_lane could not be emptied", error))
}

/// Makes `token` the lane's; an older one than the present is a Permanent fault.
pub(crate) async fn claim(database: &Database, lane: &Lane, token: u64) -> Result<(), Fault> {
    let mut transaction = database.begin_write().await?;
    ensure(database, &mut transaction).await?;
    let sql = "INSERT INTO main._fides_lane (pipeline, lane, token) VALUES (?1, ?2, ?3) \
               ON CONFLICT (pipeline, lane) DO UPDATE SET token = max(token, excluded.token) RETURNING token";
    let present: i64 = sqlx::query_scalar(sql)
        .bind(lane.pipeline.as_str())
        .bind(i64::from(lane.index))
        .bind(stored(token)?)
        .fetch_one(&mut *transaction)
        .await
        .map_err(|error| database.fault(&format!("{lane} could not be claimed"), error))?;
    if present != stored(token)? {
        return Err(Fault::permanent(format!("{lane}: token {token} is older than {present}, which owns the lane")));
    }
    let commit = transaction.commit().await;
    commit.map_err(|error| database.fault(&format!("{lane} could not be claimed"), error))
}

/// The lane's present token, if it was ever claimed.
pub(crate) async fn claimed(database: &Database, lane: &Lane) -> Result<Option<u64>, Fault> {
    let failed = |error| database.fault(&format!("token of {lane} could not be read"), error);
    let mut connection = database.acquire().await?;
    let made: Option<i64> = sqlx::query_scalar("SELECT 1 FROM main.sqlite_master WHERE name = '_fides_lane'")
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
    if made.is_none() {
        return Ok(None);
    }
    let token: Option<i64> = sqlx::query_scalar("SELECT token FROM main._fides_lane WHERE pipeline = ?1 AND lane = ?2")
        .bind(lane.pipeline.as_str())
        .bind(i64::from(lane.index))
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
    Ok(token.and_then(|token| u64::try_from(token).ok()))
}

/// Refuses a write whose token is not the lane's. Unavailable, not Permanent: the records are sound and belong to the
/// lane's new owner, so the displaced one must stop and bury nothing.
pub(crate) async fn require(
    database: &Database,
    connection: &mut SqliteConnection,
    write: &Write<'_>,
) -> Result<(), Fault> {
    let lane = write.lane;
    let present: Option<i64> =
        sqlx::query_scalar("SELECT token FROM main._fides_lane WHERE pipeline = ?1 AND lane = ?2")
            .bind(lane.pipeline.as_str())
            .bind(i64::from(lane.index))
            .fetch_optional(connection)
            .await
            .map_err(|error| database.fault(&format!("token of {lane} could not be read"), error))?;
    match present {
        Some(present) if present == stored(write.token)? => Ok(()),
        Some(present) => Err(Fault::unavailable(format!(
            "{lane}: token {} no longer owns the lane, {present} does; nothing was written",
            write.token
        ))),
        None => Err(Fault::unavailable(format!("{lane} was not claimed; nothing was written"))),
    }
}

fn stored(token: u64) -> Result<i64, Fault> {
    i64::try_from(token).map_err(|_| Fault::permanent(format!("token {token} does not fit 63 bits")))
}
