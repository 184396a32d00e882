//! What a consumer says of its lanes, and how long it gathers.

use std::time::Duration;

use fides_core::{FaultKind, Key, Origin};
use fides_engine::import::Mode;
use fides_engine::publishing::{Worker, consume_lanes};
use fides_engine::{Progress, Raised, establish, raise_fence, refresh, wait_for_fence};
use fides_testkit::fake::{Act, FakeHost, FakeMapper, Gate};
use tokio::time::Instant;
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

/// Whoever gives up lanes would leave in them what the queue has confirmed (L3).
#[tokio::test(start_paused = true)]
async fn another_number_of_lanes_waits_until_the_old_ones_are_empty() {
    for (before, after) in [(2, 1), (1, 2)] {
        let stand = Stand::new(20);
        let process = async |name, lanes| {
            let mut process = stand.process(name).await;
            process.pipeline.limits.lanes = lanes;
            process
        };
        let (old, new) = (process("old", before).await, process("new", after).await);
        old.copy().await;
        stand.host.commit(&(0..20).map(|id| (id, Some(5))).collect::<Vec<_>>());
        let keys: Vec<Key> = (0..20).map(FakeHost::key).collect();
        refresh(&old.pipeline, &keys, Origin::Event, false).await.unwrap();
        let refused = establish(&new.pipeline).await.expect_err("messages wait in the old lanes");
        assert_eq!(refused.kind, FaultKind::Unavailable);
        assert!(refused.to_string().contains(&format!("was {before} and is {after}")), "{refused}");

        let consuming = old.consume();
        old.settle().await;
        drop(consuming);
        // A process that was not told yet publishes what the import of the new epoch sees.
        stand.host.commit(&[(3, Some(7))]);
        assert_eq!(establish(&new.pipeline).await.unwrap(), Raised::Again);
        refresh(&old.pipeline, &[FakeHost::key(3)], Origin::Event, false).await.unwrap();
        new.copy().await;
        assert_eq!(stand.differing(1), [0; 0]);
        assert_eq!(establish(&new.pipeline).await.unwrap(), Raised::No);
    }
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

/// What an import sends waits for company; a change that somebody waits for does not, nor does what it meets.
#[tokio::test(start_paused = true)]
async fn an_event_is_written_at_once() {
    let stand = Stand::new(4);
    let mut process = stand.process("a").await;
    process.copy().await;
    process.pipeline.limits.gather_ms_max = 60_000;
    let _consumers = process.consume();
    owns(&process, 1).await;
    let send = async |id: i64, origin| {
        stand.host.commit(&[(id, Some(2))]);
        refresh(&process.pipeline, &[FakeHost::key(id)], origin, false).await.unwrap();
    };
    let written = async |id: i64| {
        within(async {
            while stand.document(id).map(Vec::from) != FakeMapper::new(1).document(id, 2) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    };
    let began = Instant::now();
    send(0, Origin::Event).await;
    written(0).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?} on a clock that only waits move", began.elapsed());

    send(1, Origin::Import).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_ne!(stand.document(1).map(Vec::from), FakeMapper::new(1).document(1, 2), "it waits");
    send(2, Origin::Event).await;
    written(1).await;
    written(2).await;
    assert!(began.elapsed() < Duration::from_secs(32), "{:?}", began.elapsed());
}

/// L7: what is not settled may be delivered again, behind the fence.
#[tokio::test(start_paused = true)]
async fn a_fence_waits_until_what_was_before_it_is_settled() {
    let stand = Stand::new(12);
    let process = stand.process("a").await;
    let settling = Gate::new();
    process.faults.script("queue.settle", [Act::Hold(settling.clone())]);
    let _consumers = process.consume();
    process.import(Mode::Delta).await;
    let fence = raise_fence(&process.pipeline).await.unwrap();
    let passing = wait_for_fence(&process.pipeline, fence);
    assert!(tokio::time::timeout(Duration::from_mins(1), passing).await.is_err(), "the settlement is under way");
    assert_eq!(stand.differing(1), [0; 0], "and all is written");
    settling.open();
    within(wait_for_fence(&process.pipeline, fence)).await.unwrap();
}

/// What it was about comes again, and what was written of the next round meanwhile.
#[tokio::test(start_paused = true)]
async fn a_settlement_that_fails_loses_nothing() {
    for act in [Act::Reject(FaultKind::Transient), Act::FailAfter(FaultKind::Transient)] {
        let stand = Stand::new(4);
        let process = stand.process("a").await;
        process.copy().await;
        process.faults.script("queue.settle", [act.clone(), Act::Pass, act.clone()]);
        let _consumers = process.consume();
        for (row, value) in [(0, 7), (1, 8), (0, 9)] {
            stand.host.commit(&[(row, Some(value))]);
            process.import(Mode::Delta).await;
        }
        process.settle().await;
        assert_eq!(stand.differing(1), [0; 0], "{act:?}");
        let redelivered = Progress::get(&process.worker.progress.redelivered);
        assert!(redelivered > 0 || matches!(act, Act::FailAfter(_)), "{act:?}");
        assert_eq!(process.import(Mode::Delta).await.counts.published, 0, "{act:?}");
    }
}
