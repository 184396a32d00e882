//! Repair sends what differs, and deletes no more than any clean-up may.

use fides_core::{FaultKind, Held};
use fides_engine::DeletePolicy;
use fides_engine::import::Mode;
use fides_engine::inspect::{RepairReport, repair, verify};
use fides_testkit::fake::{Act, FakeHost, FakeMapper};

use crate::stand::{Process, Stand, namespace, within};
use crate::verify::{edit, named};

async fn repaired(process: &Process) -> RepairReport {
    let _consumers = process.consume();
    within(repair(&process.pipeline, &process.worker)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_hundred_edits_behind_everyones_back_are_mended() {
    let stand = Stand::new(150);
    let process = stand.process("a").await;
    process.copy().await;
    let edits = edit(&stand);
    let report = repaired(&process).await;
    assert_eq!(named(&report.found), edits);
    assert_eq!((report.sent, report.deleted, report.mended), (67, 33, 100));
    assert!(report.left.is_equal() && report.refused.is_none(), "{:?}", report.left);
    assert!(verify(&process.pipeline, &process.worker.progress).await.unwrap().is_equal());
    // And the marks know of it.
    let _consumers = process.consume();
    assert_eq!(process.import(Mode::Delta).await.counts.published, 0);
}

#[tokio::test(start_paused = true)]
async fn documents_without_a_record_are_judged_together() {
    let stand = Stand::new(150);
    let mut process = stand.process("a").await;
    process.pipeline.limits.delete_count_min = 10;
    process.copy().await;
    edit(&stand);
    let report = repaired(&process).await;
    assert!(report.refused.is_some_and(|why| why.contains("33 deletions now")));
    assert_eq!((report.deleted, report.mended, report.left.extra), (0, 67, 33));
    assert_eq!(report.left.differing(), 33);
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_never_deletes_keeps_what_has_no_record() {
    let stand = Stand::new(12);
    let mut process = stand.process("a").await;
    process.pipeline.delete = DeletePolicy::Never;
    process.copy().await;
    stand.host.commit(&[(3, None)]);
    let report = repaired(&process).await;
    assert_eq!((report.found.extra, report.deleted, report.left.extra), (1, 0, 1));
    assert_eq!(report.left.drifted(), 0);
    assert!(stand.document(3).is_some());
}

/// What the target refuses is told, and stays a difference.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_is_left_and_told() {
    let stand = Stand::new(12);
    let process = stand.process("a").await;
    process.copy().await;
    let broken = FakeMapper::new(1).document(2, 9).map(Into::into);
    stand.target.tamper(&namespace(), &FakeHost::key(1), None);
    stand.target.tamper(&namespace(), &FakeHost::key(2), broken);
    process.faults.poison([FakeHost::key(2)]);
    let report = repaired(&process).await;
    assert_eq!((report.found.differing(), report.mended), (2, 1));
    assert_eq!((report.left.different, report.left.differences[0].key.as_str()), (1, "2"));
    let marks = process.pipeline.backplane.hashes.get(&process.pipeline.id, &[FakeHost::key(2)]).await.unwrap();
    assert_eq!(marks[0].map(|mark| mark.held), Some(Held::Dead));
}

/// A repair that failed in the middle is begun anew, and what it had spooled is gone.
#[tokio::test(start_paused = true)]
async fn a_repair_that_failed_is_done_by_the_next() {
    let stand = Stand::new(40);
    let process = stand.process("a").await;
    process.copy().await;
    stand.target.tamper(&namespace(), &FakeHost::key(1), None);
    stand.target.tamper(&namespace(), &FakeHost::key(900), FakeMapper::new(1).document(900, 1).map(Into::into));
    let _consumers = process.consume();
    // The first fence passes, and what differs does not.
    process.faults.script("queue.publish", [Act::Pass, Act::Reject(FaultKind::Transient)]);
    within(repair(&process.pipeline, &process.worker)).await.unwrap_err();
    assert!(stand.document(1).is_none());
    let report = within(repair(&process.pipeline, &process.worker)).await.unwrap();
    assert_eq!((report.mended, report.left.differing()), (2, 0));
    let spooled = process.pipeline.backplane.state.list("candidates/", None, 10).await.unwrap();
    assert!(spooled.is_empty(), "{} entries are left", spooled.len());
}
