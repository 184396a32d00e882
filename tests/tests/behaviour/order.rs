//! Changes that come twice, late, or in twos: the target ends right (L4, L5).

use std::ops::Not;
use std::time::Duration;

use fides_core::FaultKind;
use fides_engine::import::{Mode, demanded, import};
use fides_engine::{Progress, follow, log_place};
use fides_testkit::fake::{Act, FakeHost, Gate, Order};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::stand::{Process, Stand, within};

/// Follows the log until the guard is dropped.
pub fn following(process: &Process) -> DropGuard {
    let stop = CancellationToken::new();
    let (pipeline, worker, stopped) = (process.pipeline.clone(), process.worker.clone(), stop.clone());
    tokio::spawn(async move { follow(&pipeline, &worker, &stopped).await });
    stop.drop_guard()
}

/// A host whose log is followed by a process of its own, and a process that consumes. Nothing is owed.
async fn followed() -> (Stand, Process, Process, [DropGuard; 2]) {
    followed_over(1, 1).await
}

/// The same over so many lanes, and with so many changes in a write.
pub async fn followed_over(lanes: u16, records_max: usize) -> (Stand, Process, Process, [DropGuard; 2]) {
    let stand = Stand::of(FakeHost::new(Order::Host), 20);
    let (mut reader, mut process) = (stand.process("reader").await, stand.process("a").await);
    // Each change is a message, and a write: nothing older goes by because it came together with something newer.
    for limits in [&mut reader.pipeline.limits, &mut process.pipeline.limits] {
        (limits.lanes, limits.batch_records_max, limits.apply_records_max) = (lanes, records_max, records_max);
    }
    let guards = [following(&reader), process.consume()];
    process.import(Mode::Delta).await;
    caught_up(&stand, &process).await;
    while demanded(&process.pipeline).await.unwrap() {
        process.import(Mode::Delta).await;
    }
    (stand, reader, process, guards)
}

/// Waits until everything that is committed is published and written.
pub async fn caught_up(stand: &Stand, process: &Process) {
    within(async {
        while log_place(&process.pipeline).await.is_ok_and(|place| place >= Some(stand.host.position())).not() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    process.settle().await;
}

pub fn is_right(stand: &Stand) {
    assert_eq!(stand.differing(1), [0; 0]);
    let gone: Vec<i64> = (0..20).filter(|id| !stand.host.rows().contains_key(id)).collect();
    assert!(gone.iter().all(|&id| stand.document(id).is_none()), "{gone:?}");
    assert!(stand.target.regressions().is_empty(), "{:?}", stand.target.regressions());
}

/// There and back again, twice in one transaction, away and back.
fn change(stand: &Stand) {
    stand.host.commit(&[(1, Some(7))]);
    stand.host.commit(&[(1, Some(1)), (2, Some(5)), (2, Some(6))]);
    stand.host.commit(&[(3, None), (4, None)]);
    stand.host.commit(&[(4, Some(8))]);
}

const TOLD: u64 = 6;

#[tokio::test(start_paused = true)]
async fn what_is_told_again_after_the_readers_death_changes_nothing() {
    let (stand, reader, process, _guards) = followed().await;
    // The place is not kept: what was published behind it is told again.
    reader.faults.script("state.put", [Act::Reject(FaultKind::Transient)]);
    change(&stand);
    caught_up(&stand, &process).await;
    let told = Progress::get(&reader.worker.progress.followed);
    assert!(told >= 2 * TOLD, "{told} changes: they were to be told twice");
    is_right(&stand);
    // What the log told is what an import reads.
    assert_eq!(process.import(Mode::Delta).await.counts.published, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_delivered_again_behind_its_write_changes_nothing() {
    for operation in ["queue.settle", "hashes.advance"] {
        let (stand, _reader, process, _guards) = followed().await;
        process.faults.script(operation, [Act::Reject(FaultKind::Transient), Act::FailAfter(FaultKind::Transient)]);
        change(&stand);
        caught_up(&stand, &process).await;
        let redelivered = Progress::get(&process.worker.progress.redelivered);
        assert!(redelivered > 0, "{operation}");
        is_right(&stand);
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_comes_late_takes_nothing_back() {
    let (stand, _reader, process, _guards) = followed().await;
    let importer = stand.process("importer").await;
    let gate = Gate::new();
    // Behind the fence.
    importer.faults.script("queue.publish", [Act::Pass, Act::Hold(gate.clone())]);
    let (pipeline, worker) = (importer.pipeline.clone(), importer.worker.clone());
    let importing = tokio::spawn(async move { import(&pipeline, Mode::Full, &worker).await });
    within(async {
        while importer.faults.calls("queue.publish") < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    stand.host.commit(&[(0, None), (1, Some(9))]);
    within(async {
        while stand.document(0).is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    gate.open();
    let report = within(importing).await.unwrap().unwrap();
    assert_eq!(report.counts.published, 20, "the old rows were sent");
    caught_up(&stand, &process).await;
    is_right(&stand);
}
