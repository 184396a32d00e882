//! Where the place of a snapshot does not say all that the snapshot sees, although the server tells it.
//!
//! A file of the log begins, by its name, once the last transactions of the file before it are written, and that is before they
//! are visible: by the moment in which the server syncs. Places are exact again behind the first transaction of the new file
//! that is visible.
//!
//! And while the server waits for a replica before it makes a transaction visible (semi-synchronous replication, `AFTER_SYNC`),
//! its place may be behind what is waited for, and go back afterwards.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fides_core::Fault;
use sqlx::MySqlConnection;
use tokio::time::Instant;

use crate::fault::fault;
use crate::place::{self, Taken};
use crate::query::{run, texts};
use crate::quote;

/// How long a transaction that is in the log may stay invisible.
pub(crate) const VISIBLE_MS_MAX: u64 = 20_000;
/// A server that waits for no replica makes what is in the files before visible long before so much time.
const SETTLED_MS: u64 = 1_000;
/// The pause between two looks.
const PAUSE_MS: u64 = 50;
/// Before the first transaction of a file come its description, the transactions of the files before it, and a checkpoint.
const EVENTS_BEFORE_MAX: usize = 16;

/// Of a place: the offset in its file.
const OFFSET: u64 = 0xffff_ffff;

/// What is known of files of the log.
#[derive(Debug, Default)]
pub(crate) struct Beginning(Mutex<Known>);

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The beginning of a file, at which everything before was visible.
    settled: u64,
    /// Where the first transaction of a file begins.
    first: u64,
}

impl Beginning {
    /// Whether the open snapshot of this session has certainly seen all that is in the log before its place, and nothing else.
    pub(crate) async fn is_exact(&self, connection: &mut MySqlConnection, taken: &Taken) -> Result<bool, Fault> {
        let Some(place) = taken.place.filter(|_| taken.is_quiet) else { return Ok(false) };
        let known = self.known();
        if place == known.settled || (place & !OFFSET == known.first & !OFFSET && place > known.first) {
            return Ok(true);
        }
        let asking = async {
            let sql = format!("SHOW BINLOG EVENTS IN {} LIMIT {EVENTS_BEFORE_MAX}", quote::text(&taken.file));
            let events = texts(connection, &sql).await?;
            let written = texts(connection, "SHOW MASTER STATUS").await?;
            Ok((events, written))
        };
        let (events, written) = in_time("where a file of the log begins", asking).await?;
        let Some(first) = first_transaction(&events) else { return Ok(false) };
        let is_exact = is_within(place & OFFSET, first, end_of(&taken.file, &written));
        if is_exact {
            self.set(Known { first: (place & !OFFSET) | first, ..known });
        }
        Ok(is_exact)
    }

    /// Waits until a snapshot that is taken then may be exact: something was committed, or the server had the time to make
    /// visible what it has written. The session has no transaction open.
    pub(crate) async fn wait(&self, connection: &mut MySqlConnection) -> Result<(), Fault> {
        let begun = Instant::now();
        let mut since = (None, begun);
        while begun.elapsed() < Duration::from_millis(VISIBLE_MS_MAX) {
            let taken = place::take(connection).await?;
            let is_exact = self.is_exact(connection, &taken).await?;
            run(connection, "ROLLBACK").await.map_err(|error| fault("ending a snapshot", error))?;
            if is_exact {
                return Ok(());
            }
            if since.0 != taken.place || !taken.is_quiet {
                since = (taken.place, Instant::now());
            } else if let Some(place) = taken.place
                && since.1.elapsed() >= Duration::from_millis(SETTLED_MS)
            {
                // An offset of the file before goes with the name of this one for as long as nothing is committed.
                let asking = texts(connection, "SHOW MASTER STATUS");
                let written = in_time("where the log ends", asking).await?;
                if end_of(&taken.file, &written).is_some_and(|end| place & OFFSET <= end) {
                    self.set(Known { settled: place, ..self.known() });
                    return Ok(());
                }
            }
            tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
        }
        let is_still = since.0.is_some() && since.1.elapsed() >= Duration::from_millis(SETTLED_MS);
        Err(if is_still { stale() } else { invisible("a transaction that is in the log") })
    }

    fn known(&self) -> Known {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, known: Known) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

/// What the server answers under a lock that it may have given to somebody who waits for a replica.
async fn in_time<T>(what: &str, asking: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Fault> {
    let asked = tokio::time::timeout(Duration::from_millis(VISIBLE_MS_MAX), asking).await;
    asked.map_err(|_| invisible(what))?.map_err(|error| fault(&format!("reading {what}"), error))
}

/// Something is in the log, and nobody sees it.
pub(crate) fn invisible(what: &str) -> Fault {
    Fault::transient(format!("{what} was not visible within {VISIBLE_MS_MAX} ms")).advise(
        "does the server wait for replicas? SHOW STATUS LIKE 'Rpl_semi_sync%'; where it always does, follow a replica, or \
         SET GLOBAL rpl_semi_sync_master_wait_point = 'AFTER_COMMIT'",
    )
}

/// The name of the file that is written comes with an offset of the file before it, and nothing waits.
fn stale() -> Fault {
    Fault::transient(format!("for {VISIBLE_MS_MAX} ms the server told a place of its log that is behind the log's end"))
        .advise("with its next commit the server tells a place of the present file; import again after it")
}

/// Whether an offset is behind the first transaction of its file and before its end. While files change, the name of the new
/// one may come with an offset of the old one. A file without an end is not written any more: what it was, nobody tells.
fn is_within(offset: u64, first: u64, end: Option<u64>) -> bool {
    offset > first && end.is_some_and(|end| offset <= end)
}

/// Where a file ends, if it is the one that is written: its name, its length, and more.
fn end_of(file: &str, written: &[Vec<Option<String>>]) -> Option<u64> {
    let [name, end, ..] = written.first()?.as_slice() else { return None };
    if name.as_deref() == Some(file) { end.as_deref()?.parse().ok() } else { None }
}

/// Where the first transaction begins, of the first events of a file: name, offset, kind, and more.
fn first_transaction(events: &[Vec<Option<String>>]) -> Option<u64> {
    let kind = |event: &Vec<Option<String>>| event.get(2).cloned().flatten();
    let mut kinds = events.iter().map(|event| (event, kind(event)));
    let (first, _) = kinds.find(|(_, kind)| matches!(kind.as_deref(), Some("Gtid" | "Anonymous_Gtid")))?;
    first.get(1)?.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_more_before_its_first_transaction() {
        let event = |at: &str, kind: &str| ["f", at, kind, "1", "", ""].map(|text| Some(text.to_owned())).to_vec();
        let mut events = vec![event("4", "Format_desc"), event("256", "Gtid_list"), event("299", "Binlog_checkpoint")];
        assert_eq!(first_transaction(&events), None);
        events.push(event("342", "Gtid"));
        events.push(event("384", "Query"));
        events.push(event("500", "Gtid"));
        assert_eq!(first_transaction(&events), Some(342));
        assert_eq!(first_transaction(&[]), None);
    }

    #[test]
    fn an_offset_of_another_file_is_not_within() {
        let written = |name: &str, end: &str| vec![vec![Some(name.to_owned()), Some(end.to_owned()), None]];
        let end = |file: &str| end_of(file, &written("b.000008", "900"));
        assert_eq!((end("b.000008"), end("b.000007"), end_of("b.000008", &[])), (Some(900), None, None));
        assert!(is_within(343, 342, Some(900)) && is_within(900, 342, Some(900)));
        assert!(!is_within(342, 342, Some(900)), "what the file before ends with may not be visible");
        assert!(!is_within(5_000, 342, Some(900)), "the new name, and where the old file ended");
        assert!(!is_within(343, 342, None));
    }
}
