//! What a client knows of the bounds between buckets. Buckets are split and never joined, so that the bounds that were
//! seen once stay; those that are missing are found when a script says that a group spans several buckets. Bounds of an
//! incarnation that is gone only make groups smaller.

use std::collections::{BTreeSet, HashMap};
use std::ops::{Bound, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fides_core::{Key, PipelineId};

#[derive(Default)]
pub(super) struct Directories(Mutex<HashMap<PipelineId, BTreeSet<Vec<u8>>>>);

impl Directories {
    /// Adds lower bounds.
    pub(super) fn learn(&self, pipeline: &PipelineId, lowers: impl IntoIterator<Item = Vec<u8>>) {
        self.lock().entry(pipeline.clone()).or_default().extend(lowers);
    }

    /// Cuts parts of sorted keys into groups that lie in one bucket each, as far as it is known, of at most `most` keys.
    pub(super) fn groups<'a>(
        &self,
        pipeline: &PipelineId,
        parts: impl IntoIterator<Item = Range<usize>>,
        most: usize,
        key: impl Fn(usize) -> &'a Key,
    ) -> Vec<Range<usize>> {
        let directories = self.lock();
        let lowers = directories.get(pipeline);
        let mut groups = Vec::new();
        for part in parts {
            let mut from = part.start;
            while from < part.end {
                let above = (Bound::Excluded(key(from).as_bytes()), Bound::Unbounded);
                let upper = lowers.and_then(|lowers| lowers.range::<[u8], _>(above).next());
                let most = part.end.min(from.saturating_add(most));
                let to =
                    upper.map_or(most, |upper| partition_point(from..most, |at| key(at).as_bytes() < upper.as_slice()));
                groups.push(from..to);
                from = to;
            }
        }
        groups
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PipelineId, BTreeSet<Vec<u8>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first of `range` for which `before` does not hold.
fn partition_point(range: Range<usize>, before: impl Fn(usize) -> bool) -> usize {
    let (mut from, mut to) = (range.start, range.end);
    while from < to {
        let middle = from + (to - from) / 2;
        if before(middle) { from = middle + 1 } else { to = middle }
    }
    from
}
