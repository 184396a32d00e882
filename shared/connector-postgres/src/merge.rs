//! One transaction of a write: fence, rows, delete, upsert, commit. Many rows come by COPY into a temporary table, a few as a
//! parameter: that saves two questions, and the kernel's wait between the data of a COPY and its end. Where one statement
//! does, it is the transaction, and the only question.

use fides_core::port::Write;
use fides_core::{Fault, FaultKind};
pub(crate) use fides_sql::Written as Merged;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::connect::{Session, is_answer, run};
use crate::fault::{fault, state};
use crate::fence::{self, Held};
use crate::layout::{Layout, Statements};
use crate::row_text;

/// More bytes come by COPY, as do more rows than the layout says.
const INLINE_BYTES_MAX: usize = 256 << 10;

/// What a transaction writes.
pub(crate) struct Staged<'a> {
    /// Lines of COPY.
    pub(crate) lines: &'a [u8],
    /// How many.
    pub(crate) count: usize,
    pub(crate) deletes: bool,
    pub(crate) upserts: bool,
}

/// Writes one batch. Unless the answer is `Done`, the connection is not fit for further use.
pub(crate) async fn merge(session: &mut Session, layout: &Layout, write: &Write<'_>, staged: &Staged<'_>) -> Merged {
    if session.has(&layout.stage)
        && let Some(sql) = staged.at_once(layout)
        && let Some(merged) = at_once(session.connection(), sql, layout, write, staged).await
    {
        return merged;
    }
    let merged = transaction(session.connection(), layout, write, staged).await;
    if matches!(merged, Merged::Done(_)) {
        session.made(&layout.stage);
    }
    merged
}

impl Staged<'_> {
    fn is_inline(&self, layout: &Layout) -> bool {
        self.count <= layout.inline_rows_max && self.lines.len() <= INLINE_BYTES_MAX
    }

    /// The one statement that writes these rows, where one does. Deletions come before what takes their unique values, and
    /// what was older is asked for: those want a transaction.
    fn at_once<'l>(&self, layout: &'l Layout) -> Option<&'l str> {
        let at_once = layout.at_once.as_ref().filter(|_| !layout.is_versioned && self.is_inline(layout))?;
        match (self.deletes, self.upserts) {
            (false, true) => Some(&at_once.upsert),
            (true, false) => Some(&at_once.delete),
            _ => None,
        }
    }
}

/// Writes rows by one statement, which is a transaction of its own. `None`: nothing is written, because the lane is not the
/// write's, or no single statement can.
async fn at_once(
    connection: &mut PgConnection,
    sql: &str,
    layout: &Layout,
    write: &Write<'_>,
    staged: &Staged<'_>,
) -> Option<Merged> {
    let rows = match row_text::rows(staged.lines) {
        Ok(rows) => rows,
        Err(damaged) => return Some(Merged::Refused(damaged)),
    };
    let query = sqlx::query(AssertSqlSafe(sql.to_owned())).bind(rows);
    // All of the answer is read: the commit comes behind the row, and so does what speaks against it.
    match fence::bind(query, &layout.table, write).fetch_all(connection).await {
        Ok(held) => match held.first().map(|row| row.try_get::<i64, _>(0)) {
            Some(Ok(1)) => Some(Merged::Done(Vec::new())),
            Some(Ok(_)) => None,
            // L5: it was carried out, and what it answered is not understood.
            Some(Err(error)) => Some(unknown(layout, error)),
            None => Some(unknown(layout, sqlx::Error::RowNotFound)),
        },
        // A rule that the table did not have when it was described.
        Err(error) if state(&error).as_deref() == Some("0A000") => None,
        Err(error) if is_answer(&error) => Some(rolled_back(&format!("writing table {}", layout.place), error)),
        Err(error) => Some(unknown(layout, error)),
    }
}

/// L5: it may have been carried out.
fn unknown(layout: &Layout, error: sqlx::Error) -> Merged {
    Merged::Unknown(fault(&format!("writing table {}: the outcome of the commit is unknown", layout.place), error))
}

async fn transaction(connection: &mut PgConnection, layout: &Layout, write: &Write<'_>, staged: &Staged<'_>) -> Merged {
    let what = || format!("writing table {}", layout.place);
    let stale = match before_commit(connection, layout, write, staged).await {
        Ok(Ok(stale)) => stale,
        Ok(Err(lost)) => return Merged::Refused(lost),
        // Without a COMMIT on its way the server rolls back, whatever became of the connection.
        Err(error) => return rolled_back(&what(), error),
    };
    match run(connection, "COMMIT".to_owned()).await {
        Ok(()) => Merged::Done(stale),
        // Deferred constraints and serialization are judged at the end.
        Err(error) if is_answer(&error) => rolled_back(&what(), error),
        Err(error) => unknown(layout, error),
    }
}

async fn before_commit(
    connection: &mut PgConnection,
    layout: &Layout,
    write: &Write<'_>,
    staged: &Staged<'_>,
) -> Result<Result<Vec<usize>, Fault>, sqlx::Error> {
    run(connection, layout.begin.clone()).await?;
    // L6: held until the commit, so that a claim waits for it.
    if let Held::Lost(found) = fence::hold(connection, &layout.lanes, &layout.table, write).await? {
        let owner = found.map_or("nobody".to_owned(), |token| format!("token {token}"));
        return Ok(Err(Fault::unavailable(format!("{} belongs to {owner}, not to token {}", write.lane, write.token))
            .advise("another process has taken it over; this one stops writing it")));
    }
    if staged.is_inline(layout) {
        let rows = match row_text::rows(staged.lines) {
            Ok(rows) => rows,
            Err(damaged) => return Ok(Err(damaged)),
        };
        return write_rows(connection, layout, &layout.inline, staged, Some(&rows)).await.map(Ok);
    }
    let mut copy = connection.copy_in_raw(&layout.copy).await?;
    copy.send(staged.lines).await?;
    copy.finish().await?;
    write_rows(connection, layout, &layout.staged, staged, None).await.map(Ok)
}

/// Writes the rows of the temporary table, or those given; the positions of those that were older than what the target holds.
async fn write_rows(
    connection: &mut PgConnection,
    layout: &Layout,
    statements: &Statements,
    staged: &Staged<'_>,
    rows: Option<&[String]>,
) -> Result<Vec<usize>, sqlx::Error> {
    let with_rows = |sql: &str| {
        let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
        match rows {
            Some(rows) => query.bind(rows.to_vec()),
            // Planned each time: how much a COPY has brought is different each time.
            None => query.persistent(false),
        }
    };
    if staged.deletes {
        with_rows(&statements.delete).execute(&mut *connection).await?;
    }
    if staged.upserts {
        with_rows(&statements.insert).execute(&mut *connection).await?;
    }
    if !layout.is_versioned {
        return Ok(Vec::new());
    }
    let stale = with_rows(&statements.stale).fetch_all(connection).await?;
    stale.iter().map(|row| row.try_get::<i32, _>(0).map(|at| at as usize)).collect()
}

fn rolled_back(what: &str, error: sqlx::Error) -> Merged {
    let code = state(&error).unwrap_or_default();
    let answered = is_answer(&error);
    let fault = fault(what, error);
    match code.get(..2).unwrap_or_default() {
        _ if !answered => Merged::Refused(fault),
        "42" | "3F" if code != "42501" => Merged::Changed(Fault { kind: FaultKind::Unavailable, ..fault }),
        _ if matches!(fault.kind, FaultKind::Permanent | FaultKind::Deferred) => Merged::Data(fault),
        _ => Merged::Refused(fault),
    }
}
