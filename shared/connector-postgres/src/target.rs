//! PostgreSQL as the store that is kept in step.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fides_core::port::{Fencing, Obstacle, Outcome, Sink, Snapshot, Target, Write};
use fides_core::{Change, Fault, Lane, Namespace, Selection, Shape, Table, Version};
use fides_sql::{Connect, Layouts, unwritten};
use sqlx::Connection;

use crate::connect::{Server, Sessions};
use crate::layout::{Layout, make_table};
use crate::snapshot::{Coordinator, PostgresSnapshot};
use crate::stream::Readers;
use crate::{apply, catalog, describe, fence, inspect};

/// A statement that only reads.
const READ_MS_MAX: u64 = 600_000;

pub(crate) struct PostgresTarget {
    writers: Arc<Sessions>,
    /// For catalogs: they never wait for a writer.
    control: Arc<Sessions>,
    readers: Arc<Readers>,
    reading: Server,
    writing: Server,
    layouts: Layouts<Layout>,
    /// How long one write may search for records that the target refuses.
    search_max: Duration,
    inline_rows_max: usize,
}

impl PostgresTarget {
    /// Up to `inline_rows_max` rows are written without COPY.
    pub(crate) fn new(server: &Server, connections: u32, write_timeout_ms_max: u64, inline_rows_max: usize) -> Self {
        // L6: the server gives a statement up before the client does, and a transaction whose client is gone.
        let deadline = (write_timeout_ms_max * 3 / 4).max(1);
        let writing = server.with_timeouts(deadline, write_timeout_ms_max.max(1)).writing();
        let reading = server.with_timeouts(READ_MS_MAX, 0);
        Self {
            writers: Sessions::new(writing.clone(), connections),
            control: Sessions::new(writing.clone(), 1),
            writing,
            readers: Readers::new(Sessions::new(reading.clone(), connections)),
            reading,
            layouts: Layouts::default(),
            search_max: Duration::from_millis(write_timeout_ms_max / 2),
            inline_rows_max,
        }
    }

    async fn layout(&self, write: &Write<'_>) -> Result<Arc<Layout>, Fault> {
        let Write { sink, shape, .. } = *write;
        if let Some(layout) = self.layouts.get(sink, shape) {
            return Ok(layout);
        }
        let relation = self.control.with(async |session| catalog::require(session, &sink.namespace).await).await?;
        Ok(self.layouts.keep(sink, shape, Layout::new(sink, shape, &relation, self.inline_rows_max)?))
    }
}

#[async_trait]
impl Target for PostgresTarget {
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
            let layout = Layout::new(sink, shape, &relation, self.inline_rows_max)?;
            fence::ensure(session, &layout.lanes).await?;
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
        let lanes = fence::table(&relation.schema);
        fence::ensure(&mut connection, &lanes).await?;
        fence::claim(&mut connection, &lanes, relation.oid, lane, number).await?;
        // The claim holds; a connection that does not close cleanly changes nothing.
        connection.close().await.unwrap_or_default();
        Ok(())
    }

    async fn claimed(&self, sink: &Sink, lane: &Lane) -> Result<Option<u64>, Fault> {
        let mut connection = self.writing.connect().await?;
        let token = match catalog::relation(&mut connection, &sink.namespace).await? {
            Some(relation) => {
                fence::claimed(&mut connection, &fence::table(&relation.schema), relation.oid, lane).await?
            }
            None => None,
        };
        connection.close().await.unwrap_or_default();
        Ok(token)
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
        let coordinator = Coordinator::begin(self.reading.connect().await?, None).await?;
        let snapshot = PostgresSnapshot::open(coordinator, self.readers.clone(), selection, Version::default()).await?;
        Ok(Arc::new(snapshot))
    }
}
