//! One consistent state, of a host or of a target.

use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::Snapshot;
use fides_core::{Fault, Key, KeyRange, Page, PageBuilder, Selection, Version};

use crate::plan;
use crate::readers::{Reader, Readers};
use crate::reading::Reading;

/// The ports' snapshot. Holds its sessions' transactions until it is dropped.
pub(crate) struct MySqlSnapshot {
    reading: Reading,
    version: Version,
    readers: Arc<Readers>,
}

impl MySqlSnapshot {
    /// The state that `first` sees, proven to be readable as the selection says.
    pub(crate) async fn open(
        readers: Arc<Readers>,
        mut first: Reader,
        selection: &Selection,
        version: Version,
    ) -> Result<Self, Fault> {
        let reading = Reading::open(first.connection(), selection).await?;
        first.give_back();
        Ok(Self { reading, version, readers })
    }
}

#[async_trait]
impl Snapshot for MySqlSnapshot {
    fn version(&self) -> Version {
        self.version
    }

    async fn plan(&self, want: usize) -> Result<Vec<KeyRange>, Fault> {
        let mut reader = self.readers.take().await?;
        let plan = plan::plan(reader.connection(), &self.reading, want).await?;
        reader.give_back();
        Ok(plan)
    }

    async fn scan(&self, range: &KeyRange, after: Option<&Key>) -> Result<Page, Fault> {
        let limit = self.reading.selection.page_records_max.max(1);
        // One row more than the page: it proves that there is more, or by its absence that there is not.
        let sql = self.reading.page(range, after, limit + 1)?;
        let mut reader = self.readers.take().await?;
        let mut page = PageBuilder::new(self.reading.selection.seed);
        let more = self.reading.read(reader.connection(), sql, &mut page, limit, |_| true).await?;
        reader.give_back();
        Ok(page.finish(self.version, self.reading.cells.clone(), more))
    }

    async fn fetch(&self, keys: &[Key]) -> Result<Page, Fault> {
        let mut keys: Vec<&Key> = keys.iter().collect();
        keys.sort_unstable();
        keys.dedup();
        let mut page = PageBuilder::new(self.reading.selection.seed);
        if !keys.is_empty() {
            let mut reader = self.readers.take().await?;
            self.reading.fetch(reader.connection(), &keys, &mut page).await?;
            reader.give_back();
        }
        Ok(page.finish(self.version, self.reading.cells.clone(), false))
    }
}
