//! MySQL or MariaDB as the store that is followed.

use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::{Concern, Host, Lineage, Opened, Snapshot};
use fides_core::{Fault, Namespace, PipelineId, Selection, Table, Version};
use tokio::sync::Semaphore;

use crate::connect::{Server, Sessions};
use crate::describe;
use crate::readers::Readers;
use crate::snapshot::MySqlSnapshot;

/// A statement that reads.
pub(crate) const READ_MS_MAX: u64 = 600_000;

const NO_LOG: &str = "the binary log of MySQL and MariaDB is not followed yet";
const NO_LOG_ADVICE: &str = "leave `events` out of the pipeline: imports find what changed";

pub(crate) struct MySqlHost {
    /// For catalogs; readers never wait for them.
    control: Arc<Sessions>,
    reading: Server,
    /// Sessions that snapshots may have beside their first.
    spare: Arc<Semaphore>,
}

impl MySqlHost {
    pub(crate) fn new(server: &Server, connections: u32) -> Self {
        let reading = server.reading(READ_MS_MAX);
        let spare = connections.max(1) as usize - 1;
        Self { control: Sessions::new(reading.clone(), 1), reading, spare: Arc::new(Semaphore::new(spare)) }
    }
}

#[async_trait]
impl Host for MySqlHost {
    async fn namespaces(&self) -> Result<Vec<Namespace>, Fault> {
        let mut session = self.control.take().await?;
        let namespaces = describe::namespaces(session.connection()).await?;
        session.give_back();
        Ok(namespaces)
    }

    async fn describe(&self, namespace: &Namespace) -> Result<Option<Table>, Fault> {
        let mut session = self.control.take().await?;
        let table = describe::describe(session.connection(), namespace).await?;
        session.give_back();
        Ok(table)
    }

    /// Versions are drawn, whatever server is behind the URL.
    async fn lineage(&self) -> Result<Lineage, Fault> {
        Ok(Lineage("mysql:drawn".to_owned()))
    }

    async fn snapshot(&self, selection: &Selection, drawn: Version) -> Result<Arc<dyn Snapshot>, Fault> {
        // L1: the position was drawn before this state is taken.
        let (readers, first) = Readers::open(self.reading.clone(), self.spare.clone()).await?;
        Ok(Arc::new(MySqlSnapshot::open(readers, first, selection, drawn).await?))
    }

    async fn log(&self, selection: &Selection, _reader: &PipelineId, _after: Option<u64>) -> Result<Opened, Fault> {
        Err(Fault::permanent(format!("{}: {NO_LOG}", selection.namespace)).advise(NO_LOG_ADVICE))
    }

    async fn check_log(&self, _selection: &Selection, _reader: &PipelineId) -> Result<Vec<Concern>, Fault> {
        Ok(vec![Concern { stops: true, what: NO_LOG.to_owned(), mend: Some(NO_LOG_ADVICE.to_owned()) }])
    }
}
