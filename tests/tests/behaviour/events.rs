//! The host's log, followed beside imports.

use std::ops::Not;
use std::sync::Arc;
use std::time::Duration;

use fides_core::{FaultKind, LagAction};
use fides_engine::import::{Mode, demanded};
use fides_engine::{Progress, follow, log_place};
use fides_testkit::fake::{Act, FakeHost, Gate, Order};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::admin::{pause, resume};
use crate::stand::{PATIENCE, Process, Stand};

const ROWS: i64 = 10;

/// Follows the log until the guard is dropped.
fn following(process: &Process) -> DropGuard {
    let stop = CancellationToken::new();
    let (pipeline, worker, stopped) = (process.pipeline.clone(), process.worker.clone(), stop.clone());
    tokio::spawn(async move { follow(&pipeline, &worker, &stopped).await });
    stop.drop_guard()
}

/// Waits until everything that is committed is published.
async fn caught_up_to(stand: &Stand, process: &Process) {
    let followed = async {
        while log_place(&process.pipeline).await.is_ok_and(|place| place >= Some(stand.host.position())).not() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, followed).await.expect("the log is followed to its end");
}

/// Waits until everything that is committed is published and written.
async fn caught_up(stand: &Stand, process: &Process) {
    // There is no place before there is an epoch.
    caught_up_to(stand, process).await;
    process.settle().await;
}

async fn until(mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it comes to be");
}

#[tokio::test(start_paused = true)]
async fn changes_arrive_without_an_import_in_the_order_of_the_log() {
    let stand = Stand::of(FakeHost::new(Order::Host), ROWS);
    let process = stand.process("a").await;
    let (_consumers, _follower) = (process.consume(), following(&process));
    process.import(Mode::Delta).await;
    // Twice in one transaction, there and back again, away, and under a key that is new.
    stand.host.commit(&[(0, Some(5)), (0, Some(6))]);
    stand.host.commit(&[(1, Some(7))]);
    stand.host.commit(&[(1, Some(1)), (2, None), (77, Some(3))]);
    caught_up(&stand, &process).await;
    assert_eq!(stand.differing(1), [0; 0]);
    assert_eq!(stand.document(2), None);
    assert_eq!(Progress::get(&process.worker.progress.followed), 6);
    assert_eq!(stand.target.regressions().len(), 0);
    // What the log told is what an import reads.
    let before = stand.target.history().len();
    process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!(stand.target.history().len(), before);
}

/// L3: pages are published beside each other, a bounded number of them, and none counts before those in front of it.
#[tokio::test(start_paused = true)]
async fn a_page_without_confirm_holds_the_place_and_not_the_log() {
    const PAGES_MAX: u64 = 2;
    let stand = Stand::of(FakeHost::new(Order::Host), 50);
    let process = stand.process("a").await;
    let _consumers = process.consume();
    let follower = following(&process);
    process.import(Mode::Delta).await;
    caught_up(&stand, &process).await;
    let (place, calls) = (log_place(&process.pipeline).await.unwrap(), || process.faults.calls("queue.publish"));
    let published = calls();

    let gate = Gate::new();
    process.faults.script("queue.publish", [Act::Hold(gate.clone()), Act::Pass]);
    process.faults.script("queue.publish", std::iter::repeat_n(Act::Hold(gate.clone()), 20));
    stand.host.commit(&[(0, Some(5))]);
    until(|| calls() == published + 1).await;
    stand.host.commit(&[(1, Some(7))]);
    until(|| stand.differing(1) == [0]).await;
    for key in 2..50 {
        stand.host.commit(&[(key, Some(key + 100))]);
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    // The one that has passed counts as one of them, because its turn has not come.
    assert_eq!(calls(), published + PAGES_MAX);
    assert_eq!(log_place(&process.pipeline).await.unwrap(), place);
    assert_eq!(stand.differing(1).len(), 49);

    // Whoever follows it next begins where everything was confirmed.
    drop(follower);
    gate.open();
    let _follower = following(&process);
    caught_up(&stand, &process).await;
    assert_eq!(stand.differing(1), [0; 0]);
    assert_eq!(stand.target.regressions().len(), 0);
}

/// L7, L8: an import that answers it would raise its fence before what was told earlier, which would then be written behind it.
#[tokio::test(start_paused = true)]
async fn an_emptied_table_is_answered_when_all_before_it_is_in_the_queue() {
    let stand = Stand::of(FakeHost::new(Order::Host), ROWS);
    let process = stand.process("a").await;
    let (_consumers, _follower) = (process.consume(), following(&process));
    caught_up(&stand, &process).await;
    while demanded(&process.pipeline).await.unwrap() {
        process.import(Mode::Delta).await;
    }
    let gate = Gate::new();
    let published = process.faults.calls("queue.publish");
    process.faults.script("queue.publish", [Act::Hold(gate.clone())]);
    stand.host.commit(&[(77, Some(1))]);
    until(|| process.faults.calls("queue.publish") > published).await;
    stand.host.truncate(&[]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!demanded(&process.pipeline).await.unwrap());
    gate.open();
    caught_up(&stand, &process).await;
    assert!(demanded(&process.pipeline).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_the_log_forgot_is_owed_by_an_import() {
    let stand = Stand::of(FakeHost::new(Order::Host), ROWS);
    let process = stand.process("a").await;
    let _consumers = process.consume();
    let follower = following(&process);
    stand.host.commit(&[(0, Some(2))]);
    caught_up(&stand, &process).await;
    assert!(demanded(&process.pipeline).await.unwrap(), "the first import");
    process.import(Mode::Delta).await;
    assert!(!demanded(&process.pipeline).await.unwrap());

    drop(follower);
    stand.host.commit(&[(0, Some(9)), (1, None)]);
    stand.host.drop_readers();
    let _follower = following(&process);
    while !demanded(&process.pipeline).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stand.host.commit(&[(3, Some(9))]);
    caught_up(&stand, &process).await;
    assert_eq!(stand.differing(1), [0], "the log went on, and passed something over");
    assert!(demanded(&process.pipeline).await.unwrap(), "and it is known");
    process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
    assert_eq!(stand.document(1), None);
    assert!(!demanded(&process.pipeline).await.unwrap());
}

/// A log that waits for too long is told, and given up only where that is wanted: then an import is owed.
#[tokio::test(start_paused = true)]
async fn a_log_that_waits_for_too_long() {
    for action in [LagAction::Alert, LagAction::Drop] {
        let stand = Stand::of(FakeHost::new(Order::Host), ROWS);
        let mut process = stand.process("a").await;
        process.pipeline.limits.slot_lag_bytes_max = 1_000;
        process.pipeline.limits.slot_lag_action = action;
        let (_consumers, _follower) = (process.consume(), following(&process));
        process.import(Mode::Delta).await;
        caught_up(&stand, &process).await;
        process.import(Mode::Delta).await;
        assert!(!demanded(&process.pipeline).await.unwrap());
        let lag = || Progress::get(&process.worker.progress.log_lag);

        for bytes in [1_000, 1_001] {
            stand.host.set_log_lag(bytes);
            let given_up = bytes > 1_000 && action == LagAction::Drop;
            let seen = async {
                while if given_up { !demanded(&process.pipeline).await.unwrap() } else { lag() != bytes } {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(PATIENCE, seen).await.expect("the lag is seen");
            assert_eq!(demanded(&process.pipeline).await.unwrap(), given_up, "{action:?} {bytes}");
        }
        stand.host.commit(&[(0, Some(9)), (1, None)]);
        process.import(Mode::Delta).await;
        let is_read = async {
            while process.pipeline.host.log_lag(&process.pipeline.id).await.unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, is_read).await.expect("the log is opened again");
        stand.host.commit(&[(2, Some(9))]);
        caught_up(&stand, &process).await;
        assert_eq!(stand.differing(1), [0; 0]);
        assert_eq!(lag(), if action == LagAction::Alert { 1_001 } else { 0 });
    }
}

/// A pause is when a log waits for long: it is measured all the same, and given up where that is wanted.
#[tokio::test(start_paused = true)]
async fn a_log_that_waits_while_its_pipeline_is_paused() {
    let stand = Stand::of(FakeHost::new(Order::Host), ROWS);
    let mut process = stand.process("a").await;
    process.pipeline.limits.slot_lag_bytes_max = 1_000;
    process.pipeline.limits.slot_lag_action = LagAction::Drop;
    let (_consumers, _follower) = (process.consume(), following(&process));
    process.import(Mode::Delta).await;
    caught_up(&stand, &process).await;
    process.import(Mode::Delta).await;
    assert!(!demanded(&process.pipeline).await.unwrap());
    process.ask("1", pause()).await;
    stand.host.commit(&[(0, Some(9))]);
    for bytes in [1_000, 1_001] {
        stand.host.set_log_lag(bytes);
        let seen = async {
            while if bytes > 1_000 {
                process.pipeline.host.log_lag(&process.pipeline.id).await.unwrap().is_some()
            } else {
                Progress::get(&process.worker.progress.log_lag) != bytes
            } {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.expect("the lag is seen");
    }
    assert!(demanded(&process.pipeline).await.unwrap());
    process.ask("2", resume()).await;
    process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
}

/// An import that was under way when the gap came to be may have passed over what is in it.
#[tokio::test(start_paused = true)]
async fn an_import_that_began_before_a_gap_does_not_close_it() {
    let stand = Stand::of(FakeHost::new(Order::Host), ROWS);
    let process = stand.process("a").await;
    let _consumers = process.consume();
    process.faults.script("host.scan", [Act::Pass, Act::Reject(FaultKind::Transient)]);
    fides_engine::import::import(&process.pipeline, Mode::Delta, &process.worker).await.unwrap_err();
    stand.host.commit(&[(0, Some(9))]);
    let _follower = following(&process);
    stand.host.commit(&[(ROWS - 1, Some(9))]);
    caught_up(&stand, &process).await;
    assert_eq!(process.import(Mode::Delta).await.resumed, 1);
    assert!(demanded(&process.pipeline).await.unwrap());
    process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
    assert!(!demanded(&process.pipeline).await.unwrap());
}

/// Whoever is asked tells why nothing is read: also a process that only waits to take the log over.
#[tokio::test(start_paused = true)]
async fn every_process_tells_of_the_pause_of_a_log() {
    let stand = Stand::of(FakeHost::new(Order::Host), ROWS);
    let processes = [stand.process("first").await, stand.process("second").await];
    let _consumers = processes[0].consume();
    let _followers = processes.each_ref().map(following);
    processes[0].import(Mode::Delta).await;
    caught_up(&stand, &processes[0]).await;
    // The consumers of the first tell by themselves.
    processes[0].ask("1", pause()).await;
    let held = |process: &Process| process.worker.progress.held();
    until(|| processes.iter().all(|process| held(process).is_some_and(|why| why.contains("fides resume")))).await;
    processes[0].ask("2", resume()).await;
    until(|| processes.iter().all(|process| held(process).is_none())).await;
}

#[tokio::test(start_paused = true)]
async fn another_process_takes_the_log_over() {
    let stand = Stand::of(FakeHost::new(Order::Host), ROWS);
    let (first, second) = (stand.process("first").await, stand.process("second").await);
    let _consumers = first.consume();
    let leaving = following(&first);
    first.import(Mode::Delta).await;
    caught_up(&stand, &first).await;
    // The first import may have begun before the log was opened.
    while demanded(&first.pipeline).await.unwrap() {
        first.import(Mode::Delta).await;
    }
    let _standby = following(&second);
    stand.host.commit(&[(0, Some(3))]);
    caught_up(&stand, &first).await;
    let followed = |process: &Process| Progress::get(&process.worker.progress.followed);
    assert_eq!((followed(&first), followed(&second)), (1, 0), "one at a time");
    drop(leaving);
    stand.host.commit(&[(1, Some(3))]);
    caught_up(&stand, &first).await;
    assert_eq!((followed(&first), followed(&second)), (1, 1));
    assert_eq!(stand.differing(1), [0; 0]);
    assert!(!demanded(&first.pipeline).await.unwrap(), "and nothing was passed over");
}

/// Its label would lose against what the import of the new epoch wrote.
#[tokio::test(start_paused = true)]
async fn a_change_that_comes_when_the_epoch_has_risen_is_not_sent_under_the_old_one() {
    let stand = Stand::of(FakeHost::new(Order::Host), ROWS);
    let process = stand.process("a").await;
    let (_consumers, _follower) = (process.consume(), following(&process));
    process.import(Mode::Delta).await;
    caught_up(&stand, &process).await;
    // Marks only: the place and the leases are kept.
    stand.disk.lose_last(8, true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    process.import(Mode::Delta).await;
    stand.host.commit(&[(0, Some(9))]);
    caught_up(&stand, &process).await;
    // The place was one of the epoch before: an import closes the gap.
    if demanded(&process.pipeline).await.unwrap() {
        process.import(Mode::Delta).await;
        process.settle().await;
    }
    assert_eq!(stand.differing(1), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_host_without_a_log_says_so() {
    let stand = Stand::new(ROWS);
    let process = stand.process("a").await;
    let worker = fides_engine::publishing::Worker { holder: "b".into(), progress: Arc::default() };
    let fault = follow(&process.pipeline, &worker, &CancellationToken::new()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Permanent);
}

#[tokio::test(start_paused = true)]
async fn what_must_never_be_deleted_is_not_deleted_by_a_log() {
    let stand = Stand::of(FakeHost::new(Order::Host), ROWS);
    let mut process = stand.process("a").await;
    process.pipeline.delete = fides_engine::DeletePolicy::Never;
    let (_consumers, _follower) = (process.consume(), following(&process));
    process.import(Mode::Delta).await;
    stand.host.commit(&[(0, None), (1, Some(5))]);
    caught_up(&stand, &process).await;
    assert_eq!(stand.differing(1), [0; 0]);
    assert!(stand.document(0).is_some());
}

/// A→B→A around a gap: what the log told before it may be on its way when an import compares.
#[tokio::test(start_paused = true)]
async fn a_gap_is_closed_only_by_an_import_that_compares_behind_it() {
    let stand = Stand::of(FakeHost::new(Order::Host), ROWS);
    let process = stand.process("a").await;
    let _consumers = process.consume();
    let follower = following(&process);
    while !demanded(&process.pipeline).await.is_ok_and(|owed| owed) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    process.import(Mode::Delta).await;
    process.settle().await;

    // An import begins, and waits for a lane that is slow with something else.
    let slow = Gate::new();
    process.faults.script("target.apply", [Act::Hold(slow.clone())]);
    stand.host.commit(&[(9, Some(9))]);
    caught_up_to(&stand, &process).await;
    let importer = stand.process("importer").await;
    let (pipeline, worker) = (importer.pipeline.clone(), importer.worker.clone());
    let importing = tokio::spawn(async move { fides_engine::import::import(&pipeline, Mode::Delta, &worker).await });
    while importer.faults.calls("queue.publish") == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Behind its markers: there, and, where nobody follows, back again.
    stand.host.commit(&[(0, Some(5))]);
    caught_up_to(&stand, &process).await;
    drop(follower);
    stand.host.commit(&[(0, Some(1))]);
    stand.host.drop_readers();
    let _follower = following(&process);
    while log_place(&process.pipeline).await.unwrap() < Some(stand.host.position()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    slow.open();
    tokio::time::timeout(PATIENCE, importing).await.unwrap().unwrap().unwrap();
    process.settle().await;
    // It could not know; the next one does.
    assert!(stand.differing(1).is_empty() || demanded(&process.pipeline).await.unwrap());
    assert!(demanded(&process.pipeline).await.unwrap(), "the gap came to be behind its fence");
    process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn positions_that_went_backward_raise_the_epoch() {
    let stand = Stand::of(FakeHost::new(Order::Host), ROWS);
    let process = stand.process("a").await;
    let _consumers = process.consume();
    let follower = following(&process);
    process.import(Mode::Delta).await;
    let then = stand.host.position();
    stand.host.commit(&[(0, Some(5))]);
    stand.host.commit(&[(1, None)]);
    caught_up(&stand, &process).await;
    let epoch = fides_engine::current_epoch(&process.pipeline).await.unwrap();
    drop(follower);
    // The server's disk is put back: the same server, an earlier state, with new changes under old positions.
    stand.host.go_back(then);
    stand.host.commit(&[(0, Some(7))]);
    let _follower = following(&process);
    while fides_engine::current_epoch(&process.pipeline).await.unwrap() == epoch {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(demanded(&process.pipeline).await.unwrap());
    process.import(Mode::Delta).await;
    caught_up(&stand, &process).await;
    assert_eq!(stand.differing(1), [0; 0]);
}

/// The owed import begins when the page of the TRUNCATE is confirmed, not before: what came with it counts.
#[tokio::test(start_paused = true)]
async fn a_table_that_was_emptied_is_judged_by_an_import() {
    let stand = Stand::of(FakeHost::new(Order::Host), ROWS);
    let mut process = stand.process("a").await;
    process.pipeline.limits.delete_ratio_max = 1e9;
    let (_consumers, _follower) = (process.consume(), following(&process));
    process.import(Mode::Delta).await;
    caught_up(&stand, &process).await;
    assert!(!demanded(&process.pipeline).await.unwrap() || process.import(Mode::Delta).await.counts.published == 0);
    let earlier = process.faults.calls("queue.publish");
    let slow = Gate::new();
    process.faults.script("queue.publish", [Act::Hold(slow.clone())]);
    stand.host.truncate(&[(3, Some(8)), (99, Some(1))]);
    while process.faults.calls("queue.publish") == earlier {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!demanded(&process.pipeline).await.unwrap(), "an import that began now would begin too early");
    slow.open();
    caught_up(&stand, &process).await;
    assert!(demanded(&process.pipeline).await.unwrap());
    process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
    assert_eq!(stand.target.documents(&crate::stand::namespace()).len(), 2);
}

/// A lane that is full, and nobody to empty it: whoever is asked to stop does.
#[tokio::test(start_paused = true)]
async fn a_follower_that_waits_for_room_stops_when_it_is_asked_to() {
    let stand = Stand::of(FakeHost::new(Order::Host), ROWS);
    let process = stand.process("a").await;
    process.faults.script("queue.publish", [Act::Hold(Gate::new())]);
    let stop = CancellationToken::new();
    let (pipeline, worker, stopped) = (process.pipeline.clone(), process.worker.clone(), stop.clone());
    let follower = tokio::spawn(async move { follow(&pipeline, &worker, &stopped).await });
    while log_place(&process.pipeline).await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stand.host.commit(&[(0, Some(5))]);
    while process.faults.calls("queue.publish") == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.cancel();
    tokio::time::timeout(PATIENCE, follower).await.expect("it stops").unwrap().unwrap();
}
