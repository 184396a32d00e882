//! A container as the walks of Fides see it.
//!
//! Cosmos has no snapshots over partitions: every page is read as it is then. What is read is at least as new as the
//! version that was fixed before (L1), and what is newer than its label comes again with a version of its own.

use async_trait::async_trait;
use fides_core::port::Snapshot;
use fides_core::{Fault, Key, KeyRange, Page, Version};

use crate::plan;
use crate::reading::Reading;

pub(crate) struct CosmosSnapshot {
    pub reading: Reading,
    pub version: Version,
}

#[async_trait]
impl Snapshot for CosmosSnapshot {
    fn version(&self) -> Version {
        self.version
    }

    async fn plan(&self, want: usize) -> Result<Vec<KeyRange>, Fault> {
        plan::plan(&self.reading, want).await
    }

    async fn scan(&self, range: &KeyRange, after: Option<&Key>) -> Result<Page, Fault> {
        self.reading.page(self.version, range, after).await
    }

    async fn fetch(&self, keys: &[Key]) -> Result<Page, Fault> {
        self.reading.fetch(self.version, keys).await
    }
}
