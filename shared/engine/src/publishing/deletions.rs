//! Deletions that leave a document behind.

use fides_core::{Change, Fault, Key, Op};

use super::round::{Known, Round, Settlement};
use crate::DeletePolicy;
use crate::soft::Flag;

impl Round<'_> {
    /// Takes the deletions out where they are not hard. Where they are soft the documents with their fields set come instead,
    /// in the shape of the pipeline's mapping; what the target does not have is settled here. Where nothing is ever deleted
    /// all are, and the marks say that there is nothing more to be sent of the record, and what the target may hold.
    pub(super) async fn soften<'t>(
        &self,
        changes: &mut Vec<(Change, Known<'t>)>,
        settlement: &mut Settlement,
    ) -> Vec<(Change, Known<'t>)> {
        let flag = Flag::of(self.pipeline);
        if flag.is_none() && self.pipeline.delete != DeletePolicy::Never {
            return Vec::new();
        }
        let (deletions, rest): (Vec<_>, Vec<_>) =
            std::mem::take(changes).into_iter().partition(|(change, _)| change.op == Op::Delete);
        *changes = rest;
        let Some(flag) = flag else {
            for (change, known) in &deletions {
                settlement.spared(change, *known);
            }
            return Vec::new();
        };
        match self.flagged(&flag, deletions, settlement).await {
            Ok(flagged) => flagged,
            Err(fault) => {
                settlement.pause.get_or_insert(fault);
                Vec::new()
            }
        }
    }

    async fn flagged<'t>(
        &self,
        flag: &Flag<'_>,
        deletions: Vec<(Change, Known<'t>)>,
        settlement: &mut Settlement,
    ) -> Result<Vec<(Change, Known<'t>)>, Fault> {
        if deletions.is_empty() {
            return Ok(Vec::new());
        }
        let target = self.pipeline.open_target().await?;
        let mut flagged = Vec::with_capacity(deletions.len());
        for portion in deletions.chunks(self.pipeline.limits.batch_records_max.max(1)) {
            let keys: Vec<Key> = portion.iter().map(|(change, _)| change.key.clone()).collect();
            let page = target.fetch(&keys).await?;
            for (change, known) in portion {
                match page.find(change.key.as_bytes()).map(|at| flag.set(&page, at)) {
                    None => settlement.applied(change, *known),
                    Some(Ok(document)) => flagged.push((Change { op: Op::Upsert(document), ..change.clone() }, *known)),
                    Some(Err(fault)) => settlement.bury(change, &fault, String::from("(deletion)"), 1, known.trace),
                }
            }
        }
        Ok(flagged)
    }
}
