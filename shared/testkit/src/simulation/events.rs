//! The host's log with a planted bug.

use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::{Host, Lineage, Log, LogPage, Opened, Snapshot};
use fides_core::{Fault, Namespace, PipelineId, Selection, Table, Version};

/// A host whose log gives all changes of a transaction the same version (DESIGN §5).
pub(super) struct Unsequenced(pub(super) Arc<dyn Host>);

#[async_trait]
impl Host for Unsequenced {
    async fn namespaces(&self) -> Result<Vec<Namespace>, Fault> {
        self.0.namespaces().await
    }

    async fn describe(&self, namespace: &Namespace) -> Result<Option<Table>, Fault> {
        self.0.describe(namespace).await
    }

    async fn lineage(&self) -> Result<Lineage, Fault> {
        self.0.lineage().await
    }

    async fn snapshot(&self, selection: &Selection, drawn: Version) -> Result<Arc<dyn Snapshot>, Fault> {
        self.0.snapshot(selection, drawn).await
    }

    async fn log(&self, selection: &Selection, reader: &PipelineId, after: Option<u64>) -> Result<Opened, Fault> {
        let opened = self.0.log(selection, reader, after).await?;
        Ok(Opened { log: Box::new(UnsequencedLog(opened.log)), ..opened })
    }
}

struct UnsequencedLog(Box<dyn Log>);

#[async_trait]
impl Log for UnsequencedLog {
    async fn next(&mut self) -> Result<LogPage, Fault> {
        let mut page = self.0.next().await?;
        for logged in &mut page.changes {
            logged.sequence = 1;
        }
        Ok(page)
    }

    async fn release(&mut self, place: u64) -> Result<(), Fault> {
        self.0.release(place).await
    }
}
