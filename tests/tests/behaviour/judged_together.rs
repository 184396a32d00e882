//! Deletions of all runs are judged together, also of those that are at it at the same moment (L8).

use std::time::Duration;

use fides_core::FaultKind;
use fides_core::Origin;
use fides_core::command::Action;
use fides_engine::import::{Mode, import};
use fides_engine::inspect::status;
use fides_engine::{clean_up, refresh};
use fides_testkit::fake::{Act, FakeHost, Gate};

use crate::stand::{Process, Stand, within};

const ROWS: i64 = 100;

/// A process that may delete no more than 10 of them without approval.
async fn strict(stand: &Stand, name: &str) -> Process {
    let mut process = stand.process(name).await;
    process.pipeline.limits.delete_count_min = 1;
    process
}

/// The host loses rows.
fn lose(stand: &Stand, ids: std::ops::Range<i64>) {
    stand.host.commit(&ids.map(|id| (id, None)).collect::<Vec<_>>());
}

/// An import that is allowed to delete and held before its first deletion.
async fn allowed_and_held(process: &Process) -> (Gate, tokio::task::JoinHandle<u64>) {
    let gate = Gate::new();
    // The import's own snapshot, and then the one that is asked again.
    process.faults.script("host.snapshot", [Act::Pass, Act::Hold(gate.clone())]);
    let before = process.faults.calls("host.snapshot");
    let (pipeline, worker) = (process.pipeline.clone(), process.worker.clone());
    let importing = tokio::spawn(async move { import(&pipeline, Mode::Delta, &worker).await.unwrap().sweep.deleted });
    within(async {
        while process.faults.calls("host.snapshot") < before + 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    (gate, importing)
}

#[tokio::test(start_paused = true)]
async fn two_runs_at_the_same_moment_do_not_each_delete_what_only_one_may() {
    let stand = Stand::new(ROWS);
    let (importer, cleaner) = (strict(&stand, "importer").await, strict(&stand, "cleaner").await);
    importer.copy().await;
    let _consumers = cleaner.consume();
    lose(&stand, 0..6);
    let (gate, importing) = allowed_and_held(&importer).await;

    let fault = within(clean_up(&cleaner.pipeline, &cleaner.worker, 1)).await.unwrap_err();
    let why = fault.to_string();
    assert!(
        why.contains("6 deletions now, 6 that another run is making and 0 in the last 24 hours are 12.0 %"),
        "{why}"
    );
    // It is tried again; nobody has to approve anything.
    assert_eq!(fault.kind, FaultKind::Transient);
    assert_eq!(status(&cleaner.pipeline).await.unwrap().refused, None);
    lose(&stand, 10..15);
    let absent: Vec<_> = (10..15).map(FakeHost::key).collect();
    let fault = within(refresh(&cleaner.pipeline, &absent, Origin::Event, false)).await.unwrap_err();
    assert!(fault.to_string().contains("6 that another run is making"), "{fault}");
    assert_eq!(fault.kind, FaultKind::Transient);

    // What turned out not to be needed is given back: 5 and 4 of 95 are not too many.
    stand.host.commit(&[(0, Some(1)), (10, Some(1))]);
    gate.open();
    assert_eq!(within(importing).await.unwrap(), 5);
    let report = within(clean_up(&cleaner.pipeline, &cleaner.worker, 2)).await.unwrap().unwrap();
    assert_eq!((report.deleted, report.refused), (4, None));
    cleaner.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
}

/// What a run that died was allowed is its successor's.
#[tokio::test(start_paused = true)]
async fn what_a_run_was_allowed_that_died_is_not_counted_twice() {
    let stand = Stand::new(ROWS);
    let (dying, heir) = (strict(&stand, "dying").await, strict(&stand, "heir").await);
    dying.copy().await;
    let _consumers = heir.consume();
    lose(&stand, 0..6);
    let (_gate, importing) = allowed_and_held(&dying).await;
    importing.abort();
    let report = heir.import(Mode::Delta).await;
    assert_eq!(report.resumed, 1, "{report:?}");
    assert_eq!((report.sweep.deleted, report.sweep.refused), (6, None));
}

/// Wherever it died: what it had published counts once.
#[tokio::test(start_paused = true)]
async fn what_is_published_again_is_counted_once() {
    for act in [Act::CrashBefore, Act::CrashAfter] {
        let stand = Stand::new(ROWS);
        let (dying, heir) = (strict(&stand, "dying").await, strict(&stand, "heir").await);
        dying.copy().await;
        let _consumers = heir.consume();
        lose(&stand, 0..6);
        // The fence, and then the deletions.
        dying.faults.script("queue.publish", [Act::Pass, act]);
        let (pipeline, worker) = (dying.pipeline.clone(), dying.worker.clone());
        let importing = tokio::spawn(async move { import(&pipeline, Mode::Delta, &worker).await });
        within(dying.faults.crashed()).await;
        importing.abort();
        let report = heir.import(Mode::Delta).await.sweep;
        assert_eq!((report.deleted, report.refused), (6, None));
    }
}

/// Deletions that cannot be published are none.
#[tokio::test(start_paused = true)]
async fn attempts_that_fail_do_not_count() {
    let stand = Stand::new(ROWS);
    let process = strict(&stand, "a").await;
    process.copy().await;
    let _consumers = process.consume();
    lose(&stand, 0..6);
    let absent: Vec<_> = (0..6).map(FakeHost::key).collect();
    process.faults.script("queue.publish", [Act::Reject(FaultKind::Transient), Act::Reject(FaultKind::Transient)]);
    for _ in 0..2 {
        within(refresh(&process.pipeline, &absent, Origin::Event, false)).await.unwrap_err();
    }
    assert_eq!(within(refresh(&process.pipeline, &absent, Origin::Event, false)).await.unwrap(), 6);
}

/// A right that has passed is not used: others may have been given it since.
#[tokio::test(start_paused = true)]
async fn a_run_that_waited_for_too_long_is_judged_anew() {
    let stand = Stand::new(ROWS);
    let (importer, cleaner) = (strict(&stand, "importer").await, strict(&stand, "cleaner").await);
    importer.copy().await;
    let _consumers = cleaner.consume();
    lose(&stand, 0..6);
    let gate = Gate::new();
    importer.faults.script("host.snapshot", [Act::Pass, Act::Hold(gate.clone())]);
    let (pipeline, worker) = (importer.pipeline.clone(), importer.worker.clone());
    let importing = tokio::spawn(async move { import(&pipeline, Mode::Delta, &worker).await });
    tokio::time::sleep(Duration::from_secs(3_601)).await;
    stand.host.commit(&[(0, Some(1))]);
    lose(&stand, 10..19);
    let absent: Vec<_> = (10..19).map(FakeHost::key).collect();
    assert_eq!(within(refresh(&cleaner.pipeline, &absent, Origin::Event, false)).await.unwrap(), 9);
    gate.open();
    let fault = within(importing).await.unwrap().unwrap_err();
    assert!(fault.to_string().contains("counted and judged anew"), "{fault}");
    let report = cleaner.import(Mode::Delta).await.sweep;
    assert!(report.refused.is_some_and(|why| why.contains("9 in the last 24 hours")));
}

/// Two that look at the same moment: one of them writes first, and the other looks again.
#[tokio::test(start_paused = true)]
async fn who_looked_before_somebody_else_was_allowed_looks_again() {
    let stand = Stand::new(ROWS);
    let (importer, other) = (strict(&stand, "importer").await, strict(&stand, "other").await);
    importer.copy().await;
    let _consumers = other.consume();
    lose(&stand, 0..12);
    let gate = Gate::new();
    let before = importer.faults.calls("hashes.size");
    importer.faults.script("hashes.size", [Act::Hold(gate.clone())]);
    let (pipeline, first) = (importer.pipeline.clone(), (0..6).map(FakeHost::key).collect::<Vec<_>>());
    let looking = tokio::spawn(async move { refresh(&pipeline, &first, Origin::Event, false).await });
    within(async {
        while importer.faults.calls("hashes.size") == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let second: Vec<_> = (6..12).map(FakeHost::key).collect();
    assert_eq!(within(refresh(&other.pipeline, &second, Origin::Event, false)).await.unwrap(), 6);
    gate.open();
    let fault = within(looking).await.unwrap().unwrap_err();
    assert!(fault.to_string().contains("6 in the last 24 hours"), "{fault}");
}

/// Whoever was cancelled, or finds nothing any more, holds nothing back.
#[tokio::test(start_paused = true)]
async fn what_nobody_will_use_is_given_back() {
    for cancelled in [false, true] {
        let stand = Stand::new(ROWS);
        let (dying, process) = (strict(&stand, "dying").await, strict(&stand, "a").await);
        dying.copy().await;
        let _consumers = process.consume();
        lose(&stand, 0..6);
        let (_gate, importing) = allowed_and_held(&dying).await;
        importing.abort();
        stand.host.commit(&(0..6).map(|id| (id, Some(1))).collect::<Vec<_>>());
        if cancelled {
            process.ask("stop", Action::Cancel { pipelines: Vec::new() }).await;
        }
        process.import(Mode::Delta).await;
        process.import(Mode::Delta).await;
        lose(&stand, 10..16);
        let report = within(clean_up(&process.pipeline, &process.worker, 1)).await.unwrap().unwrap();
        assert_eq!((report.deleted, report.refused), (6, None), "cancelled: {cancelled}");
    }
}

/// Nor does it keep others from deleting for ever.
#[tokio::test(start_paused = true)]
async fn what_a_run_was_allowed_that_died_is_free_after_an_hour() {
    let stand = Stand::new(ROWS);
    let (dying, cleaner) = (strict(&stand, "dying").await, strict(&stand, "cleaner").await);
    dying.copy().await;
    let _consumers = cleaner.consume();
    lose(&stand, 0..6);
    let (_gate, importing) = allowed_and_held(&dying).await;
    importing.abort();
    let fault = within(clean_up(&cleaner.pipeline, &cleaner.worker, 1)).await.unwrap_err();
    assert!(fault.to_string().contains("6 that another run is making"), "{fault}");
    tokio::time::sleep(Duration::from_secs(3_601)).await;
    let report = within(clean_up(&cleaner.pipeline, &cleaner.worker, 2)).await.unwrap().unwrap();
    assert_eq!((report.deleted, report.refused), (6, None));
}

/// A page that is read again may find its candidates under another first key.
#[tokio::test(start_paused = true)]
async fn what_a_page_found_before_it_died_is_counted_once() {
    // While it lists; the first entries are the run's own.
    for puts in 3..30 {
        let stand = Stand::new(ROWS);
        let process = strict(&stand, "a").await;
        process.copy().await;
        let _consumers = process.consume();
        lose(&stand, 40..46);
        process.faults.script("state.put", [vec![Act::Pass; puts], vec![Act::Reject(FaultKind::Transient)]].concat());
        within(import(&process.pipeline, Mode::Delta, &process.worker)).await.unwrap_err();
        stand.host.commit(&[(40, Some(1))]);
        let report = process.import(Mode::Delta).await.sweep;
        assert!(report.refused.is_none() && report.candidates <= 6, "died at {puts}: {report:?}");
        process.settle().await;
        assert_eq!(stand.document(45), None);
    }
}
