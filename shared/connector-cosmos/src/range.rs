//! One range of a container's change feed.

use std::pin::Pin;

use azure_core::time::OffsetDateTime;
use azure_data_cosmos::FeedScope;
use azure_data_cosmos::feed::{ChangeFeedPageIterator, ContinuationToken, FeedRange};
use azure_data_cosmos::models::ChangeFeedItem;
use azure_data_cosmos::options::{ChangeFeedOptions, ChangeFeedStartFrom, MaxItemCountHint};
use fides_core::Fault;
use futures::StreamExt;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::fault::fault;
use crate::patience::Patience;
use crate::progress::Progress;
use crate::reading::Reading;

pub(crate) type Item = ChangeFeedItem<Box<RawValue>>;
type Pages = Pin<Box<ChangeFeedPageIterator<Item>>>;

pub(crate) struct Range {
    pub range: FeedRange,
    start: OffsetDateTime,
    /// None when its last request failed: the driver's iterator is over then.
    pages: Option<Pages>,
    /// Where the next request begins.
    token: Option<ContinuationToken>,
    /// Of its own requests: that another range answers says nothing of this one.
    pub patience: Patience,
    pub progress: Progress,
    /// When it is asked again.
    pub free_at: Instant,
}

impl Range {
    pub async fn open(reading: &Reading, range: FeedRange, start: OffsetDateTime) -> Result<Self, Fault> {
        let pages = pages(reading, &range, start, None).await?;
        Ok(Self {
            range,
            start,
            pages: Some(pages),
            token: None,
            patience: Patience::default(),
            progress: Progress::default(),
            free_at: Instant::now(),
        })
    }

    /// What it tells next, in the server's second `now`; nothing at its end. After a fault it goes on with what it told last.
    pub async fn ask(&mut self, reading: &Reading, now: u64) -> Result<Vec<Item>, Fault> {
        let open = match &mut self.pages {
            Some(open) => open,
            closed => closed.insert(pages(reading, &self.range, self.start, self.token.clone()).await?),
        };
        // Before the request: a page that came and was not understood is not passed over. There is none while one is under
        // way, which began where the one does that is kept.
        if let Ok(token) = open.to_continuation_token() {
            self.token = Some(token);
            self.progress.asks(now);
        }
        let failed = match open.next().await {
            Some(Ok(page)) => {
                reading.container.count(page.headers());
                return Ok(page.into_items());
            }
            Some(Err(error)) => {
                reading.container.count_error(&error);
                fault(&what(reading), &error)
            }
            None => Fault::transient(format!("{}: it ended", what(reading))),
        };
        self.pages = None;
        Err(failed)
    }
}

fn what(reading: &Reading) -> String {
    format!("reading the change feed of container {}", reading.selection.namespace)
}

async fn pages(
    reading: &Reading,
    range: &FeedRange,
    start: OffsetDateTime,
    token: Option<ContinuationToken>,
) -> Result<Pages, Fault> {
    let page = u32::try_from(reading.selection.page_records_max).ok().and_then(std::num::NonZeroU32::new);
    let mut options = ChangeFeedOptions::default()
        .with_max_item_count(page.map_or(MaxItemCountHint::ServerDecides, MaxItemCountHint::Limit));
    if let Some(token) = token {
        options = options.with_continuation_token(token);
    }
    let from = ChangeFeedStartFrom::PointInTime(start);
    let pages = reading.container.client.query_change_feed(FeedScope::range(range.clone()), from, Some(options)).await;
    Ok(Box::pin(pages.map_err(|error| fault(&what(reading), &error))?))
}
