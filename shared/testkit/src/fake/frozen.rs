use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::Snapshot;
use fides_core::{Fault, Key, KeyRange, Page, PageBuilder, RowCodec, Selection, Version};

/// A copy of a table that nothing changes any more.
pub(super) struct Frozen {
    pub version: Version,
    pub seed: u64,
    pub page_records_max: usize,
    /// Encoded keys and rows, in key order.
    pub rows: Vec<(Key, Vec<u8>)>,
}

impl Frozen {
    pub fn new(version: Version, selection: &Selection, mut rows: Vec<(Key, Vec<u8>)>) -> Self {
        rows.sort();
        Self { version, seed: selection.seed, page_records_max: selection.page_records_max.max(1), rows }
    }

    fn page<'a>(&self, rows: impl Iterator<Item = &'a (Key, Vec<u8>)>, more: bool) -> Result<Page, Fault> {
        let mut page = PageBuilder::new(self.seed);
        for (key, row) in rows {
            page.push(|keys, bytes| {
                keys.extend_from_slice(key.as_bytes());
                bytes.extend_from_slice(row);
                Ok(())
            })?;
        }
        Ok(page.finish(self.version, Arc::new(RowCodec), more))
    }
}

#[async_trait]
impl Snapshot for Frozen {
    fn version(&self) -> Version {
        self.version
    }

    async fn plan(&self, want: usize) -> Result<Vec<KeyRange>, Fault> {
        let want = want.clamp(1, self.rows.len().max(1));
        let bound = |at: usize| match at {
            0 => None,
            at if at == want => None,
            at => Some(self.rows[at * self.rows.len() / want].0.clone()),
        };
        Ok((0..want).map(|at| KeyRange { lower: bound(at), upper: bound(at + 1) }).collect())
    }

    async fn scan(&self, range: &KeyRange, after: Option<&Key>) -> Result<Page, Fault> {
        let passed = |key: &Key| range.lower.as_ref() > Some(key) || after.is_some_and(|after| key <= after);
        let rest = &self.rows[self.rows.partition_point(|(key, _)| passed(key))..];
        let mut rows = rest.iter().take_while(|(key, _)| range.contains(key.as_bytes())).peekable();
        let page: Vec<_> = rows.by_ref().take(self.page_records_max).collect();
        self.page(page.into_iter(), rows.peek().is_some())
    }

    async fn fetch(&self, keys: &[Key]) -> Result<Page, Fault> {
        let keys: BTreeSet<&Key> = keys.iter().collect();
        let find = |key| self.rows.binary_search_by_key(&key, |(key, _)| key).ok();
        self.page(keys.into_iter().filter_map(find).map(|at| &self.rows[at]), false)
    }
}
