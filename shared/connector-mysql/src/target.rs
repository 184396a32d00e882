//! MySQL or MariaDB as the store that is kept in step.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fides_core::port::{Fencing, Obstacle, Outcome, Sink, Snapshot, Target, Write};
use fides_core::{Change, Fault, Lane, Namespace, Selection, Shape, Table, Version};
use fides_sql::{Connect, Layouts, unwritten};
use sqlx::{Connection, MySqlConnection};
use tokio::sync::Semaphore;

use crate::connect::{Server, Sessions};
use crate::fault::fault;
use crate::host::READ_MS_MAX;
use crate::layout::{Layout, make_table};
use crate::query::scalar;
use crate::readers::Readers;
use crate::snapshot::MySqlSnapshot;
use crate::{apply, catalog, describe, fence, inspect};

pub(crate) struct MySqlTarget {
    writers: Arc<Sessions>,
    /// For catalogs: they never wait for a writer.
    control: Arc<Sessions>,
    reading: Server,
    /// Sessions that snapshots may have beside their first.
    spare: Arc<Semaphore>,
    writing: Server,
    layouts: Layouts<Layout>,
    /// How long one write may search for records that the target refuses.
    search_max: Duration,
}

impl MySqlTarget {
    pub(crate) fn new(server: &Server, connections: u32, write_timeout_ms_max: u64) -> Self {
        // L6: the server gives a statement up before the client does, and a transaction whose client is gone.
        let deadline = (write_timeout_ms_max * 3 / 4).max(1);
        let writing = server.writing(deadline, write_timeout_ms_max.max(1));
        Self {
            writers: Sessions::new(writing.clone(), connections),
            control: Sessions::new(writing.clone(), 1),
            writing,
            reading: server.reading(READ_MS_MAX),
            spare: Arc::new(Semaphore::new(connections.max(1) as usize - 1)),
            layouts: Layouts::default(),
            search_max: Duration::from_millis(write_timeout_ms_max / 2),
        }
    }

    async fn layout(&self, write: &Write<'_>) -> Result<Arc<Layout>, Fault> {
        let Write { sink, shape, .. } = *write;
        if let Some(layout) = self.layouts.get(sink, shape) {
            return Ok(layout);
        }
        let found = self.control.with(async |session| {
            let relation = catalog::require(session, &sink.namespace).await?;
            Layout::new(session, sink, shape, &relation).await
        });
        Ok(self.layouts.keep(sink, shape, found.await?))
    }
}

/// L2: what the server acknowledged must survive its machine. No session can ask for that by itself.
async fn warn_of_losses(connection: &mut MySqlConnection) -> Result<(), Fault> {
    let asked = scalar(connection, "SELECT @@GLOBAL.innodb_flush_log_at_trx_commit").await;
    let setting = asked.map_err(|error| fault("asking how durable a commit is", error))?.unwrap_or_default();
    if setting != "1" {
        tracing::warn!(
            innodb_flush_log_at_trx_commit = setting,
            "a crash of the target's server may lose writes that it has acknowledged; \
             run: SET GLOBAL innodb_flush_log_at_trx_commit = 1"
        );
    }
    Ok(())
}

#[async_trait]
impl Target for MySqlTarget {
    fn fencing(&self) -> Fencing {
        Fencing::LaneToken
    }

    async fn describe(&self, namespace: &Namespace) -> Result<Option<Table>, Fault> {
        self.control.with(async |session| describe::describe(session, namespace).await).await
    }

    async fn inspect(&self, sink: &Sink, shape: &Shape, create: bool) -> Result<Vec<Obstacle>, Fault> {
        let (_, obstacles) =
            self.control.with(async |session| inspect::target(session, sink, shape, create).await).await?;
        Ok(obstacles)
    }

    async fn prepare(&self, sink: &Sink, shape: &Shape, create: bool) -> Result<(), Fault> {
        let prepared = self.control.with(async |session| {
            let (relation, obstacles) = inspect::target(session, sink, shape, create).await?;
            Obstacle::refuse(&sink.namespace, &obstacles)?;
            let relation = match relation {
                Some(relation) => relation,
                None => make_table(session, sink, shape).await?,
            };
            let layout = Layout::new(session, sink, shape, &relation).await?;
            fence::ensure(session, &layout.lanes).await?;
            warn_of_losses(session).await?;
            Ok(layout)
        });
        self.layouts.keep(sink, shape, prepared.await?);
        Ok(())
    }

    async fn claim(&self, sink: &Sink, lane: &Lane, token: u64) -> Result<(), Fault> {
        let number = i64::try_from(token).map_err(|_| Fault::permanent(format!("token {token} is too large")))?;
        // A connection of its own: a claim waits for a write in flight, and nobody is to wait for the claim.
        let mut connection = self.writing.connect().await?;
        let relation = catalog::require(&mut connection, &sink.namespace).await?;
        let lanes = fence::table(&relation.database);
        fence::ensure(&mut connection, &lanes).await?;
        fence::claim(&mut connection, &lanes, lane, number).await?;
        // The claim holds; a connection that does not close cleanly changes nothing.
        connection.close().await.unwrap_or_default();
        Ok(())
    }

    async fn claimed(&self, sink: &Sink, lane: &Lane) -> Result<Option<u64>, Fault> {
        let asked = self.control.with(async |session| match catalog::relation(session, &sink.namespace).await? {
            Some(relation) => fence::claimed(session, &fence::table(&relation.database), lane).await,
            None => Ok(None),
        });
        asked.await
    }

    async fn apply(&self, write: &Write<'_>, changes: &[Change]) -> Vec<Outcome> {
        let layout = match self.layout(write).await {
            Ok(layout) => layout,
            Err(fault) => return unwritten(fault, changes.len()),
        };
        let (outcomes, changed) = apply::apply(&self.writers, &layout, write, changes, self.search_max).await;
        if changed {
            self.layouts.forget(&write.sink.namespace);
        }
        outcomes
    }

    async fn snapshot(&self, _sink: &Sink, selection: &Selection) -> Result<Arc<dyn Snapshot>, Fault> {
        let (readers, first) = Readers::open(self.reading.clone(), self.spare.clone()).await?;
        Ok(Arc::new(MySqlSnapshot::open(readers, first, selection, Version::default()).await?))
    }
}
