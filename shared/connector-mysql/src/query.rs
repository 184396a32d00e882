//! Statements in the text protocol: every value comes as the bytes that the server writes for people, so that nothing is
//! converted on the way.

use futures::TryStreamExt;
use sqlx::mysql::{MySql, MySqlRow};
use sqlx::{AssertSqlSafe, Decode, Executor, MySqlConnection, Row, ValueRef};

/// Runs statements that return nothing of interest, in one round trip.
pub(crate) async fn run(connection: &mut MySqlConnection, sql: &str) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.map(drop)
}

/// All rows of a small answer, as text; bytes that are no UTF-8 are replaced.
pub(crate) async fn texts(
    connection: &mut MySqlConnection,
    sql: &str,
) -> Result<Vec<Vec<Option<String>>>, sqlx::Error> {
    let mut found = Vec::new();
    let mut rows = connection.fetch(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())));
    while let Some(row) = rows.try_next().await? {
        let text = |at| Ok(bytes(&row, at)?.map(|bytes| String::from_utf8_lossy(bytes).into_owned()));
        found.push((0..row.len()).map(text).collect::<Result<_, sqlx::Error>>()?);
    }
    Ok(found)
}

/// The first column of the first row.
pub(crate) async fn scalar(connection: &mut MySqlConnection, sql: &str) -> Result<Option<String>, sqlx::Error> {
    Ok(texts(connection, sql).await?.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
}

/// Column `at` as the server wrote it; `None` is NULL.
pub(crate) fn bytes(row: &MySqlRow, at: usize) -> Result<Option<&[u8]>, sqlx::Error> {
    let raw = row.try_get_raw(at)?;
    if raw.is_null() {
        return Ok(None);
    }
    <&[u8] as Decode<'_, MySql>>::decode(raw).map(Some).map_err(sqlx::Error::Decode)
}
