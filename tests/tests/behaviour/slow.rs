//! A target that cannot write in time what it is given at once, one that fails now and then, and one that refuses a record for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use fides_core::port::{Outcome, Target, Write};
use fides_core::{Change, Fault, Key};
use fides_engine::import::Mode;
use fides_testkit::fake::{Applies, Around, FakeHost};
use tokio::time::{Duration, Instant};

use crate::stand::Stand;

/// Writes so many changes at once, and fails otherwise as whoever runs into a timeout does.
struct Slow {
    records_max: usize,
    largest: AtomicUsize,
}

#[async_trait]
impl Applies for Slow {
    async fn apply(&self, target: &dyn Target, write: &Write<'_>, changes: &[Change]) -> Vec<Outcome> {
        self.largest.fetch_max(changes.len(), Ordering::Relaxed);
        if changes.len() > self.records_max {
            return vec![Outcome::Unknown(Fault::transient("it ran into its timeout")); changes.len()];
        }
        target.apply(write, changes).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_slow_is_written_in_smaller_portions() {
    for records_max in [3, 1] {
        let stand = Stand::new(40);
        let mut process = stand.process("a").await;
        let slow = Arc::new(Slow { records_max, largest: AtomicUsize::default() });
        process.pipeline.target = Arc::new(Around { target: process.pipeline.target.clone(), how: slow.clone() });
        process.copy().await;
        assert!(slow.largest.load(Ordering::Relaxed) > records_max, "something was too large");
        assert_eq!(stand.differing(1), [0; 0]);
        assert_eq!(process.pipeline.backplane.dead.count(&process.pipeline.id).await.unwrap(), 0);
    }
}

/// Refuses every third change, and what was to be written behind it.
#[derive(Default)]
struct Flaky(AtomicUsize);

#[async_trait]
impl Applies for Flaky {
    async fn apply(&self, target: &dyn Target, write: &Write<'_>, changes: &[Change]) -> Vec<Outcome> {
        let refused = changes.iter().position(|_| (self.0.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(3));
        let (first, rest) = changes.split_at(refused.unwrap_or(changes.len()));
        let mut outcomes = target.apply(write, first).await;
        outcomes.extend(rest.iter().map(|_| Outcome::Failed(Fault::unavailable("it is busy"))));
        outcomes
    }
}

/// Whatever comes again is less than before: nothing is gained by waiting longer each time.
#[tokio::test(start_paused = true)]
async fn a_lane_that_gets_on_between_faults_does_not_wait_longer_and_longer() {
    let stand = Stand::new(400);
    let mut process = stand.process("a").await;
    // A round is all that the lane holds, and takes many attempts.
    process.pipeline.limits.apply_records_max = 400;
    process.pipeline.target =
        Arc::new(Around { target: process.pipeline.target.clone(), how: Arc::new(Flaky::default()) });
    let began = Instant::now();
    process.copy().await;
    assert!(began.elapsed() < Duration::from_mins(1), "{:?} on a clock that only waits move", began.elapsed());
    assert_eq!(stand.differing(1), [0; 0]);
}

/// Refuses one record, and writes all others.
struct Stuck {
    key: Key,
    calls: AtomicUsize,
}

#[async_trait]
impl Applies for Stuck {
    async fn apply(&self, target: &dyn Target, write: &Write<'_>, changes: &[Change]) -> Vec<Outcome> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let others: Vec<Change> = changes.iter().filter(|change| change.key != self.key).cloned().collect();
        let mut written = target.apply(write, &others).await.into_iter();
        let outcome = |change: &Change| {
            if change.key == self.key {
                Outcome::Failed(Fault::unavailable("it is busy"))
            } else {
                written.next().unwrap()
            }
        };
        changes.iter().map(outcome).collect()
    }
}

/// What is forced is written again with every attempt: that is not getting on.
#[tokio::test(start_paused = true)]
async fn a_lane_that_only_repeats_itself_waits_longer_and_longer() {
    let stand = Stand::new(40);
    let mut process = stand.process("a").await;
    process.copy().await;
    let stuck = Arc::new(Stuck { key: FakeHost::key(7), calls: AtomicUsize::default() });
    process.pipeline.target = Arc::new(Around { target: process.pipeline.target.clone(), how: stuck.clone() });
    let _consumers = process.consume();
    process.import(Mode::Full).await;
    tokio::time::sleep(Duration::from_mins(30)).await;
    let calls = stuck.calls.load(Ordering::Relaxed);
    assert!((20..400).contains(&calls), "{calls} calls in half an hour");
}
