//! What the log names, read from the tables, in a state that has seen the changes.

use std::sync::Arc;
use std::time::Duration;

use fides_core::{Fault, Key, Page, PageBuilder, Selection, Version};
use sqlx::MySqlConnection;
use tokio::time::Instant;

use super::tables::Tables;
use crate::beginning::{Beginning, VISIBLE_MS_MAX, invisible};
use crate::catalog;
use crate::connect::{Session, Sessions};
use crate::fault::fault;
use crate::place;
use crate::query::run;
use crate::readers::BEGIN;
use crate::reading::Reading;

/// The longest pause between two looks.
const PAUSE_MS_MAX: u64 = 100;
/// Records that are fetched for one page, at first and at most.
const FETCHES: usize = 256;
const FETCHES_MAX: usize = 2_048;
/// Bytes of rows that a page should have.
const PAGE_BYTES: usize = 4 << 20;

/// A state of the tables.
pub(super) struct State {
    pub(super) session: Session,
    /// Where it is in the log.
    pub(super) place: u64,
    /// Whether it has certainly seen all that is in the log before its place.
    pub(super) is_exact: bool,
}

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

    /// Until when what is in the log is waited for that is asked for now.
    pub(super) fn patience() -> Instant {
        Instant::now() + Duration::from_millis(VISIBLE_MS_MAX)
    }

    /// A session that sees the transaction at `position` and all before it, and the place of what it sees. In the log a
    /// transaction comes before it is visible: by little, or by long where a replica is waited for. It ends with the page: the
    /// table's definition is locked as long, and a page may wait for its readers.
    pub(super) async fn state(&self, position: u64, until: Instant) -> Result<State, Fault> {
        let mut pause = Pause::new(until);
        loop {
            let mut session = self.sessions.take(|| ()).await?;
            let connection = session.connection();
            run(connection, BEGIN).await.map_err(|error| fault("taking a snapshot", error))?;
            let place = place::of_snapshot(connection).await?;
            if let Some(place) = place.filter(|&place| place > position) {
                let is_exact = place >> 32 == position >> 32 || self.beginning.is_exact(connection, place).await?;
                return Ok(State { session, place, is_exact });
            }
            session.roll_back().await;
            if !pause.took().await {
                return Err(self.invisible());
            }
        }
    }

    /// A transaction of the table is not visible.
    pub(super) fn invisible(&self) -> Fault {
        invisible(&format!("table {}: a transaction that is in the log", self.reading.cells.place))
    }

    /// Waits until everything is visible that is in the log before a snapshot.
    pub(super) async fn wait(&self) -> Result<(), Fault> {
        self.sessions.with(async |session| self.beginning.wait(session).await).await
    }

    /// Whether the records under `keys` are `found` also by one who sees what is not committed. Then nothing is missing that
    /// the log has told of them, whatever is visible.
    pub(super) async fn is_all(&self, keys: &[&Key], found: &Page) -> Result<bool, Fault> {
        const BEGIN: &str = "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED; START TRANSACTION READ ONLY";
        let mut session = self.sessions.take(|| ()).await?;
        run(session.connection(), BEGIN).await.map_err(|error| fault("looking at what is not committed", error))?;
        let mut page = PageBuilder::new(self.reading.selection.seed);
        self.reading.fetch(session.connection(), keys, &mut page).await?;
        session.roll_back().await;
        let page = page.finish(Version::default(), self.reading.cells.clone(), false);
        Ok(page.fingerprints == found.fingerprints && page.keys.iter().eq(found.keys.iter()))
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

/// Pauses between two looks, each twice as long as the one before it.
pub(super) struct Pause {
    next_ms: u64,
    until: Instant,
}

impl Pause {
    pub(super) fn new(until: Instant) -> Self {
        Self { next_ms: 1, until }
    }

    /// Pauses; `false` when there is no time left.
    pub(super) async fn took(&mut self) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(self.next_ms)).await;
        self.next_ms = (self.next_ms * 2).min(PAUSE_MS_MAX);
        true
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
