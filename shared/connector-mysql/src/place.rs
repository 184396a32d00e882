//! A place in the binary log as one number: the number of its file, and the offset in it.
//!
//! MariaDB tells the exact place of a snapshot: `START TRANSACTION WITH CONSISTENT SNAPSHOT` holds commits back while it
//! takes the snapshot of InnoDB and the log's position together, and `SHOW STATUS` then gives that position. MySQL has
//! nothing of the kind. Where a file begins the place is not exact: see `beginning`.

use fides_core::Fault;
use sqlx::MySqlConnection;

use crate::fault::fault;
use crate::query::texts;

/// The end of a transaction is at a greater place than every snapshot that does not see it, and not at a greater one than
/// any that does. Offsets are 32 bits wide in every event.
pub(crate) fn place(file: &str, offset: &str) -> Option<u64> {
    Some(position(number(file)?, offset.parse().ok()?))
}

/// The number of a file of the log: 7 of `binlog.000007`.
pub(crate) fn number(file: &str) -> Option<u32> {
    file.rsplit_once('.')?.1.parse().ok()
}

/// Of the number of a file, and the offset in it.
pub(crate) fn position(file: u32, offset: u32) -> u64 {
    u64::from(file) << 32 | u64::from(offset)
}

/// Where the open snapshot of this session is in the log; `None` where the server does not tell.
pub(crate) async fn of_snapshot(connection: &mut MySqlConnection) -> Result<Option<u64>, Fault> {
    Ok(told(connection).await?.and_then(|(file, offset)| place(&file, &offset)))
}

/// The name of the file that the open snapshot's place is in.
pub(crate) async fn file_of_snapshot(connection: &mut MySqlConnection) -> Result<Option<String>, Fault> {
    Ok(told(connection).await?.map(|(file, _)| file))
}

/// The file and the offset in it.
async fn told(connection: &mut MySqlConnection) -> Result<Option<(String, String)>, Fault> {
    let rows = texts(connection, "SHOW STATUS LIKE 'binlog_snapshot_%'")
        .await
        .map_err(|error| fault("asking for the place of a snapshot in the log", error))?;
    let value = |name: &str| {
        let row = rows.iter().find(|row| row[0].as_deref().is_some_and(|found| found.eq_ignore_ascii_case(name)))?;
        row.get(1)?.clone()
    };
    Ok(value("binlog_snapshot_file").zip(value("binlog_snapshot_position")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_keep_the_order_of_the_log() {
        let at = |file: &str, offset: &str| place(file, offset).unwrap();
        assert!(at("binlog.000001", "4294967295") < at("binlog.000002", "4"));
        assert!(at("binlog.999999", "4") < at("binlog.1000000", "4"));
        assert!(at("a.b.000007", "10") < at("a.b.000007", "11"));
        assert_eq!(place("binlog", "4"), None);
        assert_eq!(place("", "0"), None);
    }
}
