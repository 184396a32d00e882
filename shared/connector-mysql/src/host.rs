//! MySQL or MariaDB as the store that is followed.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use fides_core::port::{Concern, Host, Lineage, Opened, Snapshot};
use fides_core::{Fault, Namespace, PipelineId, Selection, Table, Version};
use fides_sql::{Authority, same_lineage};
use tokio::sync::{OnceCell, Semaphore};

use crate::authority::{self, Settings};
use crate::beginning::Beginning;
use crate::connect::{Server, Sessions};
use crate::describe;
use crate::fault::fault;
use crate::log;
use crate::query::run;
use crate::readers::{Reader, Readers};
use crate::snapshot::MySqlSnapshot;

/// A statement that reads.
pub(crate) const READ_MS_MAX: u64 = 600_000;

pub(crate) struct MySqlHost {
    /// For catalogs; readers never wait for them.
    control: Arc<Sessions>,
    reading: Server,
    /// Sessions that snapshots may have beside their first.
    spare: Arc<Semaphore>,
    authority: OnceCell<Authority>,
    /// Whether anybody follows the log, and needs snapshots that have a position in it.
    follows: bool,
    beginning: Beginning,
    /// The lineage that was told last: snapshots of another one do not belong to the epoch.
    told: Mutex<Option<Lineage>>,
}

impl MySqlHost {
    pub(crate) fn new(server: &Server, connections: u32, follows: bool) -> Self {
        let reading = server.reading(READ_MS_MAX);
        let spare = connections.max(1) as usize - 1;
        Self {
            control: Sessions::new(reading.clone(), 1),
            reading,
            spare: Arc::new(Semaphore::new(spare)),
            authority: OnceCell::new(),
            follows,
            beginning: Beginning::default(),
            told: Mutex::default(),
        }
    }

    async fn authority(&self) -> Result<Authority, Fault> {
        if !self.follows {
            return Ok(Authority::Drawn);
        }
        let decide =
            || async { self.control.with(async |session| authority::decide(&self.reading, session).await).await };
        self.authority.get_or_try_init(decide).await.copied()
    }

    /// Sessions of one state, whose place is exact where the log orders states: it may lack nothing that the log does not tell
    /// behind it.
    async fn readers(&self, authority: Authority) -> Result<(Arc<Readers>, Reader), Fault> {
        loop {
            let (readers, mut first) = Readers::open(self.reading.clone(), self.spare.clone()).await?;
            if authority == Authority::Drawn || self.beginning.is_exact(first.connection(), readers.taken()).await? {
                return Ok((readers, first));
            }
            run(first.connection(), "ROLLBACK").await.map_err(|error| fault("ending a snapshot", error))?;
            self.beginning.wait(first.connection()).await?;
        }
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
impl Host for MySqlHost {
    async fn namespaces(&self) -> Result<Vec<Namespace>, Fault> {
        self.control.with(describe::namespaces).await
    }

    async fn describe(&self, namespace: &Namespace) -> Result<Option<Table>, Fault> {
        self.control.with(async |session| describe::describe(session, namespace).await).await
    }

    async fn lineage(&self) -> Result<Lineage, Fault> {
        let lineage = match self.authority().await? {
            // Versions are drawn, whatever server is behind the URL.
            Authority::Drawn => Lineage("mysql:drawn".to_owned()),
            Authority::Log => self.control.with(Settings::ask).await?.lineage(),
        };
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(lineage.clone());
        Ok(lineage)
    }

    async fn snapshot(&self, selection: &Selection, drawn: Version) -> Result<Arc<dyn Snapshot>, Fault> {
        let authority = self.authority().await?;
        let (readers, mut first) = self.readers(authority).await?;
        let version = match authority {
            // L1: the position was drawn before this state is taken.
            Authority::Drawn => drawn,
            Authority::Log => {
                let expected = self.expected().await?;
                same_lineage(&expected, &Settings::ask(first.connection()).await?.lineage())?;
                authority::version(drawn.epoch, readers.taken().place)?
            }
        };
        Ok(Arc::new(MySqlSnapshot::open(readers, first, selection, version).await?))
    }

    async fn log(&self, selection: &Selection, reader: &PipelineId, after: Option<u64>) -> Result<Opened, Fault> {
        if self.authority().await? == Authority::Drawn {
            return Err(log::refused(&self.reading, &self.control, selection).await);
        }
        let expected = self.expected().await?;
        log::open(&self.reading, &expected, selection, reader, after).await
    }

    async fn check_log(&self, selection: &Selection, _reader: &PipelineId) -> Result<Vec<Concern>, Fault> {
        log::check(&self.control, selection).await
    }
}
