//! Changes of an older epoch whose marks were lost (L11).

use fides_core::{Change, Fault, Key, Mark, Op};

use super::round::Round;
use crate::{Mapping, Raised, epoch};

impl Round<'_> {
    /// Splits off the changes that must not be applied as they are: without a mark, a change of an older epoch may be
    /// older than what the target holds.
    pub(super) async fn orphans(
        &self,
        changes: &[Change],
        marks: &[Option<Mark>],
        admitted: Vec<usize>,
    ) -> Result<(Vec<usize>, Vec<usize>), Fault> {
        if admitted.iter().all(|&at| marks[at].is_some()) {
            return Ok((Vec::new(), admitted));
        }
        let epoch = epoch::current(self.pipeline).await?;
        Ok(admitted.into_iter().partition(|&at| marks[at].is_none() && changes[at].version.epoch < epoch))
    }

    /// The host's present state of the orphans' keys, which takes their place: in the shape of the pipeline's mapping,
    /// whatever the shape of the batch. A key that the host no longer has is left to the clean-up that follows a raised
    /// epoch. Nothing is published here: a consumer that waited for room in its own lane would wait for itself.
    pub(super) async fn refreshed(&self, changes: &[Change], orphans: &[usize]) -> Result<Vec<Change>, Fault> {
        if orphans.is_empty() {
            return Ok(Vec::new());
        }
        let pipeline = self.pipeline;
        // A process that only consumes asks nowhere else who orders the host's states: after a failover its connection
        // would go on to refuse the new authority.
        if epoch::establish(pipeline).await? != Raised::No {
            return Err(Fault::transient(format!("lane {}: the epoch has risen, the lane is taken again", self.lane)));
        }
        let snapshot = pipeline.open_host().await?;
        let mut mapping = Mapping::new(&*pipeline.mapper, &pipeline.selection, &pipeline.limits);
        let mut refreshed = Vec::with_capacity(orphans.len());
        for portion in orphans.chunks(pipeline.limits.batch_records_max.max(1)) {
            let keys: Vec<Key> = portion.iter().map(|&at| changes[at].key.clone()).collect();
            let page = snapshot.fetch(&keys).await?;
            let changes = (0..page.len()).map(|at| mapping.change(&page, at, false));
            // What the mapping leaves out is judged by the import that follows a raised epoch (L8).
            refreshed.extend(changes.filter(|change| change.op != Op::Delete));
        }
        Ok(refreshed)
    }
}
