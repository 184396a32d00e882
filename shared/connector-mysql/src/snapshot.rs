//! One consistent state, of a host or of a target.

use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::Snapshot;
use fides_core::{Fault, Key, KeyRange, Page, PageBuilder, Selection, Version};
use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, Executor};

use crate::fault::fault;
use crate::plan;
use crate::readers::{Reader, Readers};
use crate::reading::Reading;

/// Keys of one lookup.
const FETCH_KEYS_MAX: usize = 1_024;

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

    /// Reads the rows of `sql` into `page` until it has `limit`; whether there are more. Rows that `wanted` refuses by
    /// their key are left out.
    async fn read(
        &self,
        reader: &mut Reader,
        sql: String,
        page: &mut PageBuilder,
        limit: usize,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<bool, Fault> {
        let place = || format!("reading table {}", self.reading.selection.namespace);
        let cells = &self.reading.cells;
        let (mut key, mut row, mut more) = (Vec::new(), Vec::new(), false);
        let mut rows = reader.connection().fetch(sqlx::raw_sql(AssertSqlSafe(sql)));
        while let Some(found) = rows.try_next().await.map_err(|error| fault(&place(), error))? {
            key.clear();
            row.clear();
            cells.put(&found, &mut key, &mut row)?;
            if !wanted(&key) {
                continue;
            }
            if page.len() == limit {
                more = true;
                continue;
            }
            let pushed = page.push(|keys, rows| {
                keys.extend_from_slice(&key);
                rows.extend_from_slice(&row);
                Ok(())
            });
            pushed.map_err(|fault| fault.at(format_args!("table {}", cells.place)))?;
        }
        Ok(more)
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
        let more = self.read(&mut reader, sql, &mut page, limit, |_| true).await?;
        reader.give_back();
        Ok(page.finish(self.version, self.reading.cells.clone(), more))
    }

    async fn fetch(&self, keys: &[Key]) -> Result<Page, Fault> {
        let mut keys: Vec<&Key> = keys.iter().collect();
        keys.sort_unstable();
        keys.dedup();
        let mut page = PageBuilder::new(self.reading.selection.seed);
        // Chunks ascend, and so do the keys of each.
        let chunks = keys.chunks(FETCH_KEYS_MAX).map(|chunk| Ok((chunk, self.reading.among(chunk.iter().copied())?)));
        let chunks = chunks.collect::<Result<Vec<_>, Fault>>()?;
        if !chunks.is_empty() {
            let mut reader = self.readers.take().await?;
            for (chunk, sql) in chunks {
                let wanted = |key: &[u8]| chunk.binary_search_by(|wanted| wanted.as_bytes().cmp(key)).is_ok();
                self.read(&mut reader, sql, &mut page, usize::MAX, wanted).await?;
            }
            reader.give_back();
        }
        Ok(page.finish(self.version, self.reading.cells.clone(), false))
    }
}
