//! Who reads the outbox, and how far: what every reader has passed is removed.

use fides_core::port::Gap;
use fides_core::{Fault, PipelineId};
use sqlx::sqlite::SqliteConnection;

use super::Place;
use super::schema::TICK;
use crate::connect::Database;

/// Rows that one transaction removes: the host's writers wait no longer than for these.
const PRUNE_ROWS_MAX: i64 = 2_000;

const DOING: &str = "the readers of its outbox could not be asked";

/// The highest sequence of this state. A row is looked for, too: a statement that failed half-way (`OR FAIL`) keeps its
/// rows, and not the counter.
pub(super) async fn last(database: &Database, connection: &mut SqliteConnection) -> Result<i64, Fault> {
    let sql = "SELECT max(coalesce((SELECT seq FROM main.sqlite_sequence WHERE name = '_fides_outbox'), 0), \
               coalesce((SELECT max(sequence) FROM main._fides_outbox), 0))";
    sqlx::query_scalar(sql).fetch_one(connection).await.map_err(|error| database.fault(DOING, error))
}

/// Where a reader goes on that has stored `after`, or the present end, and what is missing in between. Nothing behind that
/// is removed from then on. `since` is where the last of its triggers was made. Inside a transaction that writes.
pub(super) async fn enter(
    database: &Database,
    connection: &mut SqliteConnection,
    reader: &PipelineId,
    since: i64,
    after: Option<Place>,
) -> Result<(Place, Option<Gap>), Fault> {
    let fault = |error| database.fault(DOING, error);
    let gap = match after {
        None => Some(Gap::Missing("the outbox is read for the first time".to_owned())),
        Some(place) => gap(database, connection, reader, since, place).await?,
    };
    let place = if let (Some(place), None) = (after, &gap) {
        place
    } else {
        let (sequence, nonce): (i64, i64) = sqlx::query_as(TICK).fetch_one(&mut *connection).await.map_err(fault)?;
        Place { sequence, nonce: (nonce & 0xffff) as u16 }
    };
    if matches!(gap, Some(Gap::Backward(_))) {
        // Nothing is read before the epoch has risen, and a crash until then must find the same.
        return Ok((place, gap));
    }
    sqlx::query(
        "INSERT INTO main._fides_outbox_readers (name, sequence) VALUES (?1, ?2) \
         ON CONFLICT (name) DO UPDATE SET sequence = excluded.sequence",
    )
    .bind(reader.as_str())
    .bind(place.sequence)
    .execute(connection)
    .await
    .map_err(fault)?;
    Ok((place, gap))
}

/// What is missing behind `place`.
async fn gap(
    database: &Database,
    connection: &mut SqliteConnection,
    reader: &PipelineId,
    since: i64,
    place: Place,
) -> Result<Option<Gap>, Fault> {
    let fault = |error| database.fault(DOING, error);
    let end = last(database, connection).await?;
    if place.sequence > end {
        return Ok(Some(Gap::Backward(format!(
            "the outbox ends at {end}, before {}: the file is an older one",
            place.sequence
        ))));
    }
    let known: Option<(Option<i64>,)> =
        sqlx::query_as("SELECT sequence FROM main._fides_outbox_readers WHERE name = ?1")
            .bind(reader.as_str())
            .fetch_optional(&mut *connection)
            .await
            .map_err(fault)?;
    let nonce: Option<i64> = sqlx::query_scalar("SELECT nonce FROM main._fides_outbox WHERE sequence = ?1")
        .bind(place.sequence)
        .fetch_optional(connection)
        .await
        .map_err(fault)?;
    Ok(match (known, nonce) {
        (None, _) => Some(Gap::Backward(format!("the outbox does not know {reader}: the file is an older one"))),
        (Some((None,)), _) => Some(Gap::Missing("the outbox did not keep what it had to tell".to_owned())),
        (Some(_), Some(nonce)) if nonce != i64::from(place.nonce) => Some(Gap::Backward(format!(
            "row {} of the outbox is another one: the file is an older one, and was written since",
            place.sequence
        ))),
        (Some(_), None) => Some(Gap::Missing(format!("row {} of the outbox is gone", place.sequence))),
        (Some(_), Some(_)) if place.sequence < since => {
            Some(Gap::Missing("triggers were made since: what was written before them is not told".to_owned()))
        }
        (Some(_), Some(_)) => None,
    })
}

/// The fault of a log that is not kept any more.
pub(super) fn forgotten(database: &Database, reader: &PipelineId) -> Fault {
    Fault::transient(format!("{}: the outbox keeps nothing for {reader} any more", database.path().display()))
}

/// Moves a reader to `place`, and removes what all readers have passed, a few rows in each transaction. Cancel-safe: what
/// was not removed is removed next time.
pub(super) async fn release(database: &Database, reader: &PipelineId, place: Place) -> Result<(), Fault> {
    let fault = |error| database.fault(DOING, error);
    loop {
        let mut transaction = database.begin_write().await?;
        let moved = sqlx::query(
            "UPDATE main._fides_outbox_readers SET sequence = max(sequence, ?2) WHERE name = ?1 AND sequence IS NOT NULL",
        );
        let moved = moved.bind(reader.as_str()).bind(place.sequence).execute(&mut *transaction).await.map_err(fault)?;
        if moved.rows_affected() == 0 {
            return Err(forgotten(database, reader));
        }
        let removed = prune(database, &mut transaction).await?;
        transaction.commit().await.map_err(fault)?;
        if removed < PRUNE_ROWS_MAX.cast_unsigned() {
            return Ok(());
        }
    }
}

/// Removes the oldest rows that every reader has passed. The row of a place stays: it proves that the file is the same.
async fn prune(database: &Database, connection: &mut SqliteConnection) -> Result<u64, Fault> {
    let sql = "DELETE FROM main._fides_outbox WHERE sequence IN (SELECT sequence FROM main._fides_outbox \
               WHERE sequence < coalesce((SELECT min(sequence) FROM main._fides_outbox_readers), \
               (SELECT max(sequence) FROM main._fides_outbox)) ORDER BY sequence LIMIT ?1)";
    let removed = sqlx::query(sql).bind(PRUNE_ROWS_MAX).execute(connection).await;
    removed.map(|removed| removed.rows_affected()).map_err(|error| database.fault(DOING, error))
}

/// Keeps nothing for a reader, which learns of it when it next asks.
pub(super) async fn forget(database: &Database, reader: &PipelineId) -> Result<(), Fault> {
    let fault = |error| database.fault(DOING, error);
    let mut removed = u64::MAX;
    while removed >= PRUNE_ROWS_MAX.cast_unsigned() {
        let mut transaction = database.begin_write().await?;
        sqlx::query("UPDATE main._fides_outbox_readers SET sequence = NULL WHERE name = ?1")
            .bind(reader.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(fault)?;
        removed = prune(database, &mut transaction).await?;
        transaction.commit().await.map_err(fault)?;
    }
    Ok(())
}

/// Whether anything is kept for a reader.
pub(super) async fn is_kept(
    database: &Database,
    connection: &mut SqliteConnection,
    reader: &PipelineId,
) -> Result<bool, Fault> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM main._fides_outbox_readers WHERE name = ?1 AND sequence IS NOT NULL)",
    )
    .bind(reader.as_str())
    .fetch_one(connection)
    .await
    .map_err(|error| database.fault(DOING, error))
}

/// Bytes of the rows behind a reader's place: their number, by the size of the latest ones.
pub(super) async fn lag(
    database: &Database,
    connection: &mut SqliteConnection,
    reader: &PipelineId,
) -> Result<Option<u64>, Fault> {
    let sql = "SELECT CAST(((SELECT max(sequence) FROM main._fides_outbox) - r.sequence) * (SELECT coalesce(avg(size), 0) \
               FROM (SELECT 24 + coalesce(length(CAST(k1 AS BLOB)), 0) AS size FROM main._fides_outbox \
               ORDER BY sequence DESC LIMIT 100)) AS INTEGER) FROM main._fides_outbox_readers r \
               WHERE r.name = ?1 AND r.sequence IS NOT NULL";
    let lag: Option<Option<i64>> = sqlx::query_scalar(sql)
        .bind(reader.as_str())
        .fetch_optional(connection)
        .await
        .map_err(|error| database.fault(DOING, error))?;
    Ok(lag.flatten().map(|lag| u64::try_from(lag).unwrap_or_default()))
}
