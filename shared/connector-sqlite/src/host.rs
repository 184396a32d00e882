//! SQLite as host.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::{Host, Lineage, Opened, Snapshot};
use fides_core::{Fault, Namespace, PipelineId, Selection, Table, Version};

use crate::connect::{Database, Mode};
use crate::describe;
use crate::snapshot::SqliteSnapshot;

/// Opens a file as a host: read-only, at most `connections` snapshots and descriptions at a time. A file that is missing
/// or is no database is a fault here already; nothing is ever created.
pub async fn host(path: &Path, connections: u32) -> Result<Arc<dyn Host>, Fault> {
    let database = Arc::new(Database::new(path, Mode::Read, connections));
    drop(database.begin_read().await?);
    Ok(Arc::new(SqliteHost { database }))
}

struct SqliteHost {
    database: Arc<Database>,
}

#[async_trait]
impl Host for SqliteHost {
    async fn namespaces(&self) -> Result<Vec<Namespace>, Fault> {
        describe::namespaces(&self.database).await
    }

    async fn describe(&self, namespace: &Namespace) -> Result<Option<Table>, Fault> {
        describe::table_of(&self.database, namespace).await
    }

    /// SQLite keeps no log that orders states: versions are drawn, whatever file is behind the path.
    async fn lineage(&self) -> Result<Lineage, Fault> {
        Ok(Lineage("sqlite:drawn".to_owned()))
    }

    async fn snapshot(&self, selection: &Selection, drawn: Version) -> Result<Arc<dyn Snapshot>, Fault> {
        Ok(Arc::new(SqliteSnapshot::open(self.database.clone(), selection, drawn).await?))
    }

    async fn log(&self, selection: &Selection, _reader: &PipelineId, _after: Option<u64>) -> Result<Opened, Fault> {
        Err(Fault::permanent(format!("{}: SQLite keeps no log that could be followed", selection.namespace))
            .advise("leave `events` out of the pipeline: imports find what changed"))
    }
}
