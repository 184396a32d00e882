//! What a consumer says of its lanes.

use std::time::Duration;

use fides_engine::Progress;
use fides_engine::publishing::{Worker, consume_lanes};
use fides_testkit::fake::{Act, Gate};
use tokio_util::sync::CancellationToken;

use crate::stand::{Process, Stand, within};

async fn owns(process: &Process, lanes: u64) {
    within(async {
        while Progress::get(&process.worker.progress.lanes) != lanes {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A share is a plan: only a lane whose lease is held and whose consumer runs is a lane that somebody works on.
#[tokio::test(start_paused = true)]
async fn a_lane_counts_as_owned_while_it_is_held_and_consumed() {
    let stand = Stand::new(0);
    let mut process = stand.process("a").await;
    process.pipeline.limits.lanes = 2;
    let state = process.pipeline.backplane.state.clone();
    let key = format!("lane/{}", process.pipeline.lanes()[0]);
    state.lease(&key, "somebody", 3_600_000).await.unwrap().expect("it is free");

    let stop = CancellationToken::new();
    let (pipeline, worker, stopped): (_, Worker, _) = (process.pipeline.clone(), process.worker.clone(), stop.clone());
    let consuming = tokio::spawn(async move { consume_lanes(&pipeline, &worker, &stopped).await });
    owns(&process, 1).await;
    // Longer than a lease, in which the share is computed several times.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(Progress::get(&process.worker.progress.lanes), 1, "the other lane is somebody's");

    state.release(&key, "somebody").await.unwrap();
    owns(&process, 2).await;
    stop.cancel();
    within(consuming).await.unwrap();
    assert_eq!(Progress::get(&process.worker.progress.lanes), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_is_paused_is_not_owned() {
    let stand = Stand::new(4);
    let process = stand.process("a").await;
    process.copy().await;
    let claimed = Gate::new();
    process.faults.script("target.claim", [Act::Hold(claimed.clone())]);
    let _consumers = process.consume();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(Progress::get(&process.worker.progress.lanes), 0, "nothing is consumed before the lane is claimed");
    claimed.open();
    owns(&process, 1).await;
}
