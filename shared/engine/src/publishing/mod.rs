//! Publishing: consume lanes, admit, write the target, advance the marks, settle (L2).

mod aside;
mod claim;
mod deletions;
mod gather;
mod knot;
mod lane;
mod ledger;
mod orphans;
mod poison;
mod portion;
mod round;
mod settler;
mod share;

use std::sync::Arc;

pub(crate) use poison::Recent;
pub use share::consume_lanes;

use crate::Progress;

/// Whoever works on a pipeline: a process, new with every start.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Names it as the owner of leases. Never used by another process, nor again after a restart.
    pub holder: Arc<str>,
    /// Its counters.
    pub progress: Arc<Progress>,
}

impl Worker {
    /// The same at one of its tasks, as an owner of leases of its own: tasks of one process that want the same lease wait
    /// for each other, as processes do.
    pub(crate) fn at(&self, task: &str) -> Self {
        Self { holder: format!("{}/{task}", self.holder).into(), progress: self.progress.clone() }
    }
}
