//! The change feed as a log: every insertion and replacement, in the order of each partition; no deletion.
//!
//! A change's position is the second in which the server wrote it, then the time since then at which it was read. A record
//! has one partition, whose feed tells its states in their order, so that a later state has a greater position: of a
//! later second, or of the same one and read later. (A replica that takes a partition over may have a clock that is behind:
//! the seconds of a range never descend.) The same state read again, after a restart, has a greater position too, and is
//! written again.
//!
//! A place is a second: everything that was written up to it is read, once each range of the feed was found at its end after
//! that second had passed.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::time::OffsetDateTime;
use azure_data_cosmos::FeedScope;
use azure_data_cosmos::feed::ChangeFeedPageIterator;
use azure_data_cosmos::models::ChangeFeedItem;
use azure_data_cosmos::options::{ChangeFeedOptions, ChangeFeedStartFrom, MaxItemCountHint};
use fides_core::port::{Gap, Log, LogPage, Logged, Opened, What};
use fides_core::{Fault, Fingerprint, Key, RowCodec, Slices, Value, fingerprint};
use futures::StreamExt;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::account::Account;
use crate::clock::{Clock, SKEW_SECONDS, position, position_of, second};
use crate::document::Document;
use crate::fault::fault;
use crate::layout::GONE;
use crate::reading::Reading;

/// How often an idle feed is asked: each range costs a request unit.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often an idle log tells how far it is.
const TELL_EVERY: Duration = Duration::from_secs(5);

type Item = ChangeFeedItem<Box<RawValue>>;

/// A range of the container.
struct Feed {
    pages: Pin<Box<ChangeFeedPageIterator<Item>>>,
    /// The latest second of its changes.
    second: u64,
}

/// Opens the feed behind a place, or at its present end.
pub(crate) async fn open(account: &Arc<Account>, reading: Reading, after: Option<u64>) -> Result<Opened, Fault> {
    if after.is_some() {
        // The server tells whole seconds: a reader before this one may have had a clock that is a second further.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let clock = Clock::ask(account).await?;
    let now = position(clock.now().saturating_sub(SKEW_SECONDS));
    let from = after.unwrap_or(now);
    let gap = match after {
        None => Some(Gap::Missing("the change feed is read for the first time".to_owned())),
        Some(after) if second(after) > clock.now() + SKEW_SECONDS => {
            Some(Gap::Backward("the server's clock is before the place that was stored".to_owned()))
        }
        Some(_) => None,
    };
    // What was written at the same time on a machine whose clock is behind.
    let since = second(from).saturating_sub(SKEW_SECONDS);
    let feeds = feeds(&reading, since).await?;
    let rounds = Rounds { at: 0, began: clock.now(), ended: 0 };
    let log = ChangeFeed {
        account: account.clone(),
        reading,
        clock,
        since,
        feeds,
        rounds,
        place: from,
        told: Instant::now(),
        read_ms: 0,
    };
    Ok(Opened { log: Box::new(log), from, gap })
}

/// One reader for each range of the container.
async fn feeds(reading: &Reading, since: u64) -> Result<Vec<Feed>, Fault> {
    let what = format!("opening the change feed of container {}", reading.selection.namespace);
    let client = &reading.container.client;
    let ranges = client.read_feed_ranges(None).await.map_err(|error| fault(&what, &error))?;
    let seconds = i64::try_from(since).unwrap_or(i64::MAX);
    let start = OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| Fault::permanent(&what).because(error))?;
    let page = u32::try_from(reading.selection.page_records_max).ok().and_then(std::num::NonZeroU32::new);
    let mut feeds = Vec::with_capacity(ranges.len());
    for range in ranges {
        let options = ChangeFeedOptions::default()
            .with_max_item_count(page.map_or(MaxItemCountHint::ServerDecides, MaxItemCountHint::Limit));
        let from = ChangeFeedStartFrom::PointInTime(start);
        let feed = client.query_change_feed(FeedScope::range(range), from, Some(options)).await;
        feeds.push(Feed { pages: Box::pin(feed.map_err(|error| fault(&what, &error))?), second: 0 });
    }
    Ok(feeds)
}

struct ChangeFeed {
    account: Arc<Account>,
    reading: Reading,
    clock: Clock,
    /// Changes of earlier seconds were asked for by nobody.
    since: u64,
    feeds: Vec<Feed>,
    rounds: Rounds,
    /// Everything up to here is on pages that were handed over.
    place: u64,
    told: Instant,
    /// When the last page was read, on the server's clock; ascends with every page.
    read_ms: u64,
}

/// Which range is asked next, and what a whole round proves.
struct Rounds {
    at: usize,
    /// The server's time when the round began.
    began: u64,
    /// Ranges that were found at their end since.
    ended: usize,
}

#[async_trait]
impl Log for ChangeFeed {
    async fn next(&mut self) -> Result<LogPage, Fault> {
        loop {
            if self.feeds.is_empty() {
                return Err(Fault::transient("the container has no ranges"));
            }
            let at = self.rounds.at % self.feeds.len();
            let what = || format!("reading the change feed of container {}", self.reading.selection.namespace);
            tokio::time::sleep_until(self.reading.container.pace.free_at()).await;
            let page = match self.feeds[at].pages.next().await {
                Some(Ok(page)) => page,
                Some(Err(error)) => {
                    self.reading.container.count_error(&error);
                    return Err(fault(&what(), &error));
                }
                None => return Err(Fault::transient(format!("{}: it ended", what()))),
            };
            self.reading.container.count(page.headers());
            if !page.items().is_empty() {
                let found = self.page(at, page.items())?;
                if !found.changes.is_empty() {
                    return Ok(found);
                }
                continue;
            }
            if let Some(page) = self.ended().await? {
                return Ok(page);
            }
        }
    }

    /// A feed keeps what it has for nobody.
    async fn release(&mut self, _place: u64) -> Result<(), Fault> {
        Ok(())
    }
}

impl ChangeFeed {
    /// A range is at its end. When all were, since the round began, everything of the time before has been read.
    async fn ended(&mut self) -> Result<Option<LogPage>, Fault> {
        self.rounds.at += 1;
        self.rounds.ended += 1;
        if self.rounds.ended < self.feeds.len() {
            return Ok(None);
        }
        self.place = self.place.max(position(self.rounds.began.saturating_sub(SKEW_SECONDS)));
        if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            self.rounds = Rounds { at: 0, began: self.clock.now(), ended: 0 };
            return Ok(Some(self.page(0, &[])?));
        }
        tokio::time::sleep(LOOK_EVERY).await;
        if self.clock.is_old() {
            self.clock = Clock::ask(&self.account).await?;
        }
        self.rounds = Rounds { at: 0, began: self.clock.now(), ended: 0 };
        Ok(None)
    }

    /// What a page of range `at` tells. A record is on a page once.
    fn page(&mut self, at: usize, items: &[Item]) -> Result<LogPage, Fault> {
        self.read_ms = self.clock.millis().max(self.read_ms + 1);
        let (mut changes, mut rows, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let mut fingerprints: Vec<Fingerprint> = Vec::new();
        let namespace = self.reading.selection.namespace.clone();
        let place = |fault: Fault| fault.at(format_args!("container {namespace}"));
        for item in items.iter().filter_map(ChangeFeedItem::current) {
            let document = Document::parse(item.get()).map_err(place)?;
            let written = written(&document);
            if written < self.since {
                continue;
            }
            let record = self.reading.record(item.get()).map_err(place)?;
            let key = Key::from_bytes(record.key);
            let what = if document.get(GONE).is_some() {
                What::Gone(key)
            } else {
                rows.extend_from_slice(&record.row);
                ends.push(rows.len());
                fingerprints.push(fingerprint(&record.row, self.reading.selection.seed));
                What::Row { key, at: ends.len() - 1 }
            };
            self.feeds[at].second = self.feeds[at].second.max(written);
            changes.push(Logged { position: position_of(self.feeds[at].second, self.read_ms), sequence: 1, what });
        }
        Ok(LogPage {
            changes,
            rows: Slices::new(rows.into(), ends),
            fingerprints,
            decoder: Arc::new(RowCodec),
            place: self.place,
        })
    }
}

/// The second in which a document was written.
fn written(document: &Document<'_>) -> u64 {
    match document.get("_ts") {
        Some(Value::I64(seconds)) => u64::try_from(*seconds).unwrap_or_default(),
        _ => 0,
    }
}
