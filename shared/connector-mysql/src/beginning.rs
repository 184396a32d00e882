//! The beginning of a file of the log, where a snapshot's place does not say all that the snapshot sees.
//!
//! The server names the new file once the last transactions of the file before it are written, and that is before they are
//! visible: by the moment in which it syncs the new file, and where a replica is waited for by as long as none answers. From
//! the first transaction of the new file that is visible on, places are exact again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fides_core::Fault;
use sqlx::MySqlConnection;
use tokio::time::Instant;

use crate::fault::fault;
use crate::place;
use crate::query::{run, texts};
use crate::quote;
use crate::readers::BEGIN;

/// How long a transaction that is in the log may stay invisible.
pub(crate) const VISIBLE_MS_MAX: u64 = 20_000;
/// A server that waits for no replica makes what is in the files before visible long before so much time.
const SETTLED_MS: u64 = 1_000;
/// The pause between two looks.
const PAUSE_MS: u64 = 50;
/// Before the first transaction of a file come its description, the transactions of the files before it, and a checkpoint.
const EVENTS_BEFORE_MAX: usize = 16;

/// The place of the latest beginning at which everything before was visible; 0 for none.
#[derive(Debug, Default)]
pub(crate) struct Beginning(Mutex<u64>);

impl Beginning {
    /// Whether the open snapshot of this session, at `place`, has certainly seen all that is in the log before.
    pub(crate) async fn is_exact(&self, connection: &mut MySqlConnection, place: u64) -> Result<bool, Fault> {
        if place == *self.settled() {
            return Ok(true);
        }
        let Some(file) = place::file_of_snapshot(connection).await? else { return Ok(false) };
        let sql = format!("SHOW BINLOG EVENTS IN {} LIMIT {EVENTS_BEFORE_MAX}", quote::text(&file));
        let events =
            texts(connection, &sql).await.map_err(|error| fault("reading where the log's file begins", error))?;
        Ok(is_behind_a_transaction(&events, place & 0xffff_ffff))
    }

    /// Waits until a snapshot that is taken then is exact: something was committed, or the server had the time to make visible
    /// what it has written. The session has no transaction open.
    pub(crate) async fn wait(&self, connection: &mut MySqlConnection) -> Result<(), Fault> {
        let begun = Instant::now();
        let mut since = (0, begun);
        while begun.elapsed() < Duration::from_millis(VISIBLE_MS_MAX) {
            run(connection, BEGIN).await.map_err(|error| fault("taking a snapshot", error))?;
            let place = place::of_snapshot(connection).await?.unwrap_or_default();
            let is_exact = self.is_exact(connection, place).await?;
            run(connection, "ROLLBACK").await.map_err(|error| fault("ending a snapshot", error))?;
            if is_exact {
                return Ok(());
            }
            if since.0 != place || waits_for_a_replica(connection).await? {
                since = (place, Instant::now());
            } else if since.1.elapsed() >= Duration::from_millis(SETTLED_MS) {
                *self.settled() = place;
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
        }
        Err(invisible("the last transaction of a file of the log"))
    }

    fn settled(&self) -> std::sync::MutexGuard<'_, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something is in the log, and nobody sees it.
pub(crate) fn invisible(what: &str) -> Fault {
    Fault::transient(format!("{what} was not visible within {VISIBLE_MS_MAX} ms"))
        .advise("does the server wait for a replica? SHOW STATUS LIKE 'Rpl_semi_sync%'")
}

/// Of the first events of a file: name, offset, kind, and more.
fn is_behind_a_transaction(events: &[Vec<Option<String>>], offset: u64) -> bool {
    let first = events.iter().find(|event| event.get(2).is_some_and(|kind| kind.as_deref() == Some("Gtid")));
    let begins = first.and_then(|event| event[1].as_deref()?.parse().ok());
    begins.is_some_and(|begins: u64| begins < offset)
}

async fn waits_for_a_replica(connection: &mut MySqlConnection) -> Result<bool, Fault> {
    let rows = texts(connection, "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_%_wait_sessions'")
        .await
        .map_err(|error| fault("asking whether a replica is waited for", error))?;
    Ok(rows.iter().any(|row| row.get(1).is_some_and(|count| count.as_deref() != Some("0"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_exact_behind_the_first_transaction_of_its_file() {
        let event = |at: &str, kind: &str| ["f", at, kind, "1", "", ""].map(|text| Some(text.to_owned())).to_vec();
        let mut events = vec![event("4", "Format_desc"), event("256", "Gtid_list"), event("299", "Binlog_checkpoint")];
        assert!(!is_behind_a_transaction(&events, 342));
        events.push(event("342", "Gtid"));
        events.push(event("384", "Query"));
        assert!(!is_behind_a_transaction(&events, 342));
        assert!(is_behind_a_transaction(&events, 500));
        assert!(!is_behind_a_transaction(&[], 500));
    }
}
