//! One transaction of a write: fence, rows, delete, upsert, commit. Many rows come by COPY into a temporary table, a few as a
//! parameter: that saves two questions, and the kernel's wait between the data of a COPY and its end.

use fides_core::port::Write;
use fides_core::{Fault, FaultKind};
use fides_sql::Written;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::connect::{is_answer, run};
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
pub(crate) async fn merge(
    connection: &mut PgConnection,
    layout: &Layout,
    write: &Write<'_>,
    staged: &Staged<'_>,
) -> Written {
    let what = || format!("writing table {}", layout.place);
    let stale = match before_commit(connection, layout, write, staged).await {
        Ok(Ok(stale)) => stale,
        Ok(Err(lost)) => return Written::Refused(lost),
        // Without a COMMIT on its way the server rolls back, whatever became of the connection.
        Err(error) => return rolled_back(&what(), error),
    };
    match run(connection, "COMMIT".to_owned()).await {
        Ok(()) => Written::Done(stale),
        // Deferred constraints and serialization are judged at the end.
        Err(error) if is_answer(&error) => rolled_back(&what(), error),
        // L5: it may have been carried out.
        Err(error) => Written::Unknown(fault(&format!("{}: the outcome of the commit is unknown", what()), error)),
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
    if staged.count <= layout.inline_rows_max && staged.lines.len() <= INLINE_BYTES_MAX {
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

fn rolled_back(what: &str, error: sqlx::Error) -> Written {
    let code = state(&error).unwrap_or_default();
    let answered = is_answer(&error);
    let fault = fault(what, error);
    match code.get(..2).unwrap_or_default() {
        _ if !answered => Written::Refused(fault),
        "42" | "3F" if code != "42501" => Written::Changed(Fault { kind: FaultKind::Unavailable, ..fault }),
        _ if matches!(fault.kind, FaultKind::Permanent | FaultKind::Deferred) => Written::Data(fault),
        _ => Written::Refused(fault),
    }
}
