//! The change feed as a log: every insertion and replacement, in the order of each partition; no deletion.
//!
//! A change's position is the second in which the server wrote it, then the time since then at which it was read. A record
//! has one partition, whose feed tells its states in their order, so that a later state has a greater position: of a
//! later second, or of the same one and read later. (A replica that takes a partition over may have a clock that is behind:
//! the seconds of a range never descend.) The same state read again, after a restart, has a greater position too, and is
//! written again.
//!
//! A place is a second: everything that was written up to it is read, once each range of the feed was found at its end after
//! that second had passed, or told something later that was written since the feed was opened. A range that is split
//! meanwhile goes on as its children, one after the other, and the end of one says nothing of the others: a place is told
//! only while the ranges are those that were opened.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::time::OffsetDateTime;
use azure_data_cosmos::feed::FeedRange;
use azure_data_cosmos::models::ChangeFeedItem;
use azure_data_cosmos::options::ReadFeedRangesOptions;
use fides_core::port::{Gap, Log, LogPage, Logged, Opened, What};
use fides_core::{Fault, Fingerprint, Key, RowCodec, Slices, Value, fingerprint};
use tokio::time::Instant;

use crate::account::Account;
use crate::clock::{Clock, SKEW_SECONDS, position, position_of, second};
use crate::document::Document;
use crate::fault::fault;
use crate::layout::GONE;
use crate::patience::Patience;
use crate::range::{Item, Range};
use crate::reading::Reading;

/// How often an idle feed is asked: each range costs a request unit.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a log tells how far it is: each time takes a look at the container's ranges.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Opens the feed behind a place, or at its present end.
pub(crate) async fn open(account: &Arc<Account>, reading: Reading, after: Option<u64>) -> Result<Opened, Fault> {
    let clock = Clock::ask(account).await?;
    if after.is_some() {
        // What a reader before this one told of a second in which a record is changed again must not have the greater position.
        tokio::time::sleep(clock.behind_max).await;
    }
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
    let log = ChangeFeed {
        account: account.clone(),
        reading,
        clock,
        opened: clock.now(),
        since,
        feeds,
        at: 0,
        place: from,
        told: Instant::now(),
        telling: Patience::default(),
        read_ms: 0,
    };
    Ok(Opened { log: Box::new(log), from, gap })
}

/// One reader for each range of the container.
async fn feeds(reading: &Reading, since: u64) -> Result<Vec<Range>, Fault> {
    let what = format!("opening the change feed of container {}", reading.selection.namespace);
    let ranges = ranges(reading).await?;
    if ranges.is_empty() {
        return Err(Fault::transient(format!("{what}: it has no ranges")));
    }
    let seconds = i64::try_from(since).unwrap_or(i64::MAX);
    let start = OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| Fault::permanent(&what).because(error))?;
    let mut feeds = Vec::with_capacity(ranges.len());
    for range in ranges {
        feeds.push(Range::open(reading, range, start).await?);
    }
    Ok(feeds)
}

/// The container's ranges as they are now; where that cannot be read, as the driver remembers them, which goes on with the
/// children of a range only once it does.
async fn ranges(reading: &Reading) -> Result<Vec<FeedRange>, Fault> {
    let options = ReadFeedRangesOptions::default().with_force_refresh(true);
    let ranges = reading.container.client.read_feed_ranges(Some(options)).await;
    ranges.map_err(|error| fault(&format!("reading the ranges of container {}", reading.selection.namespace), &error))
}

struct ChangeFeed {
    account: Arc<Account>,
    reading: Reading,
    clock: Clock,
    /// The server's second in which the feed was opened.
    opened: u64,
    /// Changes of earlier seconds were asked for by nobody.
    since: u64,
    feeds: Vec<Range>,
    /// The range that was asked last.
    at: usize,
    /// Everything up to here is on pages that were handed over.
    place: u64,
    told: Instant,
    /// Of looking at the ranges.
    telling: Patience,
    /// When the last page was read, on the server's clock; ascends with every page.
    read_ms: u64,
}

#[async_trait]
impl Log for ChangeFeed {
    async fn next(&mut self) -> Result<LogPage, Fault> {
        loop {
            if self.told.elapsed() >= TELL_EVERY
                && let Some(page) = self.tell().await?
            {
                return Ok(page);
            }
            let at = self.turn();
            tokio::time::sleep_until(self.feeds[at].free_at.max(self.reading.container.pace.free_at())).await;
            let items = self.ask(at).await?;
            let page = self.page(at, &items)?;
            if !page.changes.is_empty() {
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
    /// The next range, so that a busy one leaves the others their turns; one that was at its end has none for a while.
    fn turn(&self) -> usize {
        let (now, ranges) = (Instant::now(), self.feeds.len());
        let mut others = (1..=ranges).map(|step| (self.at + step) % ranges);
        let first = others.clone().min_by_key(|&at| self.feeds[at].free_at);
        others.find(|&at| self.feeds[at].free_at <= now).or(first).unwrap_or_default()
    }

    /// What a range tells next; nothing where it is at its end, or has to be asked again. To open all of them anew would read
    /// everything behind the place again, and never get on where faults are frequent.
    async fn ask(&mut self, at: usize) -> Result<Vec<Item>, Fault> {
        let (now, range) = (self.clock.now(), &mut self.feeds[at]);
        match range.ask(&self.reading, now).await {
            Ok(items) => {
                (self.at, range.patience) = (at, Patience::default());
                if items.is_empty() {
                    range.progress.ended();
                    range.free_at = Instant::now() + LOOK_EVERY;
                }
                Ok(items)
            }
            Err(fault) => {
                tracing::debug!(%fault, "a range of the change feed is asked again");
                range.free_at = Instant::now() + range.patience.wait(fault)?;
                Ok(Vec::new())
            }
        }
    }

    /// How far all ranges are read, though none of them be at its end. `None` when they could not be looked at now.
    async fn tell(&mut self) -> Result<Option<LogPage>, Fault> {
        // After the answers that it says something of.
        match ranges(&self.reading).await {
            Ok(now) => self.refuse_other_ranges(&now)?,
            Err(fault) => {
                tokio::time::sleep(self.telling.wait(fault)?).await;
                return Ok(None);
            }
        }
        self.telling = Patience::default();
        let read_to = self.feeds.iter().map(|range| range.progress.read_to()).min().unwrap_or_default();
        self.place = self.place.max(position(read_to.saturating_sub(SKEW_SECONDS)));
        self.told = Instant::now();
        if self.clock.is_old() {
            match Clock::ask(&self.account).await {
                Ok(clock) => self.clock = clock,
                Err(fault) => tracing::debug!(%fault, "the server's clock is asked again when the next place is told"),
            }
        }
        self.page(0, &[]).map(Some)
    }

    /// The driver goes on with the children of a range that was split, and tells the end of one as if it were that of the
    /// range. What the others still hold would be before the place, and lost to whoever begins there.
    fn refuse_other_ranges(&self, now: &[FeedRange]) -> Result<(), Fault> {
        if now.len() == self.feeds.len() && self.feeds.iter().all(|feed| now.contains(&feed.range)) {
            return Ok(());
        }
        Err(Fault::transient(format!(
            "the ranges of container {} were split or merged: its change feed is opened anew",
            self.reading.selection.namespace
        )))
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
            let second = self.feeds[at].progress.told(written, self.opened);
            let what = if document.get(GONE).is_some() {
                // What cannot be told is left to a clean-up.
                let Some(key) = self.reading.gone(&document) else { continue };
                What::Gone(key)
            } else {
                let record = self.reading.record(item.get()).map_err(place)?;
                rows.extend_from_slice(&record.row);
                ends.push(rows.len());
                fingerprints.push(fingerprint(&record.row, self.reading.selection.seed));
                What::Row { key: Key::from_bytes(record.key), at: ends.len() - 1 }
            };
            changes.push(Logged { position: position_of(second, self.read_ms), sequence: 1, what });
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
