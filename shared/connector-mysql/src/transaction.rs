//! One transaction of a write: fence, what is there, deletions, upserts, commit.

use std::collections::HashMap;

use fides_core::port::Write;
use fides_core::{Fault, FaultKind, Key};
use fides_sql::Written;
use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, Executor, MySqlConnection};

use crate::connect::is_answer;
use crate::fault::{fault, number};
use crate::fence;
use crate::layout::Layout;
use crate::query::{bytes, run};

/// Bytes of one statement, unless one row has more.
const STATEMENT_BYTES_MAX: usize = 1 << 20;
/// Keys of one statement.
const KEYS_MAX: usize = 1_000;

/// A change, ready to be sent.
pub(crate) struct Row {
    /// Position of its change.
    pub(crate) at: usize,
    pub(crate) key: Key,
    /// 32 hex digits.
    pub(crate) version: String,
    /// Its literals in parentheses; nothing deletes it.
    pub(crate) literals: Option<String>,
}

/// Writes one batch. Unless the answer is `Done`, a transaction may be open in the connection.
pub(crate) async fn write(
    connection: &mut MySqlConnection,
    layout: &Layout,
    write: &Write<'_>,
    rows: &[Row],
) -> Written {
    let what = || format!("writing table {}", layout.place);
    let stale = match before_commit(connection, layout, write, rows).await {
        Ok(Ok(stale)) => stale,
        Ok(Err(lost)) => return Written::Refused(lost),
        // Without a COMMIT on its way the server rolls back, whatever became of the connection.
        Err(error) => return rolled_back(&what(), error),
    };
    match run(connection, "COMMIT").await {
        Ok(()) => Written::Done(stale),
        Err(error) if is_answer(&error) => rolled_back(&what(), error),
        // L5: it may have been carried out.
        Err(error) => Written::Unknown(fault(&format!("{}: the outcome of the commit is unknown", what()), error)),
    }
}

async fn before_commit(
    connection: &mut MySqlConnection,
    layout: &Layout,
    write: &Write<'_>,
    rows: &[Row],
) -> Result<Result<Vec<usize>, Fault>, sqlx::Error> {
    run(connection, "START TRANSACTION").await?;
    // L6: held until the commit, so that a claim waits for it.
    if let Err(lost) = fence::hold(connection, &layout.lanes, write).await? {
        return Ok(Err(lost));
    }
    let present = if layout.is_guarded || layout.version.is_some() {
        match present(connection, layout, rows).await? {
            Ok(present) => present,
            Err(fault) => return Ok(Err(fault)),
        }
    } else {
        HashMap::new()
    };
    let (stale, statements) = match statements(layout, rows, &present) {
        Ok(statements) => statements,
        Err(fault) => return Ok(Err(fault)),
    };
    for sql in statements {
        run(connection, &sql).await?;
    }
    Ok(Ok(stale))
}

/// Rows that are older than what is there, and the statements that write the others.
fn statements(layout: &Layout, rows: &[Row], present: &Present) -> Result<(Vec<usize>, Vec<String>), Fault> {
    let is_stale = |row: &&Row| matches!(present.get(row.key.as_bytes()), Some(Some(held)) if *held > row.version);
    let (stale, fresh): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(is_stale);
    let (upserts, deletes): (Vec<&Row>, Vec<&Row>) = fresh.into_iter().partition(|row| row.literals.is_some());
    // Deletions first: they may free a unique value for an upsert.
    let mut statements = Vec::new();
    for chunk in deletes.chunks(KEYS_MAX) {
        let condition = layout.key_columns.among(chunk.iter().map(|row| &row.key))?;
        statements.push(format!("DELETE p FROM {} AS p WHERE {condition}", layout.table));
    }
    // Where another index could be met, only what is there by its key may be replaced, and the rest is inserted plainly:
    // ON DUPLICATE KEY UPDATE would write into whatever row it meets.
    let is_new = |row: &&Row| layout.is_guarded && !present.contains_key(row.key.as_bytes());
    let (new, known): (Vec<&Row>, Vec<&Row>) = upserts.into_iter().partition(is_new);
    insert(layout, &known, &layout.replace, &mut statements);
    insert(layout, &new, "", &mut statements);
    Ok((stale.into_iter().map(|row| row.at).collect(), statements))
}

fn insert(layout: &Layout, rows: &[&Row], behind: &str, statements: &mut Vec<String>) {
    let bytes_max = STATEMENT_BYTES_MAX.min(layout.row_bytes_max);
    let mut rows = rows.iter().filter_map(|row| row.literals.as_deref()).peekable();
    while let Some(first) = rows.next() {
        let mut sql = layout.insert.clone();
        sql.push_str(first);
        while let Some(next) = rows.next_if(|next| sql.len() + next.len() < bytes_max) {
            sql.push(',');
            sql.push_str(next);
        }
        sql.push_str(behind);
        statements.push(sql);
    }
}

/// Encoded keys that are there, with their versions.
type Present = HashMap<Vec<u8>, Option<String>>;

/// Keys that the table holds, with their versions; they are locked.
async fn present(
    connection: &mut MySqlConnection,
    layout: &Layout,
    rows: &[Row],
) -> Result<Result<Present, Fault>, sqlx::Error> {
    let names: Vec<&str> = layout.key_columns.columns.iter().map(|column| column.name.as_str()).collect();
    let (width, names) = (names.len(), crate::quote::names("p.", names));
    let version = layout.version.as_ref().map(|version| format!(", p.{version}")).unwrap_or_default();
    let places: Vec<usize> = (0..width).collect();
    let mut present = HashMap::with_capacity(rows.len());
    for chunk in rows.chunks(KEYS_MAX) {
        let condition = match layout.key_columns.among(chunk.iter().map(|row| &row.key)) {
            Ok(condition) => condition,
            Err(fault) => return Ok(Err(fault)),
        };
        let sql = format!("SELECT {names}{version} FROM {} AS p WHERE {condition} FOR UPDATE", layout.table);
        let mut found = connection.fetch(sqlx::raw_sql(AssertSqlSafe(sql)));
        while let Some(row) = found.try_next().await? {
            let mut key = Vec::new();
            if let Err(fault) = layout.keys.put_key(&row, &places, &mut key) {
                return Ok(Err(fault));
            }
            let held = if layout.version.is_some() { bytes(&row, width)? } else { None };
            present.insert(key, held.map(|held| String::from_utf8_lossy(held).into_owned()));
        }
    }
    Ok(Ok(present))
}

fn rolled_back(what: &str, error: sqlx::Error) -> Written {
    let (number, answered) = (number(&error).unwrap_or_default(), is_answer(&error));
    let fault = fault(what, error);
    match number {
        _ if !answered => Written::Refused(fault),
        // No such table, column, database, index; another number of columns.
        1049 | 1054 | 1136 | 1146 | 1176 | 1412 => Written::Changed(Fault { kind: FaultKind::Unavailable, ..fault }),
        _ if matches!(fault.kind, FaultKind::Permanent | FaultKind::Deferred) => Written::Data(fault),
        _ => Written::Refused(fault),
    }
}
