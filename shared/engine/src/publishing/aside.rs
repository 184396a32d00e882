//! Unique values that change hands. Where two records swap what only one of them may hold, and their changes are in
//! different lanes, each waits for the other. So a record that has waited for a while steps aside: its old document goes for a
//! moment, and with it what somebody else waits for.

use fides_core::port::{Fencing, Outcome, Write};
use fides_core::{Change, Fault, Key, Op};

use super::round::{Known, Round};
use crate::DeletePolicy;

impl Round<'_> {
    /// Takes away the documents of those that `wait`, and returns changes that would bring them back. Not of those that
    /// have been dead letters before, unless somebody asks for it: what is refused for ever would go and come back with
    /// every import.
    pub(super) async fn step_aside(
        &self,
        write: &Write<'_>,
        wait: &[(Change, Known<'_>)],
    ) -> Result<Vec<Change>, Fault> {
        let may = |(change, known): &&(Change, Known<'_>)| {
            matches!(change.op, Op::Upsert(_)) && (change.forced || !known.was_dead)
        };
        let wait: Vec<&Change> = wait.iter().filter(may).map(|(change, _)| change).collect();
        if wait.is_empty() || !self.can_be_gone().await? {
            return Ok(Vec::new());
        }
        let keys: Vec<Key> = wait.iter().map(|change| change.key.clone()).collect();
        let page = self.pipeline.open_target().await?.fetch(&keys).await?;
        let mut before: Vec<Change> = Vec::new();
        for change in wait {
            if let Some(at) = page.find(change.key.as_bytes()) {
                let op = Op::Upsert(page.rows.get(at).to_vec().into());
                before.push(Change { op, fingerprint: None, ..change.clone() });
            }
        }
        let keys: Vec<Key> = before.iter().map(|change| change.key.clone()).collect();
        // L5: should this process end here, no import takes the document for being there.
        self.pipeline.backplane.hashes.distrust(&self.pipeline.id, &keys).await?;
        let gone: Vec<Change> = before.iter().map(|change| Change { op: Op::Delete, ..change.clone() }).collect();
        let outcomes = self.apply_portions(write, &gone).await;
        if let Some(fault) = outcomes.iter().find_map(|outcome| self.stops(outcome)) {
            return Err(fault);
        }
        let mut outcomes = outcomes.into_iter();
        before.retain(|_| matches!(outcomes.next(), Some(Outcome::Applied)));
        tracing::debug!(pipeline = %self.pipeline.id, lane = %self.lane, records = before.len(), "stepped aside");
        Ok(before)
    }

    /// Writes back the old documents of records that stepped aside in vain.
    pub(super) async fn step_back(&self, write: &Write<'_>, before: &[Change], in_vain: &[Key]) -> Result<(), Fault> {
        let back: Vec<Change> = before.iter().filter(|change| in_vain.contains(&change.key)).cloned().collect();
        let outcomes = self.apply_portions(write, &back).await;
        for (change, outcome) in back.iter().zip(&outcomes) {
            if let Some(fault) = self.stops(outcome) {
                return Err(fault);
            }
            if let Outcome::Failed(fault) = outcome {
                tracing::warn!(pipeline = %self.pipeline.id, key = %change.key, %fault,
                    "the target holds no document of this dead letter any more: its values were taken meanwhile");
            }
        }
        Ok(())
    }

    /// Whether a document can be gone for a moment and nothing else goes with it.
    async fn can_be_gone(&self) -> Result<bool, Fault> {
        let Round { pipeline, .. } = self;
        if pipeline.delete != DeletePolicy::Hard || pipeline.target.fencing() != Fencing::LaneToken {
            return Ok(false);
        }
        let table = pipeline.target.describe(&pipeline.sink.namespace).await?;
        let ours = |name: &str| {
            pipeline.shape().fields.iter().any(|field| field.name == name)
                || pipeline.sink.version_field.as_deref() == Some(name)
        };
        Ok(table.is_some_and(|table| !table.is_referenced && table.columns.iter().all(|column| ours(&column.name))))
    }

    fn stops(&self, outcome: &Outcome) -> Option<Fault> {
        match outcome {
            Outcome::Unknown(fault) | Outcome::Failed(fault) if self.pauses(outcome) => Some(fault.clone()),
            _ => None,
        }
    }
}
