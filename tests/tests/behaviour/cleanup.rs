//! Clean-ups beside imports.

use std::time::Duration;

use fides_core::command::{Action, Status};
use fides_core::{FaultKind, Origin};
use fides_engine::import::Mode;
use fides_engine::inspect::status;
use fides_engine::{ForeignPolicy, clean_up, refresh, unfinished_cleanup_due_ms};
use fides_testkit::fake::{Act, FakeHost, FakeMapper, Gate};

use crate::stand::{Process, Stand, namespace, within};

#[tokio::test(start_paused = true)]
async fn a_record_that_returns_while_its_deletion_is_on_its_way_is_sent() {
    let stand = Stand::new(12);
    let (cleaner, importer) = (stand.process("cleaner").await, stand.process("importer").await);
    let _consumers = importer.consume();
    importer.import(Mode::Delta).await;
    importer.settle().await;

    stand.host.commit(&[(0, None)]);
    let slow = Gate::new();
    // The fence, and then the deletion.
    cleaner.faults.script("queue.publish", [Act::Pass, Act::Hold(slow.clone())]);
    let (pipeline, worker) = (cleaner.pipeline.clone(), cleaner.worker.clone());
    let cleaning = tokio::spawn(async move { clean_up(&pipeline, &worker, 1).await });
    while cleaner.faults.calls("queue.publish") < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    stand.host.commit(&[(0, Some(1))]);
    importer.import(Mode::Delta).await;
    slow.open();
    let report = within(cleaning).await.unwrap().unwrap().unwrap();
    assert_eq!(report.deleted, 1, "the deletion was sent");
    importer.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
}

/// Pages that were compared are not read again, what they showed is not forgotten, and a listing that broke off is no
/// refusal any more.
#[tokio::test(start_paused = true)]
async fn a_clean_up_goes_on_where_it_died() {
    let stand = Stand::new(80);
    let (first, second) = (stand.process("first").await, stand.process("second").await);
    first.copy().await;
    stand.host.commit(&[(1, None), (78, None)]);
    let _consumers = second.consume();
    let broken = [vec![Act::Pass; 10], vec![Act::Reject(FaultKind::Transient)]].concat();
    first.faults.script("host.scan", broken);
    within(clean_up(&first.pipeline, &first.worker, 1)).await.unwrap_err();
    let refused = status(&second.pipeline).await.unwrap().refused.expect("an alert");
    assert!(refused.why.contains("not proven complete"), "{}", refused.why);

    let report = within(clean_up(&second.pipeline, &second.worker, 1)).await.unwrap().unwrap();
    second.settle().await;
    assert_eq!((report.candidates, report.deleted, report.refused), (2, 2, None));
    let pages = second.faults.calls("host.scan");
    assert!((10..=12).contains(&pages), "{pages} of 20 pages were left");
    assert_eq!(stand.differing(1), [0; 0]);
    assert_eq!((stand.document(1), stand.document(78)), (None, None));
    let status = status(&second.pipeline).await.unwrap();
    assert!(status.refused.is_none() && status.cleaned.is_some_and(|cleaned| cleaned.report.deleted == 2));

    // The next one begins at the beginning, and expects what both parts have counted.
    stand.host.commit(&[(2, None)]);
    let report = within(clean_up(&second.pipeline, &second.worker, 2)).await.unwrap().unwrap();
    assert_eq!((report.deleted, report.refused), (1, None));
    assert!(second.faults.calls("host.scan") >= pages + 20);
}

/// One that died and is refused when it has come to its end tells what it would have deleted.
#[tokio::test(start_paused = true)]
async fn a_clean_up_that_died_is_refused_by_all_that_it_found() {
    let stand = Stand::new(80);
    let mut process = stand.process("a").await;
    process.pipeline.limits.delete_count_min = 1;
    process.copy().await;
    stand.host.commit(&(0..40).map(|id| (id * 2, None)).collect::<Vec<_>>());
    process.faults.script("host.scan", [Act::Pass, Act::Pass, Act::Pass, Act::Reject(FaultKind::Transient)]);
    let _consumers = process.consume();
    within(clean_up(&process.pipeline, &process.worker, 1)).await.unwrap_err();
    let report = within(clean_up(&process.pipeline, &process.worker, 1)).await.unwrap().unwrap();
    assert_eq!((report.candidates, report.deleted), (40, 0));
    let refused = status(&process.pipeline).await.unwrap().refused.expect("an alert");
    assert_eq!(refused.candidates, 40, "{}", refused.why);
    assert!(
        refused.why.contains("the host has 40 records where its last complete listing lets expect 80"),
        "{}",
        refused.why
    );
}

/// A clean-up of 80 rows that died after eleven pages of twenty.
async fn died(stand: &Stand, process: &Process) {
    process.faults.script("host.scan", [vec![Act::Pass; 11], vec![Act::Reject(FaultKind::Transient)]].concat());
    within(clean_up(&process.pipeline, &process.worker, 1)).await.unwrap_err();
    assert_eq!(stand.target.documents(&namespace()).len(), 80);
}

/// What a walk has counted is no evidence of what the host has now.
#[tokio::test(start_paused = true)]
async fn a_host_that_was_emptied_meanwhile_is_noticed() {
    let stand = Stand::new(80);
    let mut process = stand.process("a").await;
    process.pipeline.limits.delete_count_min = 1;
    process.pipeline.limits.delete_ratio_max = 0.6;
    process.copy().await;
    let _consumers = process.consume();
    died(&stand, &process).await;
    stand.host.truncate(&[]);
    let report = within(clean_up(&process.pipeline, &process.worker, 1)).await.unwrap().unwrap();
    process.settle().await;
    assert!(report.refused.is_some_and(|why| why.contains("is empty")));
    assert_eq!(stand.target.documents(&namespace()).len(), 80);
}

/// A clean-up that died long ago, under other rules, or that was cancelled, begins anew; what it had found is forgotten.
#[tokio::test(start_paused = true)]
async fn a_clean_up_is_not_gone_on_with_for_ever() {
    for case in ["at once", "too late", "other rules", "cancelled", "another epoch"] {
        let stand = Stand::new(80);
        let mut process = stand.process("a").await;
        process.pipeline.foreign = ForeignPolicy::Delete;
        process.copy().await;
        let strangers: Vec<_> = (-3..0).map(FakeHost::key).collect();
        for key in &strangers {
            stand.target.tamper(&namespace(), key, FakeMapper::new(1).document(-1, 1).map(Into::into));
        }
        let _consumers = process.consume();
        process.faults.script("host.scan", [vec![Act::Pass; 11], vec![Act::Reject(FaultKind::Transient)]].concat());
        within(clean_up(&process.pipeline, &process.worker, 1)).await.unwrap_err();
        assert_eq!(unfinished_cleanup_due_ms(&process.pipeline).await.unwrap(), Some(1));
        match case {
            "too late" => tokio::time::sleep(Duration::from_mins(11)).await,
            "other rules" => process.pipeline.foreign = ForeignPolicy::Keep,
            "cancelled" => {
                process.ask("stop", Action::Cancel { pipelines: Vec::new() }).await;
                assert_eq!(unfinished_cleanup_due_ms(&process.pipeline).await.unwrap(), None);
            }
            "another epoch" => {
                stand.disk.lose_everything();
                process.copy().await;
            }
            _ => {}
        }
        let before = process.faults.calls("host.scan");
        let report = within(clean_up(&process.pipeline, &process.worker, 2)).await.unwrap().unwrap();
        process.settle().await;
        let pages = process.faults.calls("host.scan") - before;
        assert_eq!(pages < 20, case == "at once", "{case}: {pages} pages");
        let kept = strangers.iter().filter(|&key| stand.target.documents(&namespace()).contains_key(key)).count();
        assert_eq!(kept, if case == "other rules" { 3 } else { 0 }, "{case}: {report:?}");
        assert_eq!(unfinished_cleanup_due_ms(&process.pipeline).await.unwrap(), None, "{case}");
    }
}

/// An approval makes the host's old count good enough, and only as long as it holds.
#[tokio::test(start_paused = true)]
async fn an_approved_clean_up_is_not_gone_on_with_when_its_approval_has_expired() {
    let stand = Stand::new(80);
    let (mut dying, mut heir) = (stand.process("dying").await, stand.process("heir").await);
    for process in [&mut dying, &mut heir] {
        process.pipeline.limits.delete_count_min = 1;
    }
    dying.copy().await;
    stand.host.commit(&(0..20).map(|id| (id, None)).collect::<Vec<_>>());
    {
        let _consumers = dying.consume();
        within(clean_up(&dying.pipeline, &dying.worker, 1)).await.unwrap().unwrap();
    }
    let refused = status(&heir.pipeline).await.unwrap().refused.expect("20 of 80 are too many");
    let approve = Action::Approve { pipeline: "p".into(), run: refused.run, deletions_max: 20, expires_seconds: 60 };
    assert_eq!(dying.ask("a", approve.clone()).await.status, Status::Accepted);
    dying.faults.script("host.scan", [vec![Act::Pass; 8], vec![Act::CrashAfter]].concat());
    {
        let _serving = dying.serve();
        within(dying.faults.crashed()).await;
    }
    tokio::time::sleep(Duration::from_mins(11)).await;
    let _serving = heir.serve();
    let answer = heir.ask_and_wait("a", approve).await;
    assert!(answer.reason.is_some_and(|why| why.contains("has expired")));
    let pages = heir.faults.calls("host.scan");
    assert!(pages >= 15, "{pages} of 15 pages were read");
}

/// A step that is done again replaces what it had found: no candidate is counted twice.
#[tokio::test(start_paused = true)]
async fn what_a_step_found_before_it_died_is_counted_once() {
    let mut died = 0;
    for puts in 2..12 {
        let stand = Stand::new(80);
        let process = stand.process("a").await;
        process.copy().await;
        stand.host.commit(&[(9, None), (10, None), (11, None)]);
        let _consumers = process.consume();
        process.faults.script("state.put", [vec![Act::Pass; puts], vec![Act::Reject(FaultKind::Transient)]].concat());
        if within(clean_up(&process.pipeline, &process.worker, 1)).await.is_ok() {
            continue;
        }
        died += 1;
        stand.host.commit(&[(8, None)]);
        let report = within(clean_up(&process.pipeline, &process.worker, 1)).await.unwrap().unwrap();
        assert!(report.candidates <= 4, "died at {puts}: {report:?}");
        within(clean_up(&process.pipeline, &process.worker, 2)).await.unwrap().unwrap();
        process.settle().await;
        assert_eq!(stand.differing(1), [0; 0]);
        assert_eq!([8, 9, 10, 11].map(|id| stand.document(id)), [None, None, None, None]);
    }
    assert!(died > 5, "{died}");
}

/// The clean-up of the schedule and one that is asked for, in one process: they do not take the lease from each other.
#[tokio::test(start_paused = true)]
async fn two_clean_ups_in_one_process_wait_for_each_other() {
    let stand = Stand::new(80);
    let process = stand.process("a").await;
    process.copy().await;
    stand.host.commit(&[(1, None), (78, None)]);
    let gate = Gate::new();
    let before = process.faults.calls("host.scan");
    process.faults.script("host.scan", [vec![Act::Pass; 10], vec![Act::Hold(gate.clone())]].concat());
    let (pipeline, worker) = (process.pipeline.clone(), process.worker.clone());
    let _serving = process.serve();
    let scheduled = tokio::spawn(async move { clean_up(&pipeline, &worker, 1).await });
    while process.faults.calls("host.scan") < before + 11 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    process.ask("clean", Action::Cleanup { pipelines: Vec::new() }).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(process.faults.calls("host.scan"), before + 11, "nobody else reads meanwhile");
    gate.open();
    let report = within(scheduled).await.unwrap().unwrap().unwrap();
    assert_eq!((report.deleted, report.refused), (2, None));
    let answer = process.ask_and_wait("clean", Action::Cleanup { pipelines: Vec::new() }).await;
    assert_eq!(answer.status, Status::Done, "{answer:?}");
}

/// Keys that are asked for are judged, too: none of an empty host's are deleted.
#[tokio::test(start_paused = true)]
async fn keys_of_a_host_that_was_emptied_are_not_deleted() {
    let stand = Stand::new(100);
    let process = stand.process("a").await;
    process.copy().await;
    let _consumers = process.consume();
    stand.host.truncate(&[]);
    let keys: Vec<_> = (0..8).map(FakeHost::key).collect();
    let fault = refresh(&process.pipeline, &keys, Origin::Repair, true).await.unwrap_err();
    assert!(fault.to_string().contains("is empty"), "{fault}");
    process.settle().await;
    assert_eq!(stand.target.documents(&namespace()).len(), 100);
}

/// Two schedulers name a missed clean-up by the same instant, and it is done once.
#[tokio::test(start_paused = true)]
async fn a_clean_up_of_an_instant_is_done_once() {
    let stand = Stand::new(4);
    let (one, other) = (stand.process("one").await, stand.process("other").await);
    one.copy().await;
    let _consumers = one.consume();
    assert!(within(clean_up(&one.pipeline, &one.worker, 7)).await.unwrap().is_some());
    assert!(within(clean_up(&other.pipeline, &other.worker, 7)).await.unwrap().is_none(), "it is done");
    assert!(within(clean_up(&other.pipeline, &other.worker, 8)).await.unwrap().is_some(), "the next one is due");
}

/// Deletions of all sources together are limited: a repair counts, too.
#[tokio::test(start_paused = true)]
async fn deletions_by_repairs_count_among_all_others() {
    let stand = Stand::new(40);
    let mut process = stand.process("a").await;
    process.pipeline.limits.delete_count_min = 1;
    process.pipeline.limits.delete_ratio_max = 0.12;
    process.copy().await;
    let _consumers = process.consume();
    let gone = async |from: i64| {
        stand.host.commit(&[(from, None), (from + 1, None)]);
        let keys = [FakeHost::key(from), FakeHost::key(from + 1)];
        refresh(&process.pipeline, &keys, Origin::Repair, true).await
    };
    assert_eq!(gone(0).await.unwrap(), 2);
    assert_eq!(gone(10).await.unwrap(), 2);
    let fault = gone(20).await.unwrap_err();
    assert!(fault.to_string().contains("2 records are gone from the host, and deleting them was refused"), "{fault}");
    process.settle().await;
    assert_eq!(stand.document(0), None);
    assert!(stand.document(20).is_some());
}
