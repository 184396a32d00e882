//! Too many dead letters are a broken mapping or target, not broken records: the pipeline waits until a person has looked.

use fides_core::port::Expect;
use fides_core::{Fault, Limits};
use serde::{Deserialize, Serialize};

use crate::{Pipeline, Progress, persisted};

/// The share of dead letters is that of so many records, the latest ones: what was written last year says nothing about
/// what is wrong now.
const WINDOW_RECORDS: u64 = 10_000;

/// Why a pipeline waits, for every consumer of it and across their restarts.
#[derive(Debug, Serialize, Deserialize)]
struct Stopped {
    dead: u64,
    all: u64,
}

fn key(pipeline: &Pipeline) -> String {
    format!("poisoned/{}", pipeline.id)
}

/// Dead letters among the records that lately came to an end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recent {
    pub(crate) dead: u64,
    pub(crate) all: u64,
}

impl Recent {
    /// Counts, and lets go of the older half when there are too many. The window is wide enough that more than
    /// `dead_count_min` dead letters fit into the half that stays.
    pub(crate) fn count(&mut self, dead: u64, written: u64, limits: &Limits) {
        self.dead += dead;
        self.all += dead + written;
        while self.all > WINDOW_RECORDS.max(limits.dead_count_min.saturating_mul(8)) {
            (self.dead, self.all) = (self.dead / 2, self.all / 2);
        }
    }

    fn is_too_many(self, limits: &Limits) -> bool {
        // Counted in f64 on purpose: a ratio of counts, not a datum.
        #[allow(clippy::cast_precision_loss)]
        let ratio = self.dead as f64 / self.all.max(1) as f64;
        self.dead > limits.dead_count_min && ratio > limits.dead_ratio_max
    }
}

/// Counts what came to an end, and stops the pipeline if too much of it is dead.
pub(super) async fn judge(pipeline: &Pipeline, progress: &Progress, dead: u64, written: u64) -> Result<(), Fault> {
    let recent = progress.count_ended(dead, written, &pipeline.limits);
    if dead == 0 || !recent.is_too_many(&pipeline.limits) {
        return Ok(());
    }
    let kept = pipeline.backplane.dead.count(&pipeline.id).await?;
    if kept <= pipeline.limits.dead_count_min {
        progress.forgive_dead();
        return Ok(());
    }
    let stopped = Stopped { dead: recent.dead, all: recent.all };
    tracing::error!(pipeline = %pipeline.id, dead = recent.dead, of = recent.all, "too many dead letters: publishing stops");
    persisted::store(&*pipeline.backplane.state, &key(pipeline), &stopped, Expect::Any).await.map(drop)
}

/// Refuses to go on while the pipeline is stopped. It is opened again by whoever notices first that the letters were
/// replayed or dropped.
pub(super) async fn gate(pipeline: &Pipeline, progress: &Progress) -> Result<(), Fault> {
    let state = &*pipeline.backplane.state;
    let key = key(pipeline);
    let Some((stopped, _)) = persisted::load::<Stopped>(state, &key).await? else { return Ok(()) };
    let limits = &pipeline.limits;
    let kept = pipeline.backplane.dead.count(&pipeline.id).await?;
    if kept <= limits.dead_count_min {
        progress.forgive_dead();
        return state.remove(&key).await;
    }
    Err(Fault::unavailable(format!(
        "{} of {} records became dead letters, and {kept} are kept; dead_ratio_max allows {:.1} %",
        stopped.dead,
        stopped.all,
        limits.dead_ratio_max * 100.0
    ))
    .advise(format!(
        "see `fides dead list`, mend the cause, then replay or drop them: it goes on when at most {} are left",
        limits.dead_count_min
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_long_ago_says_nothing_about_now() {
        let limits = Limits::default();
        let mut recent = Recent::default();
        for _ in 0..1_000 {
            recent.count(0, 10_000, &limits);
        }
        assert!(!recent.is_too_many(&limits));
        for _ in 0..12 {
            recent.count(1_000, 0, &limits);
        }
        assert!(recent.is_too_many(&limits), "{recent:?}");
        for _ in 0..3 {
            recent.count(0, 10_000, &limits);
        }
        assert!(!recent.is_too_many(&limits), "{recent:?}");
    }

    #[test]
    fn a_high_number_that_is_allowed_is_still_reached() {
        let limits = Limits { dead_count_min: 100_000, ..Limits::default() };
        let mut recent = Recent::default();
        for _ in 0..200_000 {
            recent.count(3, 1, &limits);
        }
        assert!(recent.is_too_many(&limits), "{recent:?}");
    }
}
