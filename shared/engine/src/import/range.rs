//! The loop over the pages of one range.

use fides_core::port::Expect;
use fides_core::{Fault, Key, KeyRange, Origin, Page};
use serde::{Deserialize, Serialize};

use super::compare::work_of;
use super::run::Mode;
use super::snapshots::Snapshots;
use crate::{Counts, Mapping, Pipeline, Progress, persisted, publisher, spool};

/// The durable state of one range of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RangeState {
    lower: Option<Vec<u8>>,
    upper: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
    /// Whether the listing came to its proven end.
    pub(crate) complete: bool,
    /// What the range has done so far.
    pub(crate) counts: Counts,
}

impl RangeState {
    pub(super) fn new(range: &KeyRange) -> Self {
        let bytes = |key: &Option<Key>| key.as_ref().map(|key| key.as_bytes().to_vec());
        Self {
            lower: bytes(&range.lower),
            upper: bytes(&range.upper),
            after: None,
            complete: false,
            counts: Counts::default(),
        }
    }

    fn range(&self) -> KeyRange {
        let key = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(Key::from_bytes);
        KeyRange { lower: key(&self.lower), upper: key(&self.upper) }
    }

    fn after(&self) -> Option<Key> {
        self.after.as_deref().map(Key::from_bytes)
    }
}

/// One range being read.
pub(super) struct RangeReader<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) progress: &'a Progress,
    pub(super) snapshots: &'a Snapshots<'a>,
    pub(super) run: &'a str,
    pub(super) mode: Mode,
    /// Key of the range's state entry.
    pub(super) entry: String,
}

impl RangeReader<'_> {
    /// Reads the range from its cursor to its end. The next page is read while one is compared and published.
    pub(super) async fn run(&self) -> Result<(), Fault> {
        let state = &*self.pipeline.backplane.state;
        let (mut at, mut revision) = persisted::load::<RangeState>(state, &self.entry)
            .await?
            .ok_or_else(|| Fault::permanent(format!("state entry {} is missing", self.entry)))?;
        if at.complete {
            return Ok(());
        }
        let range = at.range();
        let mut page = self.read(&range, at.after().as_ref()).await?;
        loop {
            let next = page.next.clone();
            let ahead = async {
                match &next {
                    Some(after) => self.read(&range, Some(after)).await.map(Some),
                    None => Ok(None),
                }
            };
            let after = at.after();
            let (counts, ahead) = futures::join!(self.publish(&range, after.as_ref(), &page), ahead);
            let counts = counts?;
            at.counts.add(&counts);
            at.after = next.as_ref().map(|key| key.as_bytes().to_vec()).or(at.after);
            at.complete = next.is_none();
            // L3: everything of this page is confirmed; only now the cursor moves.
            revision = persisted::store(state, &self.entry, &at, Expect::Revision(revision))
                .await?
                .ok_or_else(|| persisted::lost_race(&self.entry))?;
            self.progress.count(&counts);
            match ahead? {
                Some(read) => page = read,
                None => return Ok(()),
            }
        }
    }

    async fn read(&self, range: &KeyRange, after: Option<&Key>) -> Result<Page, Fault> {
        let page = async { self.snapshots.current().await?.scan(range, after).await };
        page.await.inspect_err(|_| self.progress.host_failed())
    }

    /// Compares a page, publishes what changed and spools what was not met. Returns once all of it is confirmed.
    async fn publish(&self, range: &KeyRange, after: Option<&Key>, page: &Page) -> Result<Counts, Fault> {
        let pipeline = self.pipeline;
        let hashes = &*pipeline.backplane.hashes;
        let mut work = work_of(hashes, &pipeline.id, range, after, page).await?;
        Progress::add(&self.progress.summarised, work.summarised);
        if self.mode == Mode::Full {
            work.changed = (0..page.len()).collect();
            (work.unchanged, work.dead) = (0, 0);
        }
        hashes.summarise(&pipeline.id, &work.summaries).await?;
        let forced = self.mode == Mode::Full;
        let mut mapping = Mapping::new(&*pipeline.mapper, &pipeline.selection, &pipeline.limits);
        // In portions of about two messages a lane, so that what is in memory does not grow with the page.
        let limits = &pipeline.limits;
        let portion = (2 * limits.batch_records_max * usize::from(limits.lanes)).max(1);
        for portion in work.changed.chunks(portion) {
            let changes = portion.iter().map(|&at| mapping.change(page, at, forced)).collect();
            publisher::publish(pipeline, pipeline.shape(), Origin::Import, changes).await?;
        }
        let unmet: Vec<Key> = work.unmet.into_iter().map(|(key, _)| key).collect();
        spool::put(pipeline, self.run, &unmet).await?;
        Ok(Counts {
            read: page.len() as u64,
            unchanged: work.unchanged as u64,
            still_dead: work.dead as u64,
            published: work.changed.len() as u64,
            deletions: 0,
        })
    }
}
