//! Which run an import goes on with, and how one ends that cannot prove absences.

use std::time::Duration;

use fides_core::FaultKind;
use fides_engine::import::{Mode, assist, import};
use fides_engine::{Progress, establish};
use fides_testkit::fake::{Act, FakeHost, FakeMapper, Gate};

use crate::stand::{Process, Stand, namespace, within};

const ROWS: i64 = 40;

/// An import that fails when some of its pages are through.
async fn break_off(process: &Process, mode: Mode) {
    let pages = [Act::Pass, Act::Pass, Act::Reject(FaultKind::Transient)];
    process.faults.script("host.scan", pages);
    within(import(&process.pipeline, mode, &process.worker)).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_run_of_another_mapping_is_not_gone_on_with() {
    let stand = Stand::new(ROWS);
    let old = stand.process("old").await;
    let consumers = old.consume();
    break_off(&old, Mode::Delta).await;
    old.settle().await;
    drop(consumers);
    let new = stand.process_of("new", FakeMapper::new(2)).await;
    let _consumers = new.consume();
    let report = new.import(Mode::Delta).await;
    new.settle().await;
    assert_eq!((report.resumed, report.counts.published), (0, ROWS as u64));
    assert_eq!(stand.differing(2), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_run_of_the_same_mapping_is_gone_on_with() {
    let stand = Stand::new(ROWS);
    let process = stand.process("a").await;
    let _consumers = process.consume();
    break_off(&process, Mode::Delta).await;
    let report = process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!((report.resumed, report.counts.published), (1, ROWS as u64));
    assert_eq!(stand.differing(1), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_full_import_is_not_swallowed_by_an_unfinished_delta() {
    let stand = Stand::new(ROWS);
    let process = stand.process("a").await;
    let _consumers = process.consume();
    process.import(Mode::Delta).await;
    process.settle().await;
    stand.target.tamper(&namespace(), &FakeHost::key(0), None);
    break_off(&process, Mode::Delta).await;
    let report = process.import(Mode::Full).await;
    process.settle().await;
    assert_eq!((report.resumed, report.counts.published), (0, ROWS as u64));
    assert_eq!(stand.differing(1), [0; 0]);
}

/// Whatever another process was publishing for the run that is given up is settled before marks are compared (L7).
#[tokio::test(start_paused = true)]
async fn a_run_is_given_up_behind_the_readers_of_other_processes() {
    let stand = Stand::new(ROWS);
    let steady = stand.process("steady").await;
    let _consumers = steady.consume();
    steady.import(Mode::Delta).await;
    // A release with another mapping, which is taken back while one of its processes is slow with a page.
    let leader = stand.process_of("leader", FakeMapper::new(2)).await;
    let helper = stand.process_of("helper", FakeMapper::new(2)).await;
    break_off(&leader, Mode::Delta).await;
    steady.settle().await;
    // And so is the target, so that the page waits in its lane for longer than anybody reads.
    steady.faults.script("target.apply", [Act::Slow(Duration::from_secs(30))]);
    helper.faults.script("queue.publish", [Act::Slow(Duration::from_secs(2))]);
    let (pipeline, worker) = (helper.pipeline.clone(), helper.worker.clone());
    let helping = tokio::spawn(async move { fides_engine::import::assist(&pipeline, &worker).await });
    while helper.faults.calls("queue.publish") == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    steady.import(Mode::Delta).await;
    within(helping).await.unwrap().unwrap_err();
    steady.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
}

/// A walk that never works keeps deletions back, and nothing else.
#[tokio::test(start_paused = true)]
async fn a_target_that_cannot_be_walked_keeps_no_import_from_its_end() {
    let stand = Stand::new(ROWS);
    let process = stand.process("a").await;
    process.copy().await;
    stand.disk.lose_everything();
    tokio::time::sleep(Duration::from_secs(1)).await;
    establish(&process.pipeline).await.unwrap();
    stand.host.commit(&[(0, None), (1, Some(7))]);
    let _consumers = process.consume();

    let unwalkable = || Act::Reject(FaultKind::Permanent);
    // Its marks cannot be rebuilt, and neither it nor the next import can look for what only the target has.
    process.faults.script("target.snapshot", [unwalkable(), unwalkable(), unwalkable()]);
    let report = process.import(Mode::Delta).await;
    process.settle().await;
    assert!(report.sweep.refused.is_some_and(|why| why.contains("target.snapshot")), "it is said");
    assert_eq!(stand.differing(1), [0; 0]);
    assert!(stand.document(0).is_some(), "what cannot be proven is not deleted");

    // Marks are trusted again, and the comparison is still owed.
    let report = process.import(Mode::Delta).await;
    assert_eq!((report.counts.published, report.sweep.refused.is_some()), (0, true));
    let report = process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!((report.sweep.deleted, report.sweep.refused), (1, None));
    assert_eq!(stand.document(0), None);
}

/// What the target holds is remembered even if no import met it: it was away when it was read, and back before the
/// target was compared, or before the host was asked again.
#[tokio::test(start_paused = true)]
async fn a_record_that_no_import_met_is_deleted_once_it_is_gone() {
    let unwalkable = Act::Reject(FaultKind::Permanent);
    // Marks cannot be rebuilt. Then the listing has the second snapshot of the host, the comparison the third and the
    // target's second.
    for (operation, earlier_acts, candidates) in
        [("host.snapshot", vec![Act::Pass, Act::Pass], 0), ("target.snapshot", vec![unwalkable.clone()], 1)]
    {
        let stand = Stand::new(ROWS);
        let process = stand.process("a").await;
        process.copy().await;
        stand.disk.lose_everything();
        tokio::time::sleep(Duration::from_secs(1)).await;
        establish(&process.pipeline).await.unwrap();
        stand.host.commit(&[(0, None)]);
        let _consumers = process.consume();
        let (compares, earlier) = (Gate::new(), process.faults.calls(operation));
        let before = earlier_acts.len();
        if operation == "host.snapshot" {
            process.faults.script("target.snapshot", [unwalkable.clone()]);
        }
        process.faults.script(operation, [earlier_acts, vec![Act::Hold(compares.clone())]].concat());
        let back = async {
            while process.faults.calls(operation) <= earlier + before as u64 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            stand.host.commit(&[(0, Some(1))]);
            compares.open();
        };
        let (report, ()) = tokio::join!(process.import(Mode::Delta), back);
        assert_eq!(report.counts.read, ROWS as u64 - 1, "{operation}: the listing did not meet it");
        assert_eq!((report.sweep.candidates, report.sweep.deleted), (candidates, 0), "{operation}");
        stand.host.commit(&[(0, None)]);
        process.import(Mode::Delta).await;
        process.settle().await;
        assert_eq!(stand.document(0), None, "{operation}");
    }
}

/// Each process has a way of its own to the marks, which refuses them once they were lost (L11). Whoever only ever helps
/// learns of it, too, and reads its part.
#[tokio::test(start_paused = true)]
async fn who_helps_learns_that_marks_were_lost() {
    let stand = Stand::new(ROWS);
    let (leader, helper) = (stand.process("leader").await, stand.process("helper").await);
    let _consumers = leader.consume();
    leader.import(Mode::Delta).await;
    helper.import(Mode::Delta).await;
    leader.settle().await;
    stand.disk.lose_everything();
    // Slow, so that a range of its run is left for others.
    leader.faults.script("host.scan", vec![Act::Slow(Duration::from_millis(50)); 100]);
    let (pipeline, worker) = (leader.pipeline.clone(), leader.worker.clone());
    let leading = tokio::spawn(async move { import(&pipeline, Mode::Delta, &worker).await });
    let read = Progress::get(&helper.worker.progress.read);
    let helped = async {
        while !leading.is_finished() {
            assist(&helper.pipeline, &helper.worker).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within(helped).await;
    let report = leading.await.unwrap().unwrap();
    assert_eq!((report.counts.read, report.counts.published), (ROWS as u64, 0));
    assert!(Progress::get(&helper.worker.progress.read) > read, "it has helped");
}
