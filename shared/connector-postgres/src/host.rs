//! PostgreSQL as the store that is followed.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use fides_core::port::{Concern, Host, Lineage, Opened, Snapshot};
use fides_core::{Fault, Namespace, PipelineId, Selection, Table, Version};
use fides_sql::{Authority, Connect};
use tokio::sync::OnceCell;

use crate::authority;
use crate::connect::{Server, Sessions};
use crate::describe;
use crate::log;
use crate::snapshot::{Coordinator, PostgresSnapshot};
use crate::stream::Readers;

/// A statement of a host. A stream waits for its reader inside one, so this bounds only what was forgotten.
const STATEMENT_MS_MAX: u64 = 600_000;

pub(crate) struct PostgresHost {
    server: Server,
    /// For catalogs; readers never wait for them.
    control: Arc<Sessions>,
    readers: Arc<Readers>,
    authority: OnceCell<Authority>,
    /// Whether anybody follows the log, and needs snapshots that have a position in it.
    follows: bool,
    /// The lineage that was told last: snapshots of another one do not belong to the epoch.
    told: Mutex<Option<Lineage>>,
}

impl PostgresHost {
    pub(crate) fn new(server: &Server, connections: u32, follows: bool) -> Self {
        // A coordinator idles in its transaction as long as its snapshot is read.
        let server = server.with_timeouts(STATEMENT_MS_MAX, 0);
        Self {
            control: Sessions::new(server.clone(), 1),
            readers: Readers::new(Sessions::new(server.clone(), connections)),
            server,
            authority: OnceCell::new(),
            follows,
            told: Mutex::default(),
        }
    }

    async fn authority(&self) -> Result<Authority, Fault> {
        if !self.follows {
            return Ok(Authority::Drawn);
        }
        let decide =
            || async { self.control.with(async |session| authority::decide(&self.server, session).await).await };
        self.authority.get_or_try_init(decide).await.copied()
    }

    /// The lineage that positions belong to.
    async fn expected(&self) -> Result<Lineage, Fault> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match told {
            Some(lineage) => Ok(lineage),
            None => self.lineage().await,
        }
    }
}

#[async_trait]
impl Host for PostgresHost {
    async fn namespaces(&self) -> Result<Vec<Namespace>, Fault> {
        self.control.with(describe::namespaces).await
    }

    async fn describe(&self, namespace: &Namespace) -> Result<Option<Table>, Fault> {
        self.control.with(async |session| describe::describe(session, namespace).await).await
    }

    async fn lineage(&self) -> Result<Lineage, Fault> {
        let authority = self.authority().await?;
        let asked = self.control.with(async |session| authority::lineage(authority, &self.server, session).await);
        let lineage = asked.await?;
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(lineage.clone());
        Ok(lineage)
    }

    async fn snapshot(&self, selection: &Selection, drawn: Version) -> Result<Arc<dyn Snapshot>, Fault> {
        let (coordinator, version) = match self.authority().await? {
            Authority::Log => {
                let expected = self.expected().await?;
                authority::exact(&self.server, drawn.epoch, &expected, authority::SLOT_MS_MAX).await?
            }
            // L1: the position was drawn before this state is taken.
            Authority::Drawn => (Coordinator::begin(self.server.connect().await?, None).await?, drawn),
        };
        Ok(Arc::new(PostgresSnapshot::open(coordinator, self.readers.clone(), selection, version).await?))
    }

    async fn log(&self, selection: &Selection, reader: &PipelineId, after: Option<u64>) -> Result<Opened, Fault> {
        if self.authority().await? == Authority::Drawn {
            return Err(log::refused(&self.server, &self.control, selection).await);
        }
        let expected = self.expected().await?;
        log::open(&self.server, &expected, selection, reader, after).await
    }

    async fn check_log(&self, selection: &Selection, reader: &PipelineId) -> Result<Vec<Concern>, Fault> {
        log::check(&self.server, &self.control, selection, reader).await
    }

    async fn log_lag(&self, reader: &PipelineId) -> Result<Option<u64>, Fault> {
        log::lag(&self.control, reader).await
    }

    async fn forget_log(&self, reader: &PipelineId) -> Result<(), Fault> {
        log::forget(&self.control, reader).await
    }
}
