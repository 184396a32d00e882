//! SQLite as host.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use fides_core::port::{Concern, Host, Lineage, Opened, Snapshot};
use fides_core::{Fault, Namespace, PipelineId, Selection, Table, Version};

use crate::connect::{Database, Mode};
use crate::describe;
use crate::outbox::{self, Outbox};
use crate::snapshot::SqliteSnapshot;

/// Opens a file as a host: its tables are only read, at most `connections` snapshots and descriptions at a time. A file
/// that is missing or is no database is a fault here already; nothing is ever created.
///
/// Where its log is followed, and the file has an outbox, the outbox orders states (DESIGN §5): Fides writes into it where
/// its readers are, and removes what they have read.
pub async fn host(path: &Path, connections: u32, follows: bool) -> Result<Arc<dyn Host>, Fault> {
    let database = Arc::new(Database::new(path, Mode::Read, connections));
    drop(database.begin_read().await?);
    let outbox = Outbox::new(database.clone());
    Ok(Arc::new(SqliteHost { database, outbox, follows, told: Mutex::default() }))
}

struct SqliteHost {
    database: Arc<Database>,
    outbox: Outbox,
    /// Whether anybody follows the log, and needs snapshots that have a position in it.
    follows: bool,
    /// The lineage that was told last: positions of another one do not belong to the epoch.
    told: Mutex<Option<Lineage>>,
}

/// Versions are drawn, whatever file is behind the path.
fn drawn_lineage() -> Lineage {
    Lineage("sqlite:drawn".to_owned())
}

impl SqliteHost {
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
impl Host for SqliteHost {
    async fn namespaces(&self) -> Result<Vec<Namespace>, Fault> {
        describe::namespaces(&self.database).await
    }

    async fn describe(&self, namespace: &Namespace) -> Result<Option<Table>, Fault> {
        describe::table_of(&self.database, namespace).await
    }

    /// Without an outbox SQLite keeps nothing that orders states.
    async fn lineage(&self) -> Result<Lineage, Fault> {
        let outbox = if self.follows { self.outbox.lineage().await? } else { None };
        let lineage = outbox.unwrap_or_else(drawn_lineage);
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(lineage.clone());
        Ok(lineage)
    }

    async fn snapshot(&self, selection: &Selection, drawn: Version) -> Result<Arc<dyn Snapshot>, Fault> {
        let expected = self.expected().await?;
        if expected != drawn_lineage() {
            return Ok(Arc::new(self.outbox.snapshot(selection, &expected, drawn.epoch).await?));
        }
        Ok(Arc::new(SqliteSnapshot::open(self.database.clone(), selection, drawn).await?))
    }

    async fn log(&self, selection: &Selection, reader: &PipelineId, after: Option<u64>) -> Result<Opened, Fault> {
        if !self.follows {
            return Err(Fault::permanent(format!("{}: this host was opened without its log", selection.namespace))
                .advise("set `events: log`"));
        }
        outbox::open(&self.outbox, selection, &self.expected().await?, reader, after).await
    }

    async fn check_log(&self, selection: &Selection, _reader: &PipelineId) -> Result<Vec<Concern>, Fault> {
        outbox::check(&self.outbox, selection).await
    }

    async fn log_lag(&self, reader: &PipelineId) -> Result<Option<u64>, Fault> {
        self.outbox.lag(reader).await
    }

    async fn forget_log(&self, reader: &PipelineId) -> Result<(), Fault> {
        self.outbox.forget(reader).await
    }
}
