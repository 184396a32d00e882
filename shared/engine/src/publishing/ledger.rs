//! Documents that stepped aside, as the state store keeps them: should this process end, whoever claims the lane next brings
//! them back.

use fides_core::port::Expect;
use fides_core::{Batch, Change, Fault, Key, Lane, Mark, Message, Origin};
use serde::{Deserialize, Serialize};

use crate::{Pipeline, extras, persisted};

/// Bytes of documents that are aside at a time, at most (L10). Their entry is about four times as long.
const BYTES_MAX: usize = 1 << 20;
/// How often the lane waits for the values of a document that cannot come back before its record is given up.
const VAIN_MAX: u32 = 5;

fn entry(lane: &Lane) -> String {
    format!("aside/{}/{:05}", lane.pipeline, lane.index)
}

/// The entry. It is never removed, only emptied.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    /// A message of old documents, under the versions of the new ones; empty where nothing is aside.
    message: Vec<u8>,
    /// How often one of them could not come back.
    vain: u32,
}

/// The entry in hand. What somebody stores who has lost the lane does no harm: the target refuses to delete for them (L6), and
/// what it still has is not gone.
pub(super) struct Ledger<'a> {
    pipeline: &'a Pipeline,
    lane: &'a Lane,
    gone: Vec<Change>,
    vain: u32,
    expect: Expect,
    is_stored: bool,
}

impl<'a> Ledger<'a> {
    /// What is gone. An entry may be older than what was written since: what the target holds again, and what a mark knows to
    /// be written, is not in it.
    pub(super) async fn load(pipeline: &'a Pipeline, lane: &'a Lane) -> Result<Self, Fault> {
        let found = persisted::load::<Kept>(&*pipeline.backplane.state, &entry(lane)).await?;
        let (kept, expect) = match found {
            Some((kept, revision)) => (kept, Expect::Revision(revision)),
            None => (Kept::default(), Expect::Absent),
        };
        let mut ledger = Self { pipeline, lane, gone: Vec::new(), vain: kept.vain, expect, is_stored: true };
        if !kept.message.is_empty() {
            let Message::Changes(Batch { shape, changes, .. }) = Message::decode(&kept.message.into())? else {
                return Err(Fault::permanent(format!("state entry {} is not a message of changes", entry(lane))));
            };
            let before = changes.len();
            // Those of another mapping are sent by the next import: their marks have no fingerprints.
            if shape == *pipeline.shape() {
                ledger.gone = still_gone(pipeline, changes).await?;
            }
            ledger.is_stored = ledger.gone.len() == before;
        }
        Ok(ledger)
    }

    /// Whether the state store has something of this lane that is to come back.
    pub(super) async fn is_kept(pipeline: &Pipeline, lane: &Lane) -> Result<bool, Fault> {
        let found = persisted::load::<Kept>(&*pipeline.backplane.state, &entry(lane)).await?;
        Ok(found.is_some_and(|(kept, _)| !kept.message.is_empty()))
    }

    /// The old documents, under the versions of the new ones.
    pub(super) fn gone(&self) -> &[Change] {
        &self.gone
    }

    /// Keeps these old documents, before they are deleted; those that there is room for, and of which the new version is news
    /// to the marks.
    pub(super) async fn keep(&mut self, old: Vec<Change>) -> Result<Vec<Change>, Fault> {
        let (pipeline, hashes) = (self.pipeline, &*self.pipeline.backplane.hashes);
        let keys: Vec<Key> = old.iter().map(|change| change.key.clone()).collect();
        // What has no mark could not be told from what was written since.
        extras::adopt(pipeline, &keys).await?;
        let marks = hashes.get(&pipeline.id, &keys).await?;
        let mut bytes: usize = self.gone.iter().map(Change::bytes).sum();
        let fits = |change: &Change| {
            bytes += change.bytes();
            bytes <= BYTES_MAX
        };
        let is_news = |change: &Change, mark: &Option<Mark>| mark.is_some_and(|mark| mark.version < change.version);
        let news = old.into_iter().zip(&marks).filter(|(change, mark)| is_news(change, mark)).map(|(change, _)| change);
        let kept: Vec<Change> = news.take_while(fits).collect();
        if kept.is_empty() {
            return Ok(kept);
        }
        let before = self.gone.len();
        self.gone.extend(kept.iter().cloned());
        if let Err(fault) = self.store().await {
            self.gone.truncate(before);
            return Err(fault);
        }
        // L5: should this process end, no import takes the documents for being there.
        let keys: Vec<Key> = kept.iter().map(|change| change.key.clone()).collect();
        if let Err(fault) = hashes.distrust(&pipeline.id, &keys).await {
            self.gone.truncate(before);
            self.is_stored = false;
            return Err(fault);
        }
        Ok(kept)
    }

    /// Takes out those that `leaves` names.
    pub(super) fn take(&mut self, leaves: impl Fn(&Key) -> bool) -> Vec<Change> {
        let (taken, others): (Vec<Change>, Vec<Change>) =
            std::mem::take(&mut self.gone).into_iter().partition(|change| leaves(&change.key));
        self.gone = others;
        self.is_stored &= taken.is_empty();
        taken
    }

    /// These could not come back yet.
    pub(super) fn put_back(&mut self, left: Vec<Change>) {
        self.gone.extend(left);
        self.is_stored = false;
    }

    /// These could not come back. The fault says that the lane shall wait for them; without one they are given up.
    pub(super) fn wait_for(&mut self, left: Vec<Change>) -> Option<Fault> {
        self.is_stored = false;
        for change in &left {
            tracing::warn!(pipeline = %self.pipeline.id, key = %change.key, vain = self.vain,
                "the target holds no document of this record now: its unique values were taken while it made room");
        }
        self.vain += 1;
        if self.vain > VAIN_MAX {
            self.vain = 0;
            return None;
        }
        let count = left.len();
        self.put_back(left);
        Some(Fault::transient(format!(
            "lane {}: {count} records made room for others, and neither their new nor their old documents can be written",
            self.lane
        )))
    }

    /// Stores what has changed.
    pub(super) async fn settle(&mut self) -> Result<(), Fault> {
        if self.is_stored { Ok(()) } else { self.store().await }
    }

    async fn store(&mut self) -> Result<(), Fault> {
        self.is_stored = false;
        let message = if self.gone.is_empty() {
            self.vain = 0;
            Vec::new()
        } else {
            let (shape, changes) = (self.pipeline.shape().clone(), self.gone.clone());
            Message::Changes(Batch { origin: Origin::Repair, trace: None, shape, changes }).encode()
        };
        let (key, kept) = (entry(self.lane), Kept { message, vain: self.vain });
        let revision = persisted::store(&*self.pipeline.backplane.state, &key, &kept, self.expect).await?;
        self.expect = Expect::Revision(revision.ok_or_else(|| persisted::lost_race(&key))?);
        self.is_stored = true;
        Ok(())
    }
}

/// Those that nothing was written of since, and that the target does not hold.
async fn still_gone(pipeline: &Pipeline, changes: Vec<Change>) -> Result<Vec<Change>, Fault> {
    let keys: Vec<Key> = changes.iter().map(|change| change.key.clone()).collect();
    let marks = pipeline.backplane.hashes.get(&pipeline.id, &keys).await?;
    let page = pipeline.open_target().await?.fetch(&keys).await?;
    // A mark as new means that the new document was written, or given up with the old one back; without a mark everything is
    // sent again.
    let is_gone = |change: &Change, mark: &Option<Mark>| {
        mark.is_some_and(|mark| mark.version < change.version) && page.find(change.key.as_bytes()).is_none()
    };
    Ok(changes
        .into_iter()
        .zip(&marks)
        .filter(|(change, mark)| is_gone(change, mark))
        .map(|(change, _)| change)
        .collect())
}
