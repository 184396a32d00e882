//! One consistent state: a coordinator's transaction that has exported its snapshot, and readers that import it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use fides_core::port::Snapshot;
use fides_core::{Fault, Key, KeyRange, Page, PageBuilder, Selection, Version};
use sqlx::PgConnection;
use tokio::sync::Mutex;

use crate::connect::{Session, run};
use crate::fault::fault;
use crate::plan;
use crate::quote;
use crate::read::{self, Reading};
use crate::rewritten;
use crate::stream::{Pages, Readers, Stream};

/// Keys of one lookup.
const FETCH_KEYS_MAX: usize = 4_096;

static NEXT: AtomicU64 = AtomicU64::new(0);

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A transaction that holds a snapshot and has exported it.
pub(crate) struct Coordinator {
    pub(crate) connection: PgConnection,
    name: String,
}

impl Coordinator {
    /// Takes a snapshot, or the one that another session has exported, and exports it to the readers.
    pub(crate) async fn begin(mut connection: PgConnection, import: Option<&str>) -> Result<Self, Fault> {
        let taking = |error| fault("taking a snapshot", error);
        import_or_begin(&mut connection, import).await.map_err(taking)?;
        let name =
            sqlx::query_scalar("SELECT pg_export_snapshot()").fetch_one(&mut connection).await.map_err(taking)?;
        Ok(Self { connection, name })
    }
}

async fn import_or_begin(connection: &mut PgConnection, import: Option<&str>) -> Result<(), sqlx::Error> {
    let import = import.map(|name| format!("; SET TRANSACTION SNAPSHOT {}", quote::text(name))).unwrap_or_default();
    run(connection, format!("{BEGIN}{import}")).await
}

/// The ports' snapshot. Holds the coordinator's connection until it is dropped.
pub(crate) struct PostgresSnapshot {
    id: u64,
    reading: Reading,
    pages: Pages,
    name: String,
    coordinator: Mutex<PgConnection>,
    readers: Arc<Readers>,
}

impl PostgresSnapshot {
    pub(crate) async fn open(
        mut coordinator: Coordinator,
        readers: Arc<Readers>,
        selection: &Selection,
        version: Version,
    ) -> Result<Self, Fault> {
        let reading = Reading::open(&mut coordinator.connection, selection).await?;
        let pages = Pages {
            version,
            lines: reading.lines.clone(),
            seed: selection.seed,
            page_records_max: selection.page_records_max.max(1),
        };
        Ok(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            reading,
            pages,
            name: coordinator.name,
            coordinator: Mutex::new(coordinator.connection),
            readers,
        })
    }

    /// A session that sees this state.
    async fn reader(&self) -> Result<Session, Fault> {
        let mut session = self.readers.take().await?;
        let place = &self.reading.selection.namespace;
        import_or_begin(session.connection(), Some(&self.name)).await.map_err(|error| {
            let gone = crate::fault::state(&error).is_some_and(|code| code == "22023" || code == "42704");
            let fault = fault(&format!("table {place}: importing the snapshot"), error);
            // Its transaction ended: the server was restarted, or somebody ended the session.
            if gone { Fault { kind: fides_core::FaultKind::Transient, ..fault } } else { fault }
        })?;
        Ok(session)
    }

    /// A stream of what a SELECT finds in this state.
    async fn stream(&self, select: &str) -> Result<Stream, Fault> {
        let mut session = self.reader().await?;
        match rewritten::refuse_for(session.connection(), &self.pages.lines.place, select).await {
            Ok(()) => Ok(Stream::open(session, read::copy(select), self.pages.clone())),
            Err(fault) => {
                session.roll_back().await;
                Err(fault)
            }
        }
    }
}

impl Drop for PostgresSnapshot {
    fn drop(&mut self) {
        self.readers.forget(self.id);
    }
}

#[async_trait]
impl Snapshot for PostgresSnapshot {
    fn version(&self) -> Version {
        self.pages.version
    }

    async fn plan(&self, want: usize) -> Result<Vec<KeyRange>, Fault> {
        plan::plan(&mut *self.coordinator.lock().await, &self.reading, want).await
    }

    async fn scan(&self, range: &KeyRange, after: Option<&Key>) -> Result<Page, Fault> {
        let open = after.and_then(|after| self.readers.resume(self.id, range, after));
        let stream =
            if let Some(stream) = open { stream } else { self.stream(&self.reading.range(range, after)?).await? };
        let page = stream.next().await?;
        if let Some(next) = &page.next {
            self.readers.keep(self.id, range, next, stream);
        }
        Ok(page)
    }

    async fn fetch(&self, keys: &[Key]) -> Result<Page, Fault> {
        let mut keys: Vec<&Key> = keys.iter().collect();
        keys.sort();
        keys.dedup();
        let mut page = PageBuilder::new(self.pages.seed);
        let mut session = None;
        // Chunks ascend, and so do the keys of each.
        for chunk in keys.chunks(FETCH_KEYS_MAX) {
            let Some(sql) = self.reading.keys(chunk.iter().copied())? else { continue };
            let session = match &mut session {
                Some(session) => session,
                None => session.insert(self.reader().await?),
            };
            self.pages.read_all(session, &sql, &mut page).await?;
        }
        if let Some(mut session) = session {
            let seen = rewritten::refuse(session.connection(), &self.pages.lines.place).await;
            session.roll_back().await;
            seen?;
        }
        Ok(page.finish(self.pages.version, self.pages.lines.clone(), false))
    }
}
