//! Where a log is read from: the files that the server has, and what is missing behind a place that was stored.

use fides_core::Fault;
use fides_core::port::Gap;
use sqlx::MySqlConnection;

use super::spot::{Spot, refuse_file};
use crate::authority::{LOGS, exact};
use crate::fault::{fault, number as fault_number};
use crate::place::number;
use crate::query::texts;
use crate::quote;

/// "Wrong offset or I/O error"
const NO_EVENT: u16 = 1220;

/// The files of the log.
#[derive(Debug)]
pub(super) struct Files {
    /// Number, name and size of each, in order.
    files: Vec<(u32, String, u64)>,
    /// The place of a snapshot that was taken before they were listed: whatever it does not see is behind it. The end
    /// of the log may be further on than what is visible. Its mark is not known.
    pub(super) end: Spot,
}

impl Files {
    pub(super) async fn look(connection: &mut MySqlConnection) -> Result<Self, Fault> {
        let end = crate::authority::version(0, exact(connection).await?)?.position;
        let rows = texts(connection, LOGS).await.map_err(|error| fault("asking for the files of the log", error))?;
        let file = |row: Vec<Option<String>>| {
            let mut row = row.into_iter().flatten();
            let (name, size) = (row.next()?, row.next()?);
            Some((number(&name)?, name, size.parse().ok()?))
        };
        let files = rows.into_iter().filter_map(file).collect();
        let end = Spot { file: (end >> 32) as u32, mark: 0, offset: end as u32 };
        refuse_file(end.file)?;
        Ok(Self { files, end })
    }

    /// The name of a file.
    pub(super) fn name(&self, number: u32) -> Option<&str> {
        self.files.iter().find(|(found, ..)| *found == number).map(|(_, name, _)| name.as_str())
    }

    /// Where the log is read from, and what that leaves out behind `after`.
    pub(super) fn resume(&self, after: Option<Spot>) -> (Spot, Option<Gap>) {
        let Some(after) = after else {
            return (self.end, Some(Gap::Missing("no place in the log was stored".to_owned())));
        };
        let first = self.files.first().map_or(self.end.file, |(number, ..)| *number);
        match self.files.iter().find(|(number, ..)| *number == after.file) {
            Some((_, _, size)) if u64::from(after.offset) <= *size => (after, None),
            // A place of another server, or of one that was restored or reset.
            Some(_) => (self.end, Some(Gap::Backward("the log ends before the place that was stored".to_owned()))),
            None if after.file < first => {
                let why = format!(
                    "the server has removed the file of its log with number {}; the first that it has is {first}; to let \
                     it keep more, raise expire_logs_days or binlog_expire_logs_seconds",
                    after.file
                );
                (self.end, Some(Gap::Missing(why)))
            }
            None => (self.end, Some(Gap::Backward(format!("the log has no file with number {} any more", after.file)))),
        }
    }
}

/// Whether an event begins at a place, or the log ends there: from within one the server sends what makes no sense.
pub(super) async fn is_between_events(
    connection: &mut MySqlConnection,
    file: &str,
    offset: u32,
) -> Result<bool, Fault> {
    let sql = format!("SHOW BINLOG EVENTS IN {} FROM {offset} LIMIT 1", quote::text(file));
    match texts(connection, &sql).await {
        Ok(_) => Ok(true),
        Err(error) if fault_number(&error) == Some(NO_EVENT) => Ok(false),
        Err(error) => Err(fault("looking for a place in the log", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_the_log_does_not_have_is_told_by_what_became_of_it() {
        let file = |number: u32, size| (number, format!("binlog.{number:06}"), size);
        let end = Spot { file: 9, mark: 0, offset: 500 };
        let files = Files { files: vec![file(7, 1_000), file(8, 2_000), file(9, 600)], end };
        let at = |file, offset| Spot { file, mark: 3, offset };
        for held in [at(7, 4), at(8, 2_000), at(9, 600)] {
            assert_eq!(files.resume(Some(held)), (held, None));
        }
        assert!(matches!(files.resume(None), (from, Some(Gap::Missing(_))) if from == end));
        assert!(matches!(files.resume(Some(at(6, 999))), (from, Some(Gap::Missing(_))) if from == end));
        for lost in [at(9, 601), at(10, 4), at(8, 2_001)] {
            assert!(matches!(files.resume(Some(lost)), (from, Some(Gap::Backward(_))) if from == end), "{lost:?}");
        }
        assert_eq!(files.name(8), Some("binlog.000008"));
    }
}
