//! Unique values that change hands. Where records exchange values that only one of them may hold, and their changes are in
//! different lanes, each waits for the other. So each lane tells of its refused records, what they want and what they hold; and
//! those who wait for each other step aside: their old documents are deleted, and the new ones written a moment later.
//!
//! What stepped aside is in the [`Ledger`] until the new document is written or the old one is back. Its mark loses its
//! fingerprint before (L5), so that no import takes the document for being there.

use std::collections::HashMap;

use bytes::Bytes;
use fides_core::port::{Expect, Fencing, Outcome, Write};
use fides_core::{Change, Fault, Key, Lane, Op, Value, decode_row, encode_row};
use serde::{Deserialize, Serialize};

use super::knot;
use super::ledger::Ledger;
use super::round::Round;
use crate::{DeletePolicy, Pipeline, persisted};

/// Refused records that a lane tells of, at most (L10). Who is not among them is tried again as it is.
const TOLD_MAX: usize = 100;
/// Bytes of their values, at most.
const TOLD_BYTES_MAX: usize = 64 << 10;
/// Refused records of so many lanes are looked at together: who waits for whom is found by comparing all of them.
const TOLD_LANES_MAX: usize = 8;

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

fn refused_key(pipeline: &Pipeline, lane: &Lane) -> String {
    format!("waiting/{}/{:05}", pipeline.id, lane.index)
}

/// Those who step aside in one write of a round.
pub(super) struct Aside<'a> {
    round: &'a Round<'a>,
    write: Write<'a>,
    /// Sets of fields that are contested: asked for once.
    contested: Option<Vec<Vec<usize>>>,
    /// Documents that are gone: asked for once.
    ledger: Option<Ledger<'a>>,
    has_told: bool,
}

impl<'a> Aside<'a> {
    pub(super) fn new(round: &'a Round<'a>, write: Write<'a>) -> Self {
        Self { round, write, contested: None, ledger: None, has_told: false }
    }

    /// Tells of the refused records, and lets those of them step aside who wait for each other. A fault means that a
    /// deletion may be under way.
    pub(super) async fn make_room(&mut self, refused: &[Change]) -> Result<(), Fault> {
        let gone = match self.leave(refused).await {
            Ok(gone) => gone,
            Err(fault) => {
                // Nobody has to step aside: what waits is tried again as it is.
                tracing::warn!(lane = %self.round.lane, %fault, "no room is made for unique values that change hands");
                return Ok(());
            }
        };
        let gone: Vec<Change> = gone.into_iter().map(|change| Change { op: Op::Delete, ..change }).collect();
        let outcomes = self.round.apply_portions(&self.write, &gone).await;
        outcomes.iter().find_map(|outcome| self.round.pause_of(outcome)).map_or(Ok(()), Err)
    }

    /// Writes the old documents of `in_vain` back, records whose new ones are refused for good. A fault means that one of them
    /// is not back, and its record not to be given up.
    pub(super) async fn step_back(&mut self, in_vain: &[Key]) -> Result<(), Fault> {
        if in_vain.is_empty() {
            return Ok(());
        }
        let mut ledger = self.ledger().await?;
        let back = ledger.take(|key| in_vain.contains(key));
        let left = self.round.bring_back(&self.write, &back).await?;
        let waiting = if left.is_empty() { None } else { ledger.wait_for(left) };
        ledger.settle().await?;
        self.ledger = Some(ledger);
        waiting.map_or(Ok(()), Err)
    }

    /// All of this write are written, or back. A document that is kept too long would come back some day.
    pub(super) async fn end(self, written: impl Fn(&Key) -> bool) -> Result<(), Fault> {
        let Round { pipeline, lane, .. } = self.round;
        if self.has_told
            && let Err(fault) = pipeline.backplane.state.remove(&refused_key(pipeline, lane)).await
        {
            tracing::debug!(%lane, %fault, "what was refused is told for longer than it is true");
        }
        let mut ledger = match self.ledger {
            Some(ledger) => ledger,
            None if self.round.is_aside => Ledger::load(pipeline, lane).await?,
            None => return Ok(()),
        };
        ledger.take(written);
        ledger.settle().await
    }

    /// Whether records of this target may step aside, as far as that was asked.
    pub(super) fn may_help(&self) -> bool {
        self.contested.as_ref().is_some_and(|sets| !sets.is_empty())
    }

    async fn ledger(&mut self) -> Result<Ledger<'a>, Fault> {
        match self.ledger.take() {
            Some(ledger) => Ok(ledger),
            None => Ledger::load(self.round.pipeline, self.round.lane).await,
        }
    }

    /// Who steps aside now: kept, and its mark distrusted.
    async fn leave(&mut self, refused: &[Change]) -> Result<Vec<Change>, Fault> {
        let Round { pipeline, lane, .. } = self.round;
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
        let mut ledger = self.ledger().await?;
        let found = match self.entangled(&refused, ledger.gone()).await {
            Ok(found) => ledger.keep(found).await,
            Err(fault) => Err(fault),
        };
        self.ledger = Some(ledger);
        let found = found?;
        if !found.is_empty() {
            tracing::info!(pipeline = %pipeline.id, %lane, records = found.len(),
                "records make room for each other's unique values");
        }
        Ok(found)
    }

    /// The old documents of those who wait for each other, and are not aside yet.
    async fn entangled(&mut self, refused: &[&Change], gone: &[Change]) -> Result<Vec<Change>, Fault> {
        let Round { pipeline, lane, .. } = self.round;
        let old = self.old_documents(refused, gone).await?;
        let own = self.tell(refused, &old)?;
        let state = &*pipeline.backplane.state;
        self.has_told = true;
        persisted::store(state, &refused_key(pipeline, lane), &own, Expect::Any).await?;
        let mut told: Vec<Refused> = own;
        for other in pipeline.lanes().iter().filter(|other| other != lane) {
            if told.len() < TOLD_MAX * TOLD_LANES_MAX
                && let Some((others, _)) = persisted::load::<Vec<Refused>>(state, &refused_key(pipeline, other)).await?
            {
                told.extend(others);
            }
        }
        let entangled = knot::entangled(&told)?;
        let steps = |change: &&&Change| {
            entangled.contains(change.key.as_bytes()) && gone.iter().all(|gone| gone.key != change.key)
        };
        let before = |change: &Change| {
            let document = old.get(&change.key)?.clone();
            Some(Change { op: Op::Upsert(document), fingerprint: None, ..change.clone() })
        };
        Ok(refused.iter().filter(steps).filter_map(|change| before(change)).collect())
    }

    /// What the target holds of these records, or held before they stepped aside.
    async fn old_documents(&self, refused: &[&Change], gone: &[Change]) -> Result<HashMap<Key, Bytes>, Fault> {
        let keys: Vec<Key> = refused.iter().map(|change| change.key.clone()).collect();
        let page = self.round.pipeline.open_target().await?.fetch(&keys).await?;
        let mut old = HashMap::new();
        for gone in gone {
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
        let mut bytes = 0;
        for change in refused {
            let Op::Upsert(new) = &change.op else { continue };
            let new = decode_row(new)?;
            let old = old.get(&change.key).map(|row| decode_row(row)).transpose()?;
            for set in self.contested.iter().flatten() {
                let Some(wants) = values(&new, set) else { continue };
                let fields = set.iter().map(|&at| self.write.shape.fields[at].name.clone()).collect();
                let holds = old.as_ref().and_then(|old| values(old, set));
                bytes += change.key.as_bytes().len() + wants.len() + holds.as_ref().map_or(0, Vec::len);
                if bytes > TOLD_BYTES_MAX {
                    return Ok(told);
                }
                told.push(Refused { key: change.key.as_bytes().to_vec(), fields, wants, holds });
            }
        }
        Ok(told)
    }
}

impl Round<'_> {
    /// Brings back what stepped aside in a process that ended. The lane is claimed: whatever that process sent to the target
    /// has landed, or never will (L6). What cannot come back yet stays aside: its delivery comes again. Whether there is any.
    pub(super) async fn restore(&self) -> Result<bool, Fault> {
        let Round { pipeline, lane, .. } = *self;
        pipeline.backplane.state.remove(&refused_key(pipeline, lane)).await?;
        let mut ledger = Ledger::load(pipeline, lane).await?;
        let lost = ledger.take(|_| true);
        let write = Write { sink: &pipeline.sink, shape: pipeline.shape(), lane, token: self.token };
        let left = self.bring_back(&write, &lost).await?;
        if !left.is_empty() {
            ledger.put_back(left);
        }
        ledger.settle().await?;
        Ok(!ledger.gone().is_empty())
    }

    /// Writes documents back; those that could not be written, because their values were taken meanwhile.
    async fn bring_back(&self, write: &Write<'_>, back: &[Change]) -> Result<Vec<Change>, Fault> {
        let outcomes = self.apply_portions(write, back).await;
        if let Some(fault) = outcomes.iter().find_map(|outcome| self.pause_of(outcome)) {
            return Err(fault);
        }
        let failed = back.iter().zip(&outcomes).filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_)));
        Ok(failed.map(|(change, _)| change.clone()).collect())
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
