//! What a clean-up takes for evidence of absence, and what not (L8).

use std::time::Duration;

use fides_core::command::{Action, Status};
use fides_core::{FaultKind, Origin};
use fides_engine::import::{Mode, import};
use fides_engine::inspect::status;
use fides_engine::{ForeignPolicy, SweepReport, clean_up, follow, last_cleanup_due_ms, log_place, refresh};
use fides_testkit::fake::{Act, FakeHost, FakeMapper, Gate, Order};
use tokio_util::sync::CancellationToken;

use crate::stand::{Process, Stand, namespace, within};

const ROWS: i64 = 100;

/// A copied table of which more than 10 % may not be deleted.
async fn copied() -> (Stand, Process) {
    let stand = Stand::new(ROWS);
    let process = strict(&stand, "a").await;
    process.copy().await;
    (stand, process)
}

async fn strict(stand: &Stand, name: &str) -> Process {
    let mut process = stand.process(name).await;
    process.pipeline.limits.delete_count_min = 1;
    process
}

async fn cleaned(process: &Process) -> SweepReport {
    // One instant is cleaned up for once.
    let due_ms = last_cleanup_due_ms(&process.pipeline).await.unwrap().map_or(1, |last_ms| last_ms + 1);
    within(clean_up(&process.pipeline, &process.worker, due_ms)).await.unwrap().unwrap()
}

fn held(stand: &Stand) -> usize {
    stand.target.documents(&namespace()).len()
}

/// Nothing was deleted, and a person is told: by the report, and by the status until a clean-up is not refused.
async fn refused(stand: &Stand, process: &Process, report: &SweepReport, expected: &str) {
    process.settle().await;
    assert_eq!((report.deleted, held(stand)), (0, 100), "{report:?}");
    let why = report.refused.clone().unwrap_or_default();
    assert!(why.contains(expected), "{why}");
    let told = status(&process.pipeline).await.unwrap().refused.unwrap();
    assert_eq!((told.why.as_str(), told.candidates), (why.as_str(), report.candidates));
    let command = format!("`fides approve p {} --deletions-max {}`", told.run, told.candidates);
    assert!(why.contains(&command), "{why} lacks {command}");
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_fails_in_the_middle_or_times_out_deletes_nothing() {
    for act in [Act::Reject(FaultKind::Transient), Act::FailAfter(FaultKind::Transient)] {
        let (stand, process) = copied().await;
        let _consumers = process.consume();
        stand.host.commit(&[(3, None)]);
        process.faults.script("host.scan", [Act::Pass, Act::Pass, act.clone()]);
        within(import(&process.pipeline, Mode::Delta, &process.worker)).await.unwrap_err();
        process.settle().await;
        assert_eq!(held(&stand), 100, "an import");

        process.faults.script("host.scan", [Act::Pass, Act::Pass, act]);
        within(clean_up(&process.pipeline, &process.worker, 1)).await.unwrap_err();
        process.settle().await;
        assert_eq!(held(&stand), 100, "a clean-up");
        let told = status(&process.pipeline).await.unwrap().refused.unwrap();
        assert!(told.why.contains("not proven complete: host.scan"), "{}", told.why);

        assert_eq!(cleaned(&process).await.deleted, 1);
        assert_eq!(status(&process.pipeline).await.unwrap().refused, None, "the alert has ended");
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_deletes_nothing() {
    let (stand, process) = copied().await;
    let _consumers = process.consume();
    stand.host.answer_empty(true);
    refused(&stand, &process, &process.import(Mode::Delta).await.sweep, "the host namespace is empty").await;
    refused(&stand, &process, &cleaned(&process).await, "the host namespace is empty").await;
    stand.host.answer_empty(false);
    assert_eq!(cleaned(&process).await.refused, None);
    assert_eq!(status(&process.pipeline).await.unwrap().refused, None, "the alert has ended");
}

#[tokio::test(start_paused = true)]
async fn half_of_the_rows_delete_nothing() {
    let (stand, process) = copied().await;
    let _consumers = process.consume();
    stand.host.hide_from(Some(50));
    let why = "the host has 50 records where its last complete listing lets expect 100, 50.0 % less";
    // Twice: what was refused is not what the next listing is compared with.
    for _ in 0..2 {
        refused(&stand, &process, &process.import(Mode::Delta).await.sweep, why).await;
        refused(&stand, &process, &cleaned(&process).await, why).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_that_was_swapped_for_an_empty_one_deletes_nothing() {
    let (stand, process) = copied().await;
    let _consumers = process.consume();
    stand.host.truncate(&[]);
    refused(&stand, &process, &process.import(Mode::Delta).await.sweep, "the host namespace is empty").await;
    refused(&stand, &process, &cleaned(&process).await, "the host namespace is empty").await;
}

/// Deletions that the host itself has told are not missed by the next listing.
#[tokio::test(start_paused = true)]
async fn a_host_whose_log_told_that_it_shrank_is_believed() {
    let stand = Stand::of(FakeHost::new(Order::Host), ROWS);
    let process = strict(&stand, "a").await;
    let stop = CancellationToken::new();
    let (pipeline, worker, stopped) = (process.pipeline.clone(), process.worker.clone(), stop.clone());
    tokio::spawn(async move { follow(&pipeline, &worker, &stopped).await });
    let _at_work = (process.consume(), stop.drop_guard());
    process.import(Mode::Delta).await;
    let position = stand.host.commit(&(0..80).map(|id| (id, None)).collect::<Vec<_>>());
    within(async {
        while log_place(&process.pipeline).await.unwrap() < Some(position) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    process.settle().await;
    assert_eq!(held(&stand), 20);
    // The log does not tell of this one, and it is one of the 20 that are held.
    stand.host.hide_from(Some(99));
    let report = process.import(Mode::Delta).await.sweep;
    assert_eq!((report.candidates, report.deleted, report.refused), (1, 1, None));
}

#[tokio::test(start_paused = true)]
async fn a_legal_clean_up_deletes_exactly_what_is_gone() {
    for by_walk in [false, true] {
        let (stand, process) = copied().await;
        let _consumers = process.consume();
        stand.host.commit(&[(0, None), (17, None), (42, None), (63, None), (99, None)]);
        let report = if by_walk { cleaned(&process).await } else { process.import(Mode::Delta).await.sweep };
        process.settle().await;
        assert_eq!((report.candidates, report.deleted, report.refused), (5, 5, None));
        let gone: Vec<i64> = (0..ROWS).filter(|&id| stand.document(id).is_none()).collect();
        assert_eq!(gone, [0, 17, 42, 63, 99]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_created_again_before_it_is_fetched_again_survives() {
    let (stand, process) = copied().await;
    let _consumers = process.consume();
    stand.host.commit(&[(7, None)]);
    let gate = Gate::new();
    // The walk's, and then the one that is asked again.
    process.faults.script("host.snapshot", [Act::Pass, Act::Hold(gate.clone())]);
    let before = process.faults.calls("host.snapshot");
    let (pipeline, worker) = (process.pipeline.clone(), process.worker.clone());
    let cleaning = tokio::spawn(async move { clean_up(&pipeline, &worker, 1).await });
    within(async {
        while process.faults.calls("host.snapshot") < before + 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    stand.host.commit(&[(7, Some(1))]);
    gate.open();
    let report = within(cleaning).await.unwrap().unwrap().unwrap();
    process.settle().await;
    assert_eq!((report.candidates, report.deleted), (1, 0));
    assert!(stand.document(7).is_some());
}

#[tokio::test(start_paused = true)]
async fn what_is_created_again_later_is_restored_by_the_next_import() {
    let (stand, process) = copied().await;
    let _consumers = process.consume();
    stand.host.commit(&[(7, None)]);
    assert_eq!(cleaned(&process).await.deleted, 1);
    process.settle().await;
    assert_eq!(stand.document(7), None);
    stand.host.commit(&[(7, Some(1))]);
    process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_while_an_import_reads_disappears() {
    let stand = Stand::new(ROWS);
    let process = stand.process("a").await;
    let _consumers = process.consume();
    let gate = Gate::new();
    process.faults.script("host.scan", [Act::Pass, Act::Pass, Act::Pass, Act::Hold(gate.clone())]);
    let (pipeline, worker) = (process.pipeline.clone(), process.worker.clone());
    let importing = tokio::spawn(async move { import(&pipeline, Mode::Delta, &worker).await });
    within(async {
        while process.faults.calls("host.scan") < 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    stand.host.commit(&[(1, None)]);
    gate.open();
    within(importing).await.unwrap().unwrap();
    process.settle().await;
    assert!(stand.document(1).is_some(), "it was read before it was deleted");
    process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!(stand.document(1), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_inserted_and_not_visible_to_the_listing_is_never_deleted() {
    for by_walk in [false, true] {
        let (stand, process) = copied().await;
        let other = stand.process("b").await;
        let _consumers = other.consume();
        let gate = Gate::new();
        // The listing's state is older than the row; the target's is read behind it.
        process.faults.script("host.scan", [Act::Hold(gate.clone())]);
        process.faults.script("target.snapshot", [Act::Hold(gate.clone())]);
        let before = process.faults.calls("host.scan") + process.faults.calls("target.snapshot");
        let (pipeline, worker) = (process.pipeline.clone(), process.worker.clone());
        let sweeping = tokio::spawn(async move {
            if by_walk {
                clean_up(&pipeline, &worker, 1).await.map(Option::unwrap)
            } else {
                import(&pipeline, Mode::Delta, &worker).await.map(|report| report.sweep)
            }
        });
        within(async {
            while process.faults.calls("host.scan") + process.faults.calls("target.snapshot") == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        stand.host.commit(&[(50, Some(2)), (500, Some(1))]);
        refresh(&other.pipeline, &[FakeHost::key(500)], Origin::Event, false).await.unwrap();
        other.settle().await;
        gate.open();
        let report = within(sweeping).await.unwrap().unwrap();
        other.settle().await;
        assert_eq!(report.deleted, 0);
        assert!(stand.document(500).is_some(), "walk: {by_walk}");
        if !by_walk {
            assert_eq!(report.candidates, 0, "it was written after the state that the listing shows");
        }
    }
}

/// Rows that somebody else wrote.
fn write_foreign_rows(stand: &Stand) {
    let mapper = FakeMapper::new(1);
    for id in [900, 901, 902] {
        stand.target.tamper(&namespace(), &FakeHost::key(id), mapper.document(id, 1).map(Into::into));
    }
}

#[tokio::test(start_paused = true)]
async fn rows_of_others_are_counted_and_left_alone_unless_the_configuration_says_otherwise() {
    let (stand, mut process) = copied().await;
    write_foreign_rows(&stand);
    let _consumers = process.consume();
    stand.host.commit(&[(7, None)]);
    let report = cleaned(&process).await;
    process.settle().await;
    assert_eq!((report.candidates, report.deleted, report.foreign), (1, 1, 3));
    assert_eq!((stand.document(7), held(&stand)), (None, 99 + 3));

    process.pipeline.foreign = ForeignPolicy::Delete;
    let report = cleaned(&process).await;
    process.settle().await;
    assert_eq!((report.candidates, report.deleted, report.foreign), (3, 3, 0));
    assert_eq!(held(&stand), 99);
}

/// L11: without its marks a record that was deleted meanwhile cannot be told from a row of somebody else.
#[tokio::test(start_paused = true)]
async fn where_marks_were_lost_no_row_is_taken_for_foreign() {
    let (stand, process) = copied().await;
    drop(process);
    stand.host.commit(&[(7, None)]);
    stand.disk.lose_everything();
    let process = stand.process("b").await;
    let _consumers = process.consume();
    let report = process.import(Mode::Delta).await.sweep;
    process.settle().await;
    assert_eq!((report.candidates, report.deleted, report.foreign), (1, 1, 0));
    assert_eq!(stand.document(7), None);
}

fn approve(run: &str, deletions_max: u64) -> Action {
    Action::Approve { pipeline: "p".into(), run: run.into(), deletions_max, expires_seconds: 60 }
}

/// A clean-up that was refused: 20 of 100 rows are gone. Its run.
async fn refused_run(stand: &Stand, process: &Process) -> String {
    stand.host.commit(&(0..20).map(|id| (id, None)).collect::<Vec<_>>());
    let report = cleaned(process).await;
    assert_eq!((report.candidates, report.deleted), (20, 0));
    status(&process.pipeline).await.unwrap().refused.unwrap().run
}

#[tokio::test(start_paused = true)]
async fn an_approval_lets_one_run_delete_up_to_its_ceiling() {
    let (stand, process) = copied().await;
    let _at_work = process.serve();
    let run = refused_run(&stand, &process).await;
    let answer = process.ask_and_wait("other", approve("cleanup-0", 20)).await;
    let reason = answer.reason.unwrap();
    assert!(reason.contains("`run`: found \"cleanup-0\"") && reason.contains(&run), "{reason}");
    assert_eq!(held(&stand), 100);

    let answer = process.ask_and_wait("a", approve(&run, 20)).await;
    process.settle().await;
    assert_eq!(answer.status, Status::Done, "{answer:?}");
    assert_eq!((answer.detail.unwrap()["p"]["deleted"].as_u64(), held(&stand)), (Some(20), 80));
    assert_eq!(status(&process.pipeline).await.unwrap().refused, None);

    // Used up: neither the same command nor another one deletes again.
    stand.host.commit(&(20..40).map(|id| (id, None)).collect::<Vec<_>>());
    assert_eq!(process.ask("a", approve(&run, 20)).await.status, Status::Done);
    let again = process.ask_and_wait("b", approve(&run, 20)).await;
    assert_eq!(again.status, Status::Refused, "{again:?}");
    tokio::time::sleep(Duration::from_secs(10)).await;
    process.settle().await;
    assert_eq!(held(&stand), 80);
}

#[tokio::test(start_paused = true)]
async fn more_than_the_ceiling_is_refused_altogether_and_wants_an_approval_of_its_own() {
    let (stand, process) = copied().await;
    let _at_work = process.serve();
    let run = refused_run(&stand, &process).await;
    // Searched anew: one more is gone.
    stand.host.commit(&[(20, None)]);
    let answer = process.ask_and_wait("a", approve(&run, 20)).await;
    let reason = answer.reason.unwrap();
    assert!(reason.contains("the approval allows 20") && reason.contains("--deletions-max 21`"), "{reason}");
    let anew = status(&process.pipeline).await.unwrap().refused.unwrap().run;
    assert_ne!(anew, run);
    let twice = process.ask_and_wait("b", approve(&run, 21)).await;
    assert_eq!(twice.status, Status::Refused);
    process.settle().await;
    assert_eq!(held(&stand), 100);
    assert_eq!(process.ask_and_wait("c", approve(&anew, 21)).await.status, Status::Done);
    process.settle().await;
    assert_eq!(held(&stand), 79);
}

/// A ceiling is one also where so few deletions would need no approval.
#[tokio::test(start_paused = true)]
async fn a_ceiling_holds_where_nothing_else_would_refuse() {
    let (stand, mut process) = copied().await;
    let run = {
        let _consumers = process.consume();
        refused_run(&stand, &process).await
    };
    process.pipeline.limits.delete_count_min = 50;
    let _at_work = process.serve();
    let answer = process.ask_and_wait("a", approve(&run, 10)).await;
    assert!(answer.reason.as_ref().is_some_and(|why| why.contains("the approval allows 10")), "{answer:?}");
    process.settle().await;
    assert_eq!(held(&stand), 100);
}

/// What was about to be deleted when the pipeline was paused is not taken off the ceiling twice.
#[tokio::test(start_paused = true)]
async fn a_pause_in_an_approved_clean_up_uses_nothing_up() {
    let (stand, process) = copied().await;
    let run = {
        let _consumers = process.consume();
        refused_run(&stand, &process).await
    };
    let gate = Gate::new();
    let before = process.faults.calls("queue.publish");
    process.faults.script("queue.publish", [Act::Pass, Act::Pass, Act::Pass, Act::Hold(gate.clone())]);
    process.ask("a", approve(&run, 20)).await;
    let _at_work = process.serve();
    while process.faults.calls("queue.publish") < before + 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    process.ask("p", Action::Pause { pipelines: Vec::new() }).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    gate.open();
    process.ask("r", Action::Resume { pipelines: Vec::new() }).await;
    let answer = process.ask_and_wait("a", approve(&run, 20)).await;
    assert_eq!(answer.status, Status::Done, "{answer:?}");
    process.settle().await;
    assert_eq!(held(&stand), 80);
}

/// Imports that are refused for the same do not take the name away that a person reads.
#[tokio::test(start_paused = true)]
async fn a_refusal_keeps_its_name_while_the_same_is_refused() {
    let (stand, process) = copied().await;
    let _consumers = process.consume();
    stand.host.commit(&(0..20).map(|id| (id, None)).collect::<Vec<_>>());
    process.import(Mode::Delta).await;
    let first = status(&process.pipeline).await.unwrap().refused.unwrap();
    process.import(Mode::Delta).await;
    assert_eq!(status(&process.pipeline).await.unwrap().refused, Some(first.clone()));
    stand.host.commit(&[(20, None)]);
    process.import(Mode::Delta).await;
    let other = status(&process.pipeline).await.unwrap().refused.unwrap();
    assert!(other.run != first.run && other.candidates == 21);
}

#[tokio::test(start_paused = true)]
async fn an_approval_of_a_run_is_given_once_and_expires() {
    let (stand, process) = copied().await;
    let run = {
        let _consumers = process.consume();
        refused_run(&stand, &process).await
    };
    assert_eq!(process.ask("a", approve(&run, 20)).await.status, Status::Accepted);
    let twice = process.ask("b", approve(&run, 20)).await;
    assert!(twice.reason.unwrap().contains("was approved before, by command a: an approval is used once"));
    tokio::time::sleep(Duration::from_secs(61)).await;
    let _at_work = process.serve();
    let answer = process.ask_and_wait("a", approve(&run, 20)).await;
    let reason = answer.reason.unwrap();
    assert!(reason.contains(&format!("the approval of {run} has expired")), "{reason}");
    process.settle().await;
    assert_eq!(held(&stand), 100);
}

/// The ceiling counts what was deleted before a crash.
#[tokio::test(start_paused = true)]
async fn a_crash_in_the_middle_of_an_approved_clean_up_does_not_widen_its_ceiling() {
    let (stand, process) = copied().await;
    let run = {
        let _consumers = process.consume();
        refused_run(&stand, &process).await
    };
    assert_eq!(process.ask("a", approve(&run, 20)).await.status, Status::Accepted);
    let dying = strict(&stand, "dying").await;
    // The fence, and the deletions of two pages.
    dying.faults.script("queue.publish", [Act::Pass, Act::Pass, Act::Pass, Act::Pass, Act::CrashAfter]);
    {
        let _at_work = dying.serve();
        within(dying.faults.crashed()).await;
    }
    // More are gone by now; they were not found when it was approved.
    stand.host.commit(&(30..35).map(|id| (id, None)).collect::<Vec<_>>());
    let heir = strict(&stand, "heir").await;
    let _at_work = heir.serve();
    let answer = heir.ask_and_wait("a", approve(&run, 20)).await;
    heir.settle().await;
    assert_eq!(answer.status, Status::Done, "{answer:?}");
    assert_eq!(held(&stand), 80);
    assert!((30..35).all(|id| stand.document(id).is_some()));
}
