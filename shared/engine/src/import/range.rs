//! The loop over the pages of one range.

use fides_core::port::Expect;
use fides_core::{Change, Fault, Key, KeyRange, Mark, Op, Origin, Page, PipelineId};
use serde::{Deserialize, Serialize};
use tracing::{Instrument, Span};

use super::compare::Comparing;
use super::run::Mode;
use super::snapshots::Snapshots;
use crate::edit::{self, Edit};
use crate::lease::Held;
use crate::publishing::Worker;
use crate::spool::{self, Source};
use crate::{Counts, DeletePolicy, Mapping, Pipeline, Progress, Trace, extras, fence, persisted, publisher, trace};

/// Entries read from the state store at a time.
const LIST_MAX: usize = 256;

/// The durable state of one range of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RangeState {
    lower: Option<Vec<u8>>,
    upper: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
    /// Whoever began to read from the cursor; pages behind it may have been published.
    #[serde(default)]
    holder: Option<String>,
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
            holder: None,
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

/// The lease of whoever reads a range. Named by its place in the plan, not by the run: leases of readers that died are
/// few, and are used again.
pub(super) fn reading_lease(pipeline: &Pipeline, place: usize) -> String {
    format!("reading/{}/{place:05}", pipeline.id)
}

/// A page on its way from the host to the queue.
struct Taken {
    page: Page,
    /// What it is sent under.
    trace: Trace,
    span: Span,
}

/// One range being read.
pub(super) struct RangeReader<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) worker: &'a Worker,
    pub(super) snapshots: &'a Snapshots<'a>,
    pub(super) run: &'a str,
    pub(super) mode: Mode,
    /// Where the marks were made with another mapping.
    pub(super) edit: Option<&'a Edit<'a>>,
    /// Its place in the plan.
    pub(super) place: usize,
    /// Key of the range's state entry.
    pub(super) entry: String,
}

impl RangeReader<'_> {
    /// Reads the range to its end, unless somebody else is reading it. Returns whether it is complete.
    pub(super) async fn run(&self) -> Result<bool, Fault> {
        let state = &*self.pipeline.backplane.state;
        let lease = reading_lease(self.pipeline, self.place);
        let lease = Held::take(state, lease, &self.worker.holder, self.pipeline.limits.lease_ms).await?;
        let Some(lease) = lease else { return Ok(false) };
        let read = lease.during(self.read_to_end()).await;
        // Also after a fault: another process may be able to read it.
        lease.release().await;
        read.map(|()| true)
    }

    /// Reads from the cursor on. The next page is read while one is compared and published.
    async fn read_to_end(&self) -> Result<(), Fault> {
        let state = &*self.pipeline.backplane.state;
        let (mut at, mut revision) = persisted::load::<RangeState>(state, &self.entry)
            .await?
            .ok_or_else(|| Fault::transient(format!("state entry {} is gone: its run has ended", self.entry)))?;
        if at.complete {
            return Ok(());
        }
        if at.holder.replace(self.worker.holder.to_string()).is_some() {
            // L7: pages that an interrupted reader published without saving its cursor are compared again, and must
            // meet marks that know them.
            let before = fence::raise(self.pipeline).await?;
            fence::wait_settled(self.pipeline, before).await?;
        }
        revision = self.save(&at, revision).await?;
        let range = at.range();
        let mut taken = self.read(&range, at.after().as_ref()).await?;
        loop {
            let next = taken.page.next.clone();
            let ahead = async {
                match &next {
                    Some(after) => self.read(&range, Some(after)).await.map(Some),
                    None => Ok(None),
                }
            };
            let after = at.after();
            let (counts, ahead) = futures::join!(self.publish(&range, after.as_ref(), &taken), ahead);
            let counts = counts?;
            at.counts.add(&counts);
            at.after = next.as_ref().map(|key| key.as_bytes().to_vec()).or(at.after);
            at.complete = next.is_none();
            // L3: everything of this page is confirmed; only now the cursor moves.
            revision = self.save(&at, revision).await?;
            self.worker.progress.count(&counts);
            match ahead? {
                Some(read) => taken = read,
                None => return Ok(()),
            }
        }
    }

    async fn save(&self, at: &RangeState, revision: u64) -> Result<u64, Fault> {
        let saved = persisted::store(&*self.pipeline.backplane.state, &self.entry, at, Expect::Revision(revision));
        saved.await?.ok_or_else(|| persisted::lost_race(&self.entry))
    }

    async fn read(&self, range: &KeyRange, after: Option<&Key>) -> Result<Taken, Fault> {
        let trace = Trace::begin();
        let span = trace.producer(&self.pipeline.id, "import");
        let page = async { self.snapshots.current().await?.scan(range, after).await };
        let page = trace::told(&span, page.instrument(span.clone()).await);
        let page = page.inspect_err(|_| self.worker.progress.host_failed())?;
        span.record("read", page.len());
        Ok(Taken { page, trace, span })
    }

    /// Compares a page, publishes what changed and spools what was not met. Returns once all of it is confirmed.
    async fn publish(&self, range: &KeyRange, after: Option<&Key>, taken: &Taken) -> Result<Counts, Fault> {
        let Taken { page, trace, span } = taken;
        let counts = trace::told(span, self.send_changed(range, after, page, trace).instrument(span.clone()).await)?;
        span.record("sent", counts.published);
        Ok(counts)
    }

    async fn send_changed(
        &self,
        range: &KeyRange,
        after: Option<&Key>,
        page: &Page,
        trace: &Trace,
    ) -> Result<Counts, Fault> {
        let pipeline = self.pipeline;
        let hashes = &*pipeline.backplane.hashes;
        let mut mapping = Mapping::new(&*pipeline.mapper, &pipeline.selection, &pipeline.limits);
        let mut comparing = Comparing::begin(hashes, &pipeline.id, range, after, page).await?;
        let mut counts = Counts { read: page.len() as u64, ..Counts::default() };
        while let Some(work) = comparing.next().await? {
            if !work.summaries.is_empty() {
                hashes.summarise(&pipeline.id, &work.summaries).await?;
            }
            if self.mode == Mode::Delta {
                Progress::add(&self.worker.progress.summarised, work.summarised);
                counts.add(&self.send(trace, &mut mapping, page, &work.changed, Some(&work.known)).await?);
                counts.unchanged += work.unchanged as u64;
                counts.still_dead += work.dead as u64;
            }
            // What was written after this state was taken is not absent from it: it was not there yet.
            let unmet = work.unmet.into_iter().filter(|(_, mark)| mark.version <= page.version);
            let unmet: Vec<Key> = unmet.map(|(key, _)| key).collect();
            spool::put(pipeline, self.run, Source::Listing, &unmet).await?;
        }
        if self.mode == Mode::Full {
            counts.add(&self.send(trace, &mut mapping, page, &(0..page.len()).collect::<Vec<_>>(), None).await?);
        }
        Ok(counts)
    }

    /// Sends records of a page, in portions of about two messages a lane, so that what is in memory does not grow with it.
    /// `known` are their marks; without them all are sent, whatever their marks say.
    async fn send(
        &self,
        trace: &Trace,
        mapping: &mut Mapping<'_>,
        page: &Page,
        records: &[usize],
        known: Option<&[Option<Mark>]>,
    ) -> Result<Counts, Fault> {
        let (pipeline, limits) = (self.pipeline, &self.pipeline.limits);
        let forced = self.mode == Mode::Full;
        let portion = (2 * limits.batch_records_max * usize::from(limits.lanes)).max(1);
        let mut counts = Counts::default();
        for (at, records) in records.chunks(portion).enumerate() {
            let known = known.map(|known| &known[at * portion..][..records.len()]);
            let mut changes = records.iter().map(|&at| mapping.change(page, at, forced)).collect();
            if let Some(edit) = self.edit {
                // Rare, and large: an import without an edit does not carry it.
                changes = Box::pin(self.sort(edit, page, records, known, changes, &mut counts)).await?;
            } else if changes.iter().any(|change: &Change| change.op == Op::Delete) {
                changes = Box::pin(self.leave_out(known, changes)).await?;
            }
            counts.published += changes.len() as u64;
            publisher::publish_under(trace, pipeline, pipeline.shape(), Origin::Import, changes).await?;
        }
        Ok(counts)
    }

    /// Takes out deletions that may not be the host's: of records that the mapping leaves out, and whose marks do not tell
    /// whether it did so before. As after they were lost, it may be an edit that was refused: such are judged (L8).
    async fn leave_out(&self, known: Option<&[Option<Mark>]>, changes: Vec<Change>) -> Result<Vec<Change>, Fault> {
        let pipeline = self.pipeline;
        let read;
        let known = if let Some(known) = known {
            known
        } else {
            let keys: Vec<Key> = changes.iter().map(|change| change.key.clone()).collect();
            read = pipeline.backplane.hashes.get(&pipeline.id, &keys).await?;
            &read
        };
        let (send, judged) = edit::split(pipeline, changes, known).await?;
        // What is not known to be there may be: the next import must not take it for never written.
        extras::adopt(pipeline, &judged).await?;
        edit::spool(pipeline, self.run, &judged).await?;
        Ok(send)
    }

    /// What is to be sent of records after an edit of the mapping. The others only get another mark, or are spooled.
    async fn sort(
        &self,
        edit: &Edit<'_>,
        page: &Page,
        records: &[usize],
        known: Option<&[Option<Mark>]>,
        changes: Vec<Change>,
        counts: &mut Counts,
    ) -> Result<Vec<Change>, Fault> {
        let (pipeline, hashes) = (self.pipeline, &*self.pipeline.backplane.hashes);
        let sorted = if let Some(known) = known {
            edit.sort(true, page, records, known, changes).await?
        } else {
            // Everything is sent, but what the edit leaves out.
            let (left_out, mut send): (Vec<_>, Vec<_>) =
                records.iter().copied().zip(changes).partition(|(_, change)| change.op == Op::Delete);
            let (records, left_out): (Vec<usize>, Vec<Change>) = left_out.into_iter().unzip();
            let keys: Vec<Key> = left_out.iter().map(|change| change.key.clone()).collect();
            let known = hashes.get(&pipeline.id, &keys).await?;
            let mut sorted = edit.sort(false, page, &records, &known, left_out).await?;
            sorted.send.extend(send.drain(..).map(|(_, change)| change));
            sorted
        };
        hashes.relabel(&pipeline.id, &sorted.same).await?;
        if pipeline.delete == DeletePolicy::Never {
            counts.unchanged += sorted.excluded.len() as u64;
        } else {
            edit::spool(pipeline, self.run, &sorted.excluded).await?;
        }
        counts.unchanged += sorted.same.len() as u64;
        counts.relabelled += sorted.same.len() as u64;
        Ok(sorted.send)
    }
}

pub(super) fn range_prefix(pipeline: &PipelineId, run: &str) -> String {
    format!("range/{pipeline}/{run}/")
}

/// The ranges of a run by their state entries, in order.
pub(super) async fn ranges(pipeline: &Pipeline, run: &str) -> Result<Vec<(String, RangeState)>, Fault> {
    let prefix = range_prefix(&pipeline.id, run);
    let mut ranges: Vec<(String, RangeState)> = Vec::new();
    loop {
        let after = ranges.last().map(|(key, _)| key.as_str());
        let listed = pipeline.backplane.state.list(&prefix, after, LIST_MAX).await?;
        let end = listed.len() < LIST_MAX;
        for (key, entry) in listed {
            let range = persisted::decode(&key, &entry.value)?;
            ranges.push((key, range));
        }
        if end {
            return Ok(ranges);
        }
    }
}
