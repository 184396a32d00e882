//! The port's log: pages of changes, as soon as there are any.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use fides_core::Fault;
use fides_core::port::{Log, LogPage};
use futures::FutureExt;
use pgwire_replication::{Lsn, PgWireError, ReplicationClient, ReplicationEvent};
use tokio::time::Instant;

use super::batch::{Entry, Found, Nested, Pending};
use super::collect::Collector;
use super::fetch::Fetcher;
use super::publication;
use crate::connect::Session;
use crate::fault::of_replication;
use crate::quote;
use crate::rewritten;

/// Bytes of rows on a page; a page ends after the row that reaches it.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// Records that are fetched for one page.
const PAGE_FETCHES_MAX: usize = 512;
/// How long a page waits for the rest of a transaction.
const REST_MS: u64 = 2;
/// How often the tables are looked at, while there is something in the log.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often a place is told that no change of ours led to.
const PLACE_MS: u64 = 1_000;

/// A log that is being read. Dropping it ends its connection; the slot stays.
pub(super) struct PostgresLog {
    pub(super) client: ReplicationClient,
    pub(super) collector: Collector,
    pub(super) fetcher: Fetcher,
    pub(super) slot: String,
    pub(super) records_max: usize,
    /// The place that was told last, and when.
    told: (u64, Instant),
    /// Nothing is read any more; said when everything before it was handed over.
    broken: Option<Fault>,
    /// Whether the batch was cut: its rest comes before anything new is read.
    is_cut: bool,
    /// When the tables were looked at last.
    looked: Instant,
    /// Whether changes were handed over before the end of their transaction: then its place is told at once.
    is_owed: bool,
}

impl PostgresLog {
    pub(super) fn new(
        client: ReplicationClient,
        collector: Collector,
        fetcher: Fetcher,
        slot: String,
        records_max: usize,
    ) -> Self {
        let told = (collector.place, Instant::now());
        Self {
            client,
            collector,
            fetcher,
            slot,
            records_max,
            told,
            broken: None,
            is_cut: false,
            looked: told.1,
            is_owed: false,
        }
    }

    fn is_full(&self) -> bool {
        self.is_cut || self.collector.batch.is_full(self.records_max, PAGE_BYTES_MAX, self.fetches_max())
    }

    fn fetches_max(&self) -> usize {
        PAGE_FETCHES_MAX.min(self.records_max)
    }

    /// Whether the tables are still those of the names, and published: of another table that took a name nothing comes,
    /// without a word.
    async fn look(&self) -> Result<(), Fault> {
        let mut session = self.fetcher.session().await?;
        let tables = &self.collector.tables;
        let same = tables.are_those(session.connection()).await?
            && publication::lacking(session.connection(), &self.slot, tables).await?.is_none();
        session.give_back();
        if same {
            return Ok(());
        }
        Err(Fault::transient(format!(
            "replication slot {}: a table was replaced by another, or is not published any more",
            self.slot
        )))
    }

    /// Reads until there is a page, or a place to tell.
    async fn gather(&mut self) -> Result<(), Fault> {
        while !self.is_full() {
            if let Some(mismatch) = &self.collector.mismatch {
                return Err(self.fetcher.explain(mismatch, &self.slot).await);
            }
            let event = if !self.collector.batch.entries.is_empty() {
                // A page is not waited for.
                match self.ready().await {
                    Some(event) => event,
                    None => return Ok(()),
                }
            } else if self.collector.place > self.told.0 {
                let until = self.told.1 + Duration::from_millis(PLACE_MS);
                // Said here, too: where other tables are busy there is always an event.
                if self.is_owed || Instant::now() >= until {
                    return Ok(());
                }
                match tokio::time::timeout_at(until, self.client.recv()).await {
                    Ok(event) => event,
                    Err(_) => return Ok(()),
                }
            } else {
                self.client.recv().await
            };
            self.take(event)?;
        }
        Ok(())
    }

    /// An event that was received already, or that the connection's task has ready as soon as it runs. Inside a
    /// transaction the next one is on its way: the server sends only what was committed.
    async fn ready(&mut self) -> Option<Result<Option<ReplicationEvent>, PgWireError>> {
        for _ in 0..2 {
            // Tokio's budget would say "not ready" in the middle of what is.
            if let Some(event) = tokio::task::unconstrained(self.client.recv()).now_or_never() {
                return Some(event);
            }
            tokio::task::yield_now().await;
        }
        if !self.collector.is_inside() {
            return None;
        }
        tokio::time::timeout(Duration::from_millis(REST_MS), self.client.recv()).await.ok()
    }

    fn take(&mut self, event: Result<Option<ReplicationEvent>, PgWireError>) -> Result<(), Fault> {
        let what = || format!("reading replication slot {}", self.slot);
        match event {
            Ok(Some(event)) => self.collector.take(event),
            Ok(None) => Err(Fault::transient(format!("{}: the server ended the connection", what()))),
            // The slot is older than its publication: somebody dropped that and made it anew.
            Err(PgWireError::Server(text)) if text.contains("42704") && text.contains("publication") => {
                Err(Fault::permanent(format!("{}: {text}", what())).advise(format!(
                    "run: SELECT pg_drop_replication_slot({}); it is made anew, and an import finds what it missed",
                    quote::text(&self.slot)
                )))
            }
            Err(error) => Err(of_replication(&what(), &error)),
        }
    }

    /// A page of what was gathered. Everything that was found out so far stays when this is cancelled.
    async fn page(&mut self) -> Result<LogPage, Fault> {
        let mut count = self.collector.batch.entries.len().min(self.records_max);
        let mut found = None;
        if self.collector.batch.fetches > 0 {
            let mut session = self.fetcher.session().await?;
            let label = self.fetcher.begin(&mut session, &self.collector.batch.transactions).await?;
            count = self.resolve(&mut session).await?;
            let wanted = self.collector.batch.wanted(count);
            if !wanted.is_empty() {
                let records = self.fetcher.fetch(&mut session, wanted).await?;
                // Where the log also tells rows, these have its order, and so has what is fetched beside them.
                found = Some(Found { records, label: self.collector.nests.then_some(label) });
            }
            // What was looked up and not found is gone, and no table that looked empty (L8).
            rewritten::refuse(session.connection(), &self.collector.lines.place).await?;
            session.roll_back().await;
        }
        self.is_cut = count < self.collector.batch.entries.len();
        // What is behind the cut is not on this page.
        let place = if self.is_cut { self.told.0 } else { self.collector.place };
        self.told = (place, Instant::now());
        self.is_owed = self.collector.is_inside();
        Ok(self.collector.batch.take(count, found.as_ref(), &self.collector.lines, place))
    }

    /// Finds the roots of changes in included tables. Returns how many changes make a page: where a change has very many
    /// roots (a category that all products name), the page ends in the middle of them.
    async fn resolve(&mut self, session: &mut Session) -> Result<usize, Fault> {
        let fetches_max = self.fetches_max();
        let batch = &mut self.collector.batch;
        let mut latest: HashMap<Nested, usize> = HashMap::new();
        let roots = batch.entries.iter().enumerate().filter_map(|(at, entry)| match &entry.what {
            Pending::Roots(nested, _) => Some((nested.clone(), at)),
            _ => None,
        });
        latest.extend(roots);
        let mut resolved = Vec::with_capacity(latest.len());
        resolved.extend(latest.into_values());
        resolved.sort_unstable();
        // One of several changes of the same record of an included table is enough: what is fetched has seen them all.
        let mut at = 0;
        batch.entries.retain(|entry| {
            at += 1;
            !matches!(entry.what, Pending::Roots(..)) || resolved.binary_search(&(at - 1)).is_ok()
        });
        let (mut at, mut fetches) = (0, 0);
        while let Some(entry) = batch.entries.get(at).filter(|_| at < self.records_max) {
            let Pending::Roots(nested, after) = &entry.what else {
                fetches += usize::from(entry.is_fetched());
                at += 1;
                continue;
            };
            let Some(keys_max) = fetches_max.checked_sub(fetches).filter(|max| *max > 0) else { break };
            let path = &self.collector.tables.0[nested.table].paths[nested.path];
            let condition = path.condition(&nested.values);
            let keys = self.fetcher.roots(session, &condition, after.as_ref(), keys_max).await?;
            let (position, sequence, nested) = (entry.position, entry.sequence, nested.clone());
            let more = (keys.len() >= keys_max).then(|| keys.last().cloned()).flatten();
            let found = keys.into_iter().map(Pending::Fetch);
            let rest = more.map(|last| Pending::Roots(nested, Some(last)));
            let entries = found.chain(rest).map(|what| Entry { position, sequence, what });
            batch.entries.splice(at..=at, entries.collect::<Vec<_>>());
        }
        Ok(at)
    }
}

#[async_trait]
impl Log for PostgresLog {
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

    async fn release(&mut self, place: u64) -> Result<(), Fault> {
        // Never backward: the connection keeps the highest.
        self.client.update_applied_lsn(Lsn(place));
        if self.looked.elapsed() >= LOOK_EVERY {
            self.look().await?;
            self.looked = Instant::now();
        }
        Ok(())
    }
}
