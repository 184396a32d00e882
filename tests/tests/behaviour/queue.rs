//! A broker that lost its queues.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fides_core::port::{Consumer, Queue};
use fides_core::{Envelope, Fault, Lane};
use fides_engine::import::{Mode, demanded};
use fides_engine::{raise_fence, wait_for_fence};
use fides_testkit::fake::{Act, Gate};

use crate::stand::{Stand, within};

#[tokio::test(start_paused = true)]
async fn an_import_ends_although_its_markers_were_lost_and_another_finds_the_rest() {
    let stand = Stand::new(12);
    let process = stand.process("a").await;
    let _consumers = process.consume();
    let away = Gate::new();
    process.faults.script("target.apply", [Act::Hold(away.clone())]);
    process.import(Mode::Delta).await;
    let fence = raise_fence(&process.pipeline).await.unwrap();
    stand.disk.lose_queues();
    away.open();
    let lost = within(wait_for_fence(&process.pipeline, fence)).await.unwrap();
    assert_eq!(lost, process.pipeline.lanes().len() as u64);
    assert_ne!(stand.differing(1), [0; 0], "what was queued is gone");
    assert!(demanded(&process.pipeline).await.unwrap(), "and it is known");
    process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
    assert!(!demanded(&process.pipeline).await.unwrap());
}

/// A queue whose lanes look as deep as they are told to.
struct SeenFromOutside {
    queue: Arc<dyn Queue>,
    depth: u64,
}

#[async_trait]
impl Queue for SeenFromOutside {
    async fn publish(&self, envelopes: &[Envelope]) -> Result<(), Fault> {
        self.queue.publish(envelopes).await
    }

    async fn consume(&self, lane: &Lane) -> Result<Box<dyn Consumer>, Fault> {
        self.queue.consume(lane).await
    }

    async fn depth(&self, _lane: &Lane) -> Result<u64, Fault> {
        Ok(self.depth)
    }
}

/// However long a target takes, and however empty the lanes look meanwhile.
#[tokio::test(start_paused = true)]
async fn a_marker_that_a_consumer_has_in_hand_is_not_lost() {
    let stand = Stand::new(12);
    let mut process = stand.process("a").await;
    let queue = process.pipeline.backplane.queue.clone();
    // As they do to another process, while their consumers have everything in hand.
    process.pipeline.backplane.queue = Arc::new(SeenFromOutside { queue, depth: 0 });
    let away = Gate::new();
    process.faults.script("target.apply", [Act::Hold(away.clone())]);
    let _consumers = process.consume();
    process.import(Mode::Delta).await;
    let fence = raise_fence(&process.pipeline).await.unwrap();
    let mut waiting = std::pin::pin!(wait_for_fence(&process.pipeline, fence));
    assert!(tokio::time::timeout(Duration::from_mins(30), &mut waiting).await.is_err(), "the target is slow");
    assert!(!demanded(&process.pipeline).await.unwrap());
    away.open();
    assert_eq!(within(waiting).await.unwrap(), 0, "nothing is lost");
    assert!(!demanded(&process.pipeline).await.unwrap());
    assert_eq!(stand.differing(1), [0; 0]);
}

/// There is no moment at which a busy lane is empty, so that its emptiness could tell.
#[tokio::test(start_paused = true)]
async fn a_marker_of_a_busy_lane_is_missed() {
    let stand = Stand::new(12);
    let mut process = stand.process("a").await;
    let queue = process.pipeline.backplane.queue.clone();
    process.pipeline.backplane.queue = Arc::new(SeenFromOutside { queue, depth: 3 });
    let _consumers = process.consume();
    let away = Gate::new();
    process.faults.script("target.apply", [Act::Hold(away.clone())]);
    process.import(Mode::Delta).await;
    let fence = raise_fence(&process.pipeline).await.unwrap();
    stand.disk.lose_queues();
    away.open();
    let lost = within(wait_for_fence(&process.pipeline, fence)).await.unwrap();
    assert_eq!(lost, process.pipeline.lanes().len() as u64);
    assert!(demanded(&process.pipeline).await.unwrap());
    assert_ne!(stand.differing(1), [0; 0], "what was queued is gone");
}

/// A lane that is slow has lost nothing.
#[tokio::test(start_paused = true)]
async fn a_marker_that_waits_behind_a_slow_target_is_not_lost() {
    let stand = Stand::new(12);
    let process = stand.process("a").await;
    let consumers = process.consume();
    process.import(Mode::Delta).await;
    process.settle().await;
    drop(consumers);
    stand.host.commit(&(0..12).map(|id| (id, Some(9))).collect::<Vec<_>>());
    let fence = raise_fence(&process.pipeline).await.unwrap();
    let waiting = wait_for_fence(&process.pipeline, fence);
    assert!(tokio::time::timeout(Duration::from_mins(1), waiting).await.is_err(), "nobody consumes");
    assert!(!demanded(&process.pipeline).await.unwrap());
}
