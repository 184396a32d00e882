//! Cancelled work: it ends, and nothing is deleted or sent by it any more.

use std::time::Duration;

use fides_core::FaultKind;
use fides_core::command::{Action, Extent, Status};
use fides_engine::import::{Mode, demanded, import};
use fides_engine::inspect::status;
use fides_testkit::fake::{Act, Gate};

use crate::admin::{importing, pause, reimport, resume, tamper, until_called};
use crate::stand::{Stand, within};

fn cancel() -> Action {
    Action::Cancel { pipelines: vec![] }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_import_ends_deletes_nothing_and_the_next_one_begins_anew() {
    let stand = Stand::new(40);
    let process = stand.process("a").await;
    process.copy().await;
    let _consumers = process.consume();
    stand.host.commit(&[(0, None), (1, Some(2)), (39, Some(2))]);
    process.ask("reimport", reimport(Extent::Delta, &[], vec![])).await;
    let before = process.faults.calls("host.scan");
    process.faults.script("host.scan", [Act::Pass, Act::Pass, Act::Hold(Gate::new())]);
    let import = importing(&process);
    until_called(&process, "host.scan", before + 3).await;
    let answer = process.ask("cancel", cancel()).await;
    assert_eq!((answer.status, &answer.detail.unwrap()["p"]["run"].is_string()), (Status::Done, &true));
    let report = within(import).await.unwrap().unwrap();
    assert_eq!(report.cancelled.as_deref(), Some("cancelled by eve"));
    assert_eq!(report.sweep.deleted, 0);
    let asked = process.ask("reimport", reimport(Extent::Delta, &[], vec![])).await;
    assert_eq!((asked.status, asked.reason.as_deref()), (Status::Refused, Some("p: cancelled by eve")));
    process.settle().await;
    assert!(stand.document(0).is_some());
    assert!(!demanded(&process.pipeline).await.unwrap(), "it does not begin again by itself");
    let told = status(&process.pipeline).await.unwrap().run.unwrap();
    assert_eq!((told.cancelled.as_deref(), told.ended_ms.is_some()), (Some("cancelled by eve"), true));

    let next = process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!((next.resumed, next.counts.read, next.cancelled), (0, 39, None));
    assert_eq!((stand.document(0), stand.differing(1)), (None, vec![]));
}

/// A run that nobody reads any more, and one that is paused, are cancelled like any other.
#[tokio::test(start_paused = true)]
async fn a_run_that_was_interrupted_or_paused_is_cancelled() {
    let stand = Stand::new(40);
    let process = stand.process("a").await;
    process.copy().await;
    stand.host.commit(&[(0, Some(2))]);
    let _consumers = process.consume();
    process.faults.script("host.scan", [Act::Pass, Act::Pass, Act::Reject(FaultKind::Transient)]);
    within(import(&process.pipeline, Mode::Delta, &process.worker)).await.unwrap_err();
    process.ask("1", cancel()).await;
    let report = process.import(Mode::Delta).await;
    assert_eq!(report.cancelled.as_deref(), Some("cancelled by eve"), "whoever comes next ends it");

    process.ask("2", pause()).await;
    let import = importing(&process);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!import.is_finished());
    process.ask("3", cancel()).await;
    assert!(within(import).await.unwrap().unwrap().cancelled.is_some());
    process.ask("4", resume()).await;
    assert_eq!(process.import(Mode::Delta).await.cancelled, None);
    process.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_clean_up_and_jobs_that_wait_delete_and_send_nothing() {
    let stand = Stand::new(40);
    let process = stand.process("a").await;
    process.copy().await;
    stand.host.commit(&[(0, None)]);
    tamper(&stand, [7]);
    let before = process.faults.calls("target.snapshot");
    process.faults.script("target.snapshot", [Act::Hold(Gate::new())]);
    process.ask("clean", Action::Cleanup { pipelines: vec![] }).await;
    process.ask("verify", Action::Verify { pipelines: vec![], repair: true }).await;
    let _at_work = process.serve();
    until_called(&process, "target.snapshot", before + 1).await;
    let answer = process.ask("cancel", cancel()).await;
    assert_eq!(answer.detail.unwrap()["p"]["jobs"], 2);
    for (id, action) in [
        ("clean", Action::Cleanup { pipelines: vec![] }),
        ("verify", Action::Verify { pipelines: vec![], repair: true }),
    ] {
        let answer = process.ask(id, action).await;
        assert_eq!((answer.status, answer.reason.as_deref()), (Status::Refused, Some("p: cancelled by eve")));
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    process.settle().await;
    assert!(stand.document(0).is_some() && stand.differing(1) == [7]);
    // The office is free again.
    let answer = process.ask_and_wait("again", Action::Cleanup { pipelines: vec![] }).await;
    assert_eq!(answer.status, Status::Done, "{answer:?}");
    process.settle().await;
    assert_eq!(stand.document(0), None);
}
