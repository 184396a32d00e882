//! What the log names, read from the tables, in a state that has seen the changes.

use std::sync::Arc;
use std::time::Duration;

use fides_core::{Fault, Key, Page, PageBuilder, Selection, Version};
use sqlx::MySqlConnection;

use super::tables::Tables;
use crate::beginning::{Beginning, VISIBLE_MS_MAX, invisible};
use crate::catalog;
use crate::connect::{Session, Sessions};
use crate::fault::fault;
use crate::place;
use crate::query::run;
use crate::reading::Reading;

/// The longest pause between two looks.
const PAUSE_MS_MAX: u64 = 100;
/// Records that are fetched for one page, at first and at most.
const FETCHES: usize = 256;
const FETCHES_MAX: usize = 2_048;
/// Bytes of rows that a page should have.
const PAGE_BYTES: usize = 4 << 20;

/// Reads records on a connection of its own.
pub(super) struct Fetcher {
    pub(super) sessions: Arc<Sessions>,
    pub(super) reading: Reading,
    beginning: Beginning,
    /// How many records make a page.
    pub(super) fetches_max: usize,
}

impl Fetcher {
    pub(super) fn new(sessions: Arc<Sessions>, reading: Reading) -> Self {
        Self { sessions, reading, beginning: Beginning::default(), fetches_max: FETCHES }
    }

    /// A session that sees the transaction at `position` and all before it, and the exact place of what it sees. In the log a
    /// transaction comes before it is visible: by little, or by long where a replica is waited for. It ends with the page: the
    /// table's definition is locked as long, and a page may wait for its readers.
    pub(super) async fn state(&self, position: u64) -> Result<(Session, u64), Fault> {
        let waiting = async {
            let mut pause_ms = 1;
            loop {
                let mut session = self.sessions.take(|| ()).await?;
                let connection = session.connection();
                let taken = place::take(connection).await?;
                if let Some(place) = taken.place.filter(|&place| place > position) {
                    if self.beginning.is_exact(connection, &taken).await? {
                        return Ok((session, place));
                    }
                    run(connection, "ROLLBACK").await.map_err(|error| fault("ending a snapshot", error))?;
                    self.beginning.wait(connection).await?;
                }
                session.roll_back().await;
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                pause_ms = (pause_ms * 2).min(PAUSE_MS_MAX);
            }
        };
        let waited = tokio::time::timeout(Duration::from_millis(VISIBLE_MS_MAX), waiting).await;
        waited
            .unwrap_or_else(|_| Err(invisible("a transaction that is in the log")))
            .map_err(|fault| fault.at(format_args!("table {}", self.reading.cells.place)))
    }

    /// The records under `keys` that there are; `keys` ascend.
    pub(super) async fn fetch(&mut self, state: &mut Session, keys: &[&Key]) -> Result<Page, Fault> {
        let mut page = PageBuilder::new(self.reading.selection.seed);
        self.reading.fetch(state.connection(), keys, &mut page).await?;
        // Rows as large as these, so many at a time.
        if !page.is_empty() {
            let bytes = (page.row_bytes() / page.len()).max(1);
            self.fetches_max = (PAGE_BYTES / bytes).clamp(1, FETCHES_MAX.min(self.fetches_max * 2));
        }
        Ok(page.finish(Version::default(), self.reading.cells.clone(), false))
    }

    /// Looks the tables up again, which were defined anew; `None` while one of them is not there.
    pub(super) async fn reopen(&mut self) -> Result<Option<Tables>, Fault> {
        let mut session = self.sessions.take(|| ()).await?;
        let connection = session.connection();
        if !are_there(connection, &self.reading.selection).await? {
            session.give_back();
            return Ok(None);
        }
        let reading = Reading::open(connection, &self.reading.selection).await?;
        let tables = Tables::open(connection, &reading).await?;
        self.reading = reading;
        session.give_back();
        Ok(Some(tables))
    }
}

async fn are_there(connection: &mut MySqlConnection, selection: &Selection) -> Result<bool, Fault> {
    let mut includes: Vec<_> = selection.includes.iter().collect();
    let mut namespaces = vec![&selection.namespace];
    while let Some(include) = includes.pop() {
        namespaces.push(&include.namespace);
        includes.extend(&include.includes);
    }
    for namespace in namespaces {
        if catalog::relation(connection, namespace).await?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}
