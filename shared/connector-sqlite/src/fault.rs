//! The one place where an error of SQLite gets its kind (L9).

use std::path::Path;

use fides_core::{Fault, FaultKind};

/// Turns an error that was met while `doing` something with the file into a fault.
///
/// Faults of the file (locked, full, damaged, not there) are never Permanent: they must pause the work, not bury
/// records. Faults of a record (constraints, types, sizes) are the only ones that are.
pub(crate) fn of(path: &Path, doing: &str, error: sqlx::Error) -> Fault {
    let (kind, advice) = judge(&error);
    let mut fault = Fault::new(kind, format!("{}: {doing}", path.display()));
    fault.advice = advice.map(str::to_owned);
    fault.because(error)
}

fn judge(error: &sqlx::Error) -> (FaultKind, Option<&'static str>) {
    use FaultKind::{Permanent, Transient, Unavailable};
    match error {
        sqlx::Error::Database(error) => match error.code().and_then(|code| code.parse().ok()) {
            Some(code) => judge_code(code, error.message()),
            None => (Permanent, None),
        },
        sqlx::Error::PoolTimedOut => (Transient, Some("all connections are in use: raise `connections`")),
        sqlx::Error::Io(_) | sqlx::Error::PoolClosed => (Unavailable, None),
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Encode(_) => (Permanent, None),
        _ => (Transient, None),
    }
}

/// Result codes: <https://www.sqlite.org/rescode.html>; the low byte is the primary code.
fn judge_code(code: i32, message: &str) -> (FaultKind, Option<&'static str>) {
    use FaultKind::{Deferred, Permanent, Transient, Unavailable};
    match (code & 0xff, code) {
        (5 | 6, _) => (Transient, Some("another process holds the file's lock: let it finish, or end it")),
        (8, _) => (Unavailable, Some("the file or its folder cannot be written: check owner, permissions and mount")),
        (10, _) => (Unavailable, Some("the disk or file system failed: check its log")),
        (13, _) => (Unavailable, Some("the disk is full: make room; nothing was lost")),
        (14, _) => (
            Unavailable,
            Some(
                "the file cannot be opened: check that it exists and that its folder can be written (a file in WAL \
                 mode needs `-wal` and `-shm` beside it)",
            ),
        ),
        (11 | 26, _) => {
            (Unavailable, Some("the file is damaged or is no SQLite database: restore it or correct the path"))
        }
        (7 | 12 | 15 | 22, _) => (Unavailable, None),
        (23, _) => (Unavailable, Some("the database refuses this access")),
        (4 | 9 | 17, _) => (Transient, None),
        (_, 787 | 1555 | 2067 | 2579) => (Deferred, None),
        (1, _) if message.starts_with("no such") || message.contains("has no column") => {
            (Unavailable, Some("the schema changed while Fides ran: run `fides check --connect`"))
        }
        _ => (Permanent, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_faults_of_a_record_are_permanent_or_deferred() {
        let kind = |code| judge_code(code, "").0;
        for code in [5, 261, 517, 6, 9] {
            assert_eq!(kind(code), FaultKind::Transient, "{code}");
        }
        for code in [8, 10, 778, 11, 13, 14, 26] {
            assert_eq!(kind(code), FaultKind::Unavailable, "{code}");
        }
        for code in [787, 1555, 2067] {
            assert_eq!(kind(code), FaultKind::Deferred, "{code}");
        }
        for code in [1299, 275, 3091, 18, 20] {
            assert_eq!(kind(code), FaultKind::Permanent, "{code}");
        }
    }
}
