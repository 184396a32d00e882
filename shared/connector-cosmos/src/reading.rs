//! How a selection is read from a container.

use azure_data_cosmos::FeedScope;
use azure_data_cosmos::options::{MaxItemCountHint, QueryOptions};
use fides_core::{Fault, Key, KeyRange, Page, PageBuilder, RowCodec, Selection, Value, Version, encode_row};
use futures::StreamExt;
use serde_json::value::RawValue;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::condition::{Keying, Sql};
use crate::container::Container;
use crate::document::Document;
use crate::fault::fault;
use crate::number;

/// Keys of one lookup.
const FETCH_KEYS_MAX: usize = 100;
/// Bytes at which a page of a scan ends (L10).
const PAGE_BYTES_MAX: usize = 8 << 20;

/// One selection of a container.
pub(crate) struct Reading {
    pub container: Arc<Container>,
    pub selection: Selection,
    pub keying: Keying,
}

impl Reading {
    /// The records of a range behind `after`, in key order, and whether there may be more.
    pub async fn page(&self, version: Version, range: &KeyRange, after: Option<&Key>) -> Result<Page, Fault> {
        let limit = self.selection.page_records_max.max(1);
        // One more than the page: it proves that there is more, or by its absence that there is not.
        let sql = self.keying.page("*", range, after, limit + 1)?;
        let mut page = PageBuilder::new(self.selection.seed);
        let more = self.read(sql, &mut page, limit, PAGE_BYTES_MAX).await?;
        let page = page.finish(version, Arc::new(RowCodec), more);
        self.refuse_other_order(&page, range, after)?;
        Ok(page)
    }

    /// Cosmos DB orders text by its UTF-16 units, and keys have the order of code points: these differ where one key has a
    /// character beyond U+FFFF, and another one of U+E000 to U+FFFF at the same place. Then a range is not what it says, and
    /// a record that is missed would be taken for gone (L8).
    fn refuse_other_order(&self, page: &Page, range: &KeyRange, after: Option<&Key>) -> Result<(), Fault> {
        let (Some(first), Some(last)) = (page.keys.iter().next(), page.keys.iter().last()) else { return Ok(()) };
        let is_below = range.lower.as_ref().is_some_and(|lower| first < lower.as_bytes())
            || after.is_some_and(|after| first <= after.as_bytes());
        if is_below || range.upper.as_ref().is_some_and(|upper| last >= upper.as_bytes()) {
            return Err(Fault::permanent(format!(
                "container {}: Cosmos DB does not find its keys in the order of their code points",
                self.selection.namespace
            ))
            .advise("choose key fields without characters beyond U+FFFF"));
        }
        Ok(())
    }

    /// The records under `keys`.
    pub async fn fetch(&self, version: Version, keys: &[Key]) -> Result<Page, Fault> {
        let mut keys: Vec<&Key> = keys.iter().collect();
        keys.sort_unstable();
        keys.dedup();
        let mut page = PageBuilder::new(self.selection.seed);
        for chunk in keys.chunks(FETCH_KEYS_MAX) {
            let sql = self.keying.among("*", chunk)?;
            let limit = page.len() + chunk.len();
            // L8: what is not on the page is not there. As large as the keys that the caller asks for together.
            self.read(sql, &mut page, limit, usize::MAX).await?;
        }
        Ok(page.finish(version, Arc::new(RowCodec), false))
    }

    /// Reads documents into `page` until it holds `limit` or `bytes_max`; whether there are more, or the query found more than
    /// `limit`. Of two documents of one record the newer one counts, unless a page ends between them.
    async fn read(&self, sql: Sql, page: &mut PageBuilder, limit: usize, bytes_max: usize) -> Result<bool, Fault> {
        let place = format!("container {}", self.selection.namespace);
        let hint = u32::try_from(limit + 1).unwrap_or(u32::MAX);
        let mut pages = std::pin::pin!(self.pages(sql, hint).await?);
        let (mut found, mut last) = (page.len(), None::<Record>);
        while let Some(items) = pages.next().await {
            for item in items? {
                found += 1;
                let record = self.record(item.get()).map_err(|fault| fault.at(&place))?;
                match &mut last {
                    Some(last) if last.is_of_one_with(&record) => last.or_newer(record),
                    last => {
                        if let Some(before) = last.replace(record) {
                            before.push(page).map_err(|fault| fault.at(&place))?;
                        }
                        if page.len() == limit || page.row_bytes() >= bytes_max {
                            return Ok(true);
                        }
                    }
                }
            }
        }
        if let Some(last) = last {
            last.push(page).map_err(|fault| fault.at(&place))?;
        }
        // L8: two documents of one record are one here, and two of those that the query may find.
        Ok(found > limit)
    }

    /// The items of a query, page by page. An error is the end, and never a short page.
    pub async fn pages(
        &self,
        sql: Sql,
        items_max: u32,
    ) -> Result<impl futures::Stream<Item = Result<Vec<Box<RawValue>>, Fault>>, Fault> {
        let what = format!("reading container {}", self.selection.namespace);
        let hint = NonZeroU32::new(items_max).map_or(MaxItemCountHint::ServerDecides, MaxItemCountHint::Limit);
        let options = QueryOptions::default().with_max_item_count(hint);
        tokio::time::sleep_until(self.container.pace.free_at()).await;
        let query = sql.query()?;
        let found = self.container.client.query_items(query, FeedScope::full_container(), Some(options)).await;
        let pages = found.map_err(|error| fault(&what, &error))?.into_pages();
        let container = self.container.clone();
        Ok(pages.map(move |page| match page {
            Ok(page) => {
                container.count(page.headers());
                Ok(page.into_items())
            }
            Err(error) => {
                container.count_error(&error);
                Err(fault(&what, &error))
            }
        }))
    }

    /// All items of a query.
    pub async fn items(&self, sql: Sql, items_max: u32) -> Result<Vec<Box<RawValue>>, Fault> {
        let mut all = Vec::new();
        let mut pages = std::pin::pin!(self.pages(sql, items_max).await?);
        while let Some(items) = pages.next().await {
            all.extend(items?);
        }
        Ok(all)
    }

    /// A document's record.
    pub fn record(&self, json: &str) -> Result<Record, Fault> {
        let document = Document::parse(json)?;
        let mut row = document.row(&self.selection.columns);
        if matches!(self.keying, Keying::Fields(_)) {
            row = row.into_iter().map(number::normal).collect();
        }
        let key = self.key(&document, &row)?;
        let mut version = None;
        if let Keying::Encoded { version: field } = &self.keying {
            // The encoded key is exact, also where the fields are text, or one is the id.
            let key = Key::from_bytes(key.as_slice());
            for (at, value) in self.selection.key_positions().into_iter().zip(key.decode()?) {
                row[at] = declared(value, self.selection.columns[at].kind);
            }
            version = document.text(field).map(ToOwned::to_owned);
        }
        let mut bytes = Vec::new();
        encode_row(&mut bytes, &row);
        Ok(Record { key, row: bytes, version })
    }

    /// The key of the record that a tombstone stands for, where partition key and id are the whole key. A tombstone has no
    /// other fields; and where the key says nothing of the partition, the record may have moved to another one, where it
    /// is well, and the tombstone that it left is no deletion.
    pub fn gone(&self, tombstone: &Document<'_>) -> Option<Key> {
        let (key, paths) = (&self.selection.key, &self.container.definition.paths);
        let is_partition = |field: &String| paths.iter().any(|path| path.is_top() && path.field() == field);
        let is_whole = key.iter().all(|field| field == "id" || is_partition(field))
            && key.iter().any(|field| field == "id")
            && paths.iter().all(|path| path.is_top() && key.iter().any(|field| path.field() == field));
        if !is_whole {
            return None;
        }
        let row: Vec<Value<'_>> = tombstone.row(&self.selection.columns).into_iter().map(number::normal).collect();
        self.key(tombstone, &row).ok().map(Key::from_bytes)
    }

    /// The encoded key of a document.
    fn key(&self, document: &Document<'_>, row: &[Value<'_>]) -> Result<Vec<u8>, Fault> {
        let mut key = Vec::new();
        match self.keying {
            Keying::Encoded { .. } => key = document.key()?,
            Keying::Fields(_) => {
                let columns: Vec<Value<'_>> =
                    self.selection.key_positions().into_iter().map(|at| row[at].clone()).collect();
                Key::encode_into(&columns, &mut key)?;
            }
        }
        Ok(key)
    }

    /// The first key at or after `from`, or the last one of all.
    pub async fn edge(&self, from: Option<&KeyRange>) -> Result<Option<Key>, Fault> {
        let sql = match from {
            Some(range) => self.keying.page("*", range, None, 1)?,
            None => self.keying.last("*"),
        };
        let mut pages = std::pin::pin!(self.pages(sql, 1).await?);
        while let Some(items) = pages.next().await {
            if let Some(item) = items?.first() {
                let document = Document::parse(item.get())?;
                let row = document.row(&self.selection.columns);
                return Ok(Some(Key::from_bytes(self.key(&document, &row)?)));
            }
        }
        Ok(None)
    }
}

/// What a document holds.
pub(crate) struct Record {
    /// Encoded.
    pub key: Vec<u8>,
    /// Encoded.
    pub row: Vec<u8>,
    /// Of what Fides has written.
    version: Option<String>,
}

impl Record {
    /// Whether both are documents of one record, which moved from one partition to another while they were read: two states,
    /// of two versions.
    fn is_of_one_with(&self, other: &Self) -> bool {
        self.key == other.key && self.version.is_some() && other.version.is_some() && self.version != other.version
    }

    fn or_newer(&mut self, other: Self) {
        if other.version > self.version {
            *self = other;
        }
    }

    /// Adds it to a page.
    fn push(&self, page: &mut PageBuilder) -> Result<(), Fault> {
        page.push(|keys, rows| {
            keys.extend_from_slice(&self.key);
            rows.extend_from_slice(&self.row);
            Ok(())
        })
    }
}

/// The encoding of keys knows no unsigned numbers below 2^63.
fn declared(value: Value<'static>, kind: fides_core::Kind) -> Value<'static> {
    match (&value, kind) {
        (Value::I64(number), fides_core::Kind::U64) => u64::try_from(*number).map_or(value, Value::U64),
        _ => value,
    }
}
