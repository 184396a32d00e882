//! The port's log: pages of changes, as soon as there are any.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use fides_core::Fault;
use fides_core::port::{Log, LogPage};
use fides_core::{PageBuilder, Version};
use futures::FutureExt;
use tokio::time::Instant;

use super::batch::{Entry, Nested, Pending};
use super::collect::Collector;
use super::fetch::Fetcher;
use super::stream::{Events, Head};
use crate::connect::Session;

/// How long a page waits for the rest of a transaction.
const REST_MS: u64 = 2;
/// How often a place is told that no change of ours led to.
const PLACE_MS: u64 = 1_000;

/// A log that is being read. Dropping it ends its connection; the server keeps nothing for it.
pub(super) struct MySqlLog {
    events: Events,
    collector: Collector,
    fetcher: Fetcher,
    records_max: usize,
    /// The place that was told last, and when.
    told: (u64, Instant),
    /// Nothing is read any more; said when everything before it was handed over.
    broken: Option<Fault>,
    /// Whether the batch was cut: its rest comes before anything new is read.
    is_cut: bool,
    /// Whether changes were handed over before the end of their transaction: then its place is told at once.
    is_owed: bool,
}

impl MySqlLog {
    pub(super) fn new(events: Events, collector: Collector, fetcher: Fetcher, records_max: usize) -> Self {
        let told = (collector.place, Instant::now());
        Self { events, collector, fetcher, records_max, told, broken: None, is_cut: false, is_owed: false }
    }

    fn page_max(&self) -> usize {
        self.fetcher.fetches_max.min(self.records_max).max(1)
    }

    /// Whether what was read is a page. What comes behind a table's new definition is read by that.
    fn is_full(&self) -> bool {
        let count = self.collector.batch.entries.len();
        self.is_cut || count >= self.page_max() || (self.collector.is_redefined && count > 0)
    }

    /// Reads until there is a page, or a place to tell.
    async fn gather(&mut self) -> Result<(), Fault> {
        while !self.is_full() {
            if self.collector.is_redefined {
                self.look().await?;
            }
            let (head, body) = if !self.collector.batch.entries.is_empty() {
                // A page is not waited for.
                match self.ready().await {
                    Some(event) => event?,
                    None => return Ok(()),
                }
            } else if self.collector.place > self.told.0 {
                let until = self.told.1 + Duration::from_millis(PLACE_MS);
                // Said here, too: where other tables are busy there is always an event.
                if self.is_owed || Instant::now() >= until {
                    return Ok(());
                }
                match tokio::time::timeout_at(until, self.events.next()).await {
                    Ok(event) => event?,
                    Err(_) => return Ok(()),
                }
            } else {
                self.events.next().await?
            };
            self.collector.take(head, &body)?;
        }
        Ok(())
    }

    /// Looks the tables up that were defined anew. One that is gone may come back under its name: that is told as well.
    async fn look(&mut self) -> Result<(), Fault> {
        match self.fetcher.reopen().await? {
            Some(tables) => self.collector.redefine(tables),
            None => self.collector.is_redefined = false,
        }
        Ok(())
    }

    /// An event that was received already. Inside a transaction the next one is on its way: the server sends only what was
    /// committed.
    async fn ready(&mut self) -> Option<Result<(Head, Vec<u8>), Fault>> {
        // Tokio's budget would say "not ready" in the middle of what is.
        if let Some(event) = tokio::task::unconstrained(self.events.next()).now_or_never() {
            return Some(event);
        }
        if !self.collector.is_inside() {
            return None;
        }
        tokio::time::timeout(Duration::from_millis(REST_MS), self.events.next()).await.ok()
    }

    /// A page of what was gathered. Everything that was found out so far stays when this is cancelled.
    async fn page(&mut self) -> Result<LogPage, Fault> {
        let mut count = self.collector.batch.entries.len().min(self.records_max);
        let seed = self.fetcher.reading.selection.seed;
        let mut found = PageBuilder::new(seed).finish(Version::default(), self.fetcher.reading.cells.clone(), false);
        let mut seen = 0;
        if self.collector.batch.needs_look() {
            let (mut state, at) = self.fetcher.state(self.collector.batch.latest()).await?;
            seen = at;
            count = self.resolve(&mut state).await?;
            let wanted = self.collector.batch.wanted(count);
            if !wanted.is_empty() {
                found = self.fetcher.fetch(&mut state, &wanted).await?;
            }
            state.roll_back().await;
        }
        self.is_cut = count < self.collector.batch.entries.len();
        // What is behind the cut is not on this page.
        let place = if self.is_cut { self.told.0 } else { self.collector.place };
        self.told = (place, Instant::now());
        self.is_owed = self.collector.is_inside();
        Ok(self.collector.batch.take(count, found, seen, place))
    }

    /// Finds the roots of changes in included tables. Returns how many changes make a page: where a change has very many
    /// roots (a category that all products name), the page ends in the middle of them.
    async fn resolve(&mut self, state: &mut Session) -> Result<usize, Fault> {
        let page_max = self.page_max();
        let batch = &mut self.collector.batch;
        // One of several changes of the same record of an included table is enough: what is fetched has seen them all.
        let mut latest: HashMap<&Nested, usize> = HashMap::new();
        for (at, entry) in batch.entries.iter().enumerate() {
            if let Pending::Roots(nested, _) = &entry.what {
                latest.insert(nested, at);
            }
        }
        let mut latest: Vec<usize> = latest.into_values().collect();
        latest.sort_unstable();
        let mut at = 0;
        batch.entries.retain(|entry| {
            at += 1;
            !matches!(entry.what, Pending::Roots(..)) || latest.binary_search(&(at - 1)).is_ok()
        });
        let mut at = 0;
        while let Some(entry) = batch.entries.get_mut(at).filter(|_| at < page_max) {
            let Pending::Roots(nested, after) = &entry.what else {
                at += 1;
                continue;
            };
            let path = &self.collector.tables.0[nested.table].paths[nested.path];
            if let Some(key) = path.key(&nested.values) {
                entry.what = Pending::Changed(key);
                continue;
            }
            let (condition, keys_max) = (path.condition(&nested.values), page_max - at);
            let reading = &self.fetcher.reading;
            let keys = reading.keys(state.connection(), &condition, after.as_ref(), keys_max).await?;
            let (position, sequence, nested) = (entry.position, entry.sequence, nested.clone());
            let more = (keys.len() >= keys_max).then(|| keys.last().cloned()).flatten();
            let found = keys.into_iter().map(Pending::Changed);
            let rest = more.map(|last| Pending::Roots(nested, Some(last)));
            let entries = found.chain(rest).map(|what| Entry { position, sequence, what });
            batch.entries.splice(at..=at, entries.collect::<Vec<_>>());
        }
        Ok(at)
    }
}

#[async_trait]
impl Log for MySqlLog {
    async fn next(&mut self) -> Result<LogPage, Fault> {
        if self.broken.is_none()
            && let Err(fault) = self.gather().await
        {
            self.broken = Some(fault);
        }
        match &self.broken {
            Some(fault) if self.collector.batch.entries.is_empty() => Err(fault.clone()),
            _ => self.page().await,
        }
    }

    /// The server forgets its log by age and by size, whoever reads it.
    async fn release(&mut self, _place: u64) -> Result<(), Fault> {
        Ok(())
    }
}
