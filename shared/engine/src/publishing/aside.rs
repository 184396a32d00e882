//! Unique values that change hands. Where records exchange values that only one of them may hold, and their changes are in
//! different lanes, each waits for the other. So each lane tells of its refused records, what they want and what they hold; and
//! those who wait for each other step aside: their old documents are deleted, and the new ones written a moment later.
//!
//! Documents that stepped aside are kept in the state store until the new ones are written or they are back: whoever claims
//! the lane after a crash brings them back. Their marks lose their fingerprints before (L5), so that no import takes them for
//! being there.

use std::collections::HashMap;

use bytes::Bytes;
use fides_core::port::{Expect, Fencing, Outcome, Write};
use fides_core::{Batch, Change, Fault, Key, Lane, Mark, Message, Op, Origin, Value, decode_row, encode_row};
use serde::{Deserialize, Serialize};

use super::knot;
use super::round::Round;
use crate::{DeletePolicy, Pipeline, persisted};

/// Refused records that a lane tells of, at most (L10): what is beyond waits.
const TOLD_MAX: usize = 1_000;

/// A record that was refused, and values of it that nobody else may have.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Refused {
    /// The record's key.
    pub(super) key: Vec<u8>,
    /// Names of the contested fields.
    pub(super) fields: Vec<String>,
    /// What it is to have, as a row.
    pub(super) wants: Vec<u8>,
    /// What its old document has, or had before it stepped aside; nothing where there was none.
    pub(super) holds: Option<Vec<u8>>,
}

fn refused_prefix(pipeline: &Pipeline) -> String {
    format!("refused/{}/", pipeline.id)
}

fn refused_key(pipeline: &Pipeline, lane: &Lane) -> String {
    format!("{}{:05}", refused_prefix(pipeline), lane.index)
}

fn aside_key(lane: &Lane) -> String {
    format!("aside/{}/{:05}", lane.pipeline, lane.index)
}

/// Those who step aside in one write of a round.
pub(super) struct Aside<'a> {
    round: &'a Round<'a>,
    write: Write<'a>,
    /// Sets of fields that are contested: asked for once.
    contested: Option<Vec<Vec<usize>>>,
    has_told: bool,
    /// Documents that are gone, under the versions of those that are to come.
    gone: Vec<Change>,
}

impl<'a> Aside<'a> {
    pub(super) fn new(round: &'a Round<'a>, write: Write<'a>) -> Self {
        Self { round, write, contested: None, has_told: false, gone: Vec::new() }
    }

    /// Tells of the refused records, and lets those of them step aside who wait for each other. A fault means that a
    /// deletion may be under way.
    pub(super) async fn make_room(&mut self, refused: &[Change]) -> Result<(), Fault> {
        let found = match self.entangled(refused).await {
            Ok(found) if !found.is_empty() => found,
            Ok(_) => return Ok(()),
            Err(fault) => {
                self.no_room(&fault);
                return Ok(());
            }
        };
        let before = self.gone.len();
        self.gone.extend(found);
        if let Err(fault) = self.keep(before).await {
            self.gone.truncate(before);
            self.no_room(&fault);
            return Ok(());
        }
        let gone: Vec<Change> =
            self.gone[before..].iter().map(|change| Change { op: Op::Delete, ..change.clone() }).collect();
        tracing::info!(pipeline = %self.round.pipeline.id, lane = %self.round.lane, records = gone.len(),
            "records step aside: others wait for their unique values");
        let outcomes = self.round.apply_portions(&self.write, &gone).await;
        outcomes.iter().find_map(|outcome| self.round.pause_of(outcome)).map_or(Ok(()), Err)
    }

    /// Writes the old documents of `in_vain` back, records whose new ones are refused for good.
    pub(super) async fn step_back(&mut self, in_vain: &[Key]) -> Result<(), Fault> {
        let (back, gone) = std::mem::take(&mut self.gone).into_iter().partition(|change| in_vain.contains(&change.key));
        self.gone = gone;
        self.round.bring_back(&self.write, &back).await
    }

    /// All are written, or back. What cannot be removed here harms nobody: a document that is there is not brought back.
    pub(super) async fn end(self) {
        let Round { pipeline, lane, .. } = self.round;
        if !self.has_told {
            return;
        }
        let state = &*pipeline.backplane.state;
        for key in [refused_key(pipeline, lane), aside_key(lane)] {
            if let Err(fault) = state.remove(&key).await {
                tracing::debug!(key, %fault, "not removed");
            }
        }
    }

    /// Nobody has to step aside: what waits is tried again as it is.
    fn no_room(&self, fault: &Fault) {
        tracing::warn!(lane = %self.round.lane, %fault, "no room is made for unique values that change hands");
    }

    /// The old documents of those who wait for each other.
    async fn entangled(&mut self, refused: &[Change]) -> Result<Vec<Change>, Fault> {
        let refused = refused.iter().filter(|change| matches!(change.op, Op::Upsert(_))).take(TOLD_MAX);
        let refused: Vec<&Change> = refused.collect();
        if refused.is_empty() {
            return Ok(Vec::new());
        }
        if self.contested.is_none() {
            self.contested = Some(self.round.contested(&self.write).await?);
        }
        if self.contested.as_ref().is_none_or(Vec::is_empty) {
            return Ok(Vec::new());
        }
        let old = self.old_documents(&refused).await?;
        let own = self.tell(&refused, &old)?;
        let Round { pipeline, lane, .. } = self.round;
        let state = &*pipeline.backplane.state;
        self.has_told = true;
        persisted::store(state, &refused_key(pipeline, lane), &own, Expect::Any).await?;
        let mut told: Vec<Refused> = Vec::new();
        for (key, entry) in state.list(&refused_prefix(pipeline), None, pipeline.limits.lanes.into()).await? {
            told.extend(persisted::decode::<Vec<Refused>>(&key, &entry.value)?);
        }
        let entangled = knot::entangled(&told)?;
        let there = refused.into_iter().filter(|change| self.gone.iter().all(|gone| gone.key != change.key));
        let there = there.filter(|change| entangled.contains(change.key.as_bytes()));
        let document = |change: &Change| old.get(&change.key).map(|row| Op::Upsert(row.clone()));
        let found =
            there.filter_map(|change| Some(Change { op: document(change)?, fingerprint: None, ..change.clone() }));
        Ok(found.collect())
    }

    /// What the target holds of these records, or held before they stepped aside.
    async fn old_documents(&self, refused: &[&Change]) -> Result<HashMap<Key, Bytes>, Fault> {
        let keys: Vec<Key> = refused.iter().map(|change| change.key.clone()).collect();
        let page = self.round.pipeline.open_target().await?.fetch(&keys).await?;
        let mut old = HashMap::new();
        for gone in &self.gone {
            if let Op::Upsert(document) = &gone.op {
                old.insert(gone.key.clone(), document.clone());
            }
        }
        for key in keys {
            if let Some(at) = page.find(key.as_bytes()) {
                let mut row = Vec::new();
                encode_row(&mut row, &page.values(at)?);
                old.insert(key, row.into());
            }
        }
        Ok(old)
    }

    /// What these records want, and what they hold.
    fn tell(&self, refused: &[&Change], old: &HashMap<Key, Bytes>) -> Result<Vec<Refused>, Fault> {
        let mut told = Vec::new();
        for change in refused {
            let Op::Upsert(new) = &change.op else { continue };
            let new = decode_row(new)?;
            let old = old.get(&change.key).map(|row| decode_row(row)).transpose()?;
            for set in self.contested.iter().flatten() {
                let Some(wants) = values(&new, set) else { continue };
                let fields = set.iter().map(|&at| self.write.shape.fields[at].name.clone()).collect();
                let holds = old.as_ref().and_then(|old| values(old, set));
                told.push(Refused { key: change.key.as_bytes().to_vec(), fields, wants, holds });
            }
        }
        Ok(told)
    }

    /// Makes durable what is about to go, from `new` on for the first time.
    async fn keep(&self, new: usize) -> Result<(), Fault> {
        let Round { pipeline, lane, .. } = self.round;
        let (shape, changes) = (pipeline.shape().clone(), self.gone.clone());
        let message = Message::Changes(Batch { origin: Origin::Repair, trace: None, shape, changes });
        pipeline.backplane.state.put(&aside_key(lane), &message.encode(), Expect::Any).await?;
        let keys: Vec<Key> = self.gone[new..].iter().map(|change| change.key.clone()).collect();
        pipeline.backplane.hashes.distrust(&pipeline.id, &keys).await
    }
}

impl Round<'_> {
    /// Brings back what stepped aside in a process that ended. The lane is claimed: whatever that process sent has landed, or
    /// never will (L6).
    pub(super) async fn restore(&self) -> Result<(), Fault> {
        let Round { pipeline, lane, .. } = *self;
        let state = &*pipeline.backplane.state;
        let Some(entry) = state.get(&aside_key(lane)).await? else { return Ok(()) };
        if let Message::Changes(Batch { shape, changes, .. }) = Message::decode(&entry.value.into())?
            // Of another mapping: the next import sends these records, their marks have no fingerprints.
            && shape == *pipeline.shape()
        {
            let keys: Vec<Key> = changes.iter().map(|change| change.key.clone()).collect();
            let marks = pipeline.backplane.hashes.get(&pipeline.id, &keys).await?;
            let page = pipeline.open_target().await?.fetch(&keys).await?;
            // A mark as new means that the new document was written, or given up with the old one back.
            let is_lost = |change: &Change, mark: &Option<Mark>| {
                mark.is_none_or(|mark| mark.version < change.version) && page.find(change.key.as_bytes()).is_none()
            };
            let lost = changes.into_iter().zip(&marks).filter(|(change, mark)| is_lost(change, mark));
            let lost: Vec<Change> = lost.map(|(change, _)| change).collect();
            let write = Write { sink: &pipeline.sink, shape: &shape, lane, token: self.token };
            self.bring_back(&write, &lost).await?;
        }
        state.remove(&refused_key(pipeline, lane)).await?;
        state.remove(&aside_key(lane)).await
    }

    async fn bring_back(&self, write: &Write<'_>, back: &[Change]) -> Result<(), Fault> {
        let outcomes = self.apply_portions(write, back).await;
        if let Some(fault) = outcomes.iter().find_map(|outcome| self.pause_of(outcome)) {
            return Err(fault);
        }
        for (change, outcome) in back.iter().zip(&outcomes) {
            if let Outcome::Failed(fault) = outcome {
                tracing::warn!(pipeline = %self.pipeline.id, key = %change.key, %fault,
                    "the target holds no document of this record until it is sent again: its unique values were taken meanwhile");
            }
        }
        Ok(())
    }

    /// Sets of fields that are contested, where a document of ours can be gone for a moment and nothing else is.
    async fn contested(&self, write: &Write<'_>) -> Result<Vec<Vec<usize>>, Fault> {
        let Round { pipeline, .. } = self;
        // What is not fenced off could land late, and delete the new document.
        let may_delete = pipeline.delete == DeletePolicy::Hard && pipeline.target.fencing() == Fencing::LaneToken;
        if !may_delete || **pipeline.shape() != *write.shape {
            return Ok(Vec::new());
        }
        let Some(table) = pipeline.target.describe(&pipeline.sink.namespace).await? else { return Ok(Vec::new()) };
        let fields = &write.shape.fields;
        let position = |name: &String| fields.iter().position(|field| field.name == *name);
        let is_ours = |name: &String| {
            position(name).is_some() || pipeline.sink.version_field.as_ref().is_some_and(|version| version == name)
        };
        if !table.columns.iter().all(|column| is_ours(&column.name)) {
            return Ok(Vec::new());
        }
        Ok(table.contested.iter().filter_map(|set| set.iter().map(position).collect()).collect())
    }
}

/// These values of a document, as a row; `None` where one is missing: no two records share what is not there.
fn values(document: &[Value<'_>], set: &[usize]) -> Option<Vec<u8>> {
    let values: Vec<Value<'_>> = set.iter().filter_map(|&at| document.get(at).cloned()).collect();
    if values.len() < set.len() || values.iter().any(|value| value.kind().is_none()) {
        return None;
    }
    let mut row = Vec::new();
    encode_row(&mut row, &values);
    Some(row)
}
