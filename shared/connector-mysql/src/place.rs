//! A place in the binary log as one number: the number of its file, and the offset in it.
//!
//! MariaDB tells the place of a snapshot: `START TRANSACTION WITH CONSISTENT SNAPSHOT` holds commits back while it takes the
//! snapshot of InnoDB and the log's position together, and `SHOW STATUS` then gives that position. MySQL has nothing of the
//! kind. Where a file begins, and where a replica is waited for, the place is not exact: see `beginning`.

use fides_core::Fault;
use sqlx::MySqlConnection;

use crate::fault::fault;
use crate::query::texts;
use crate::readers::BEGIN;

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

/// A snapshot that was taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Where it is in the log; `None` where the server does not tell.
    pub(crate) place: Option<u64>,
    /// The name of the place's file.
    pub(crate) file: String,
    /// Whether no transaction was waiting for a replica while it was taken, which would be in the log and not visible.
    pub(crate) is_quiet: bool,
}

/// Opens a snapshot, in one round trip.
pub(crate) async fn take(connection: &mut MySqlConnection) -> Result<Taken, Fault> {
    let sql = format!(
        "SHOW GLOBAL VARIABLES LIKE 'rpl_semi_sync_%_wait_point'; SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_%'; {BEGIN}; \
         SHOW STATUS WHERE Variable_name LIKE 'binlog_snapshot_%' OR Variable_name LIKE 'Rpl_semi_sync_%'"
    );
    let rows = texts(connection, &sql).await.map_err(|error| fault("taking a snapshot", error))?;
    Ok(Taken::of(&rows))
}

impl Taken {
    /// Of names and values: from before it was taken, and from after.
    fn of(rows: &[Vec<Option<String>>]) -> Self {
        let values = |name: &'static str| {
            let named = rows
                .iter()
                .filter(move |row| row[0].as_deref().is_some_and(|found| found.to_ascii_lowercase().ends_with(name)));
            named.filter_map(|row| row.get(1)?.as_deref())
        };
        let file = values("binlog_snapshot_file").next_back().unwrap_or_default().to_owned();
        let place = values("binlog_snapshot_position").next_back().and_then(|offset| place(&file, offset));
        let waits: Vec<&str> = values("_tx_waits").collect();
        // Behind the commit what waits is visible.
        let is_visible = values("_wait_point").next().is_some_and(|point| point.eq_ignore_ascii_case("AFTER_COMMIT"));
        let is_quiet = is_visible
            || values("_wait_sessions").all(|waiting| waiting == "0") && waits.iter().all(|&it| it == waits[0]);
        Self { place, file, is_quiet }
    }
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

    #[test]
    fn a_snapshot_is_quiet_where_nobody_waited_for_a_replica() {
        let taken = |before: [&str; 2], after: [&str; 2]| {
            let row = |name: &str, value: &str| vec![Some(name.to_owned()), Some(value.to_owned())];
            let semi = |[waiting, waits]: [&str; 2]| {
                [row("Rpl_semi_sync_master_wait_sessions", waiting), row("Rpl_semi_sync_master_tx_waits", waits)]
            };
            let place = [row("Binlog_snapshot_file", "b.000007"), row("Binlog_snapshot_position", "10")];
            Taken::of(&[semi(before), place, semi(after)].concat())
        };
        let quiet = taken(["0", "5"], ["0", "5"]);
        assert_eq!(quiet, Taken { place: place("b.7", "10"), file: "b.000007".to_owned(), is_quiet: true });
        for (before, after) in [(["1", "5"], ["0", "5"]), (["0", "5"], ["1", "5"]), (["0", "5"], ["0", "6"])] {
            assert!(!taken(before, after).is_quiet, "{before:?} {after:?}");
        }
        let row = |name: &str, value: &str| vec![Some(name.to_owned()), Some(value.to_owned())];
        for (point, is_quiet) in [("AFTER_COMMIT", true), ("AFTER_SYNC", false)] {
            let rows = [row("rpl_semi_sync_master_wait_point", point), row("Rpl_semi_sync_master_wait_sessions", "1")];
            assert_eq!(Taken::of(&rows).is_quiet, is_quiet, "{point}");
        }
        assert_eq!(Taken::of(&[]), Taken { place: None, file: String::new(), is_quiet: true });
    }
}
