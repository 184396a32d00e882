//! What a comparison of both sides says, and what it does not take for a difference.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use fides_engine::Progress;
use fides_engine::import::Mode;
use fides_engine::inspect::{DifferenceKind, VerifyReport, last_verified, verify, verify_due};
use fides_testkit::fake::{Act, FakeHost, FakeMapper, Gate};

use crate::stand::{Process, Stand, namespace, within};

async fn compared(process: &Process) -> VerifyReport {
    within(verify(&process.pipeline, &process.worker.progress)).await.unwrap()
}

/// Changes, deletes and adds documents behind everyone's back; which keys, and how.
pub fn edit(stand: &Stand) -> BTreeMap<String, DifferenceKind> {
    let document = |id, v| FakeMapper::new(1).document(id, v).map(Bytes::from);
    let mut edits = BTreeMap::new();
    for id in 0..100 {
        // Added ones lie between and behind the others.
        let (id, document, kind) = match id % 3 {
            0 => (id, document(id, 7), DifferenceKind::Different),
            1 => (id, None, DifferenceKind::Missing),
            _ => (id * 1_000 + 500, document(id, 1), DifferenceKind::Extra),
        };
        stand.target.tamper(&namespace(), &FakeHost::key(id), document);
        edits.insert(FakeHost::key(id).to_string(), kind);
    }
    edits
}

pub fn named(report: &VerifyReport) -> BTreeMap<String, DifferenceKind> {
    report.differences.iter().map(|difference| (difference.key.clone(), difference.kind)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_hundred_edits_behind_everyones_back_are_found_and_named() {
    let stand = Stand::new(150);
    let process = stand.process("a").await;
    process.copy().await;
    assert!(compared(&process).await.is_equal());

    let edits = edit(&stand);
    let report = compared(&process).await;
    assert_eq!(named(&report), edits);
    assert_eq!((report.different, report.missing, report.extra), (34, 33, 33));
    assert_eq!((report.host_records, report.target_records, report.equal), (150, 150, 83));
    assert_eq!((report.drifted(), report.in_flight), (100, 0), "no import mends any of them");
    let changed = &report.differences[0];
    assert_eq!((changed.fields[0].field.as_str(), changed.fields.len()), ("value", 1));
    assert_eq!((changed.fields[0].expected.as_str(), changed.fields[0].found.as_str()), ("2", "8"));
}

/// What the next import does anyway is a difference, and no drift.
#[tokio::test(start_paused = true)]
async fn what_is_yet_to_be_imported_is_known() {
    let stand = Stand::new(12);
    let process = stand.process("a").await;
    process.copy().await;
    stand.host.commit(&[(0, Some(5)), (1, None), (50, Some(1))]);
    stand.target.tamper(&namespace(), &FakeHost::key(2), None);
    let report = compared(&process).await;
    assert_eq!((report.different, report.extra, report.missing), (1, 1, 2));
    assert_eq!((report.known, report.drifted()), (3, 1));
    let unknown: Vec<&str> =
        report.differences.iter().filter(|found| !found.known).map(|found| found.key.as_str()).collect();
    assert_eq!(unknown, ["2"]);
}

/// More than are remembered, all of them in the lanes when they are met.
#[tokio::test(start_paused = true)]
async fn whatever_is_on_its_way_is_settled_by_looking_again() {
    const ROWS: i64 = 12_000;
    let stand = Stand::new(ROWS);
    let mut process = stand.process("a").await;
    process.pipeline.selection.page_records_max = 1_000;
    process.pipeline.target_selection.page_records_max = 1_000;
    process.pipeline.limits.batch_records_max = 512;
    process.pipeline.limits.apply_records_max = 1_000;
    let slow = Gate::new();
    process.faults.script("target.apply", [Act::Hold(slow.clone())]);
    let _consumers = process.consume();
    process.import(Mode::Delta).await;
    assert_eq!(stand.differing(1).len(), ROWS as usize, "nothing is written yet");

    let writes = async {
        while process.faults.calls("target.fetch") == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        slow.open();
    };
    let (report, ()) = tokio::join!(compared(&process), writes);
    assert!(report.is_equal(), "{report:?}");
    assert!(report.in_flight > 8_000, "{} were met before they were written", report.in_flight);
    assert_eq!(report.equal, ROWS as u64);
}

/// Those beyond the ones that are remembered are counted all the same.
#[tokio::test(start_paused = true)]
async fn more_than_are_remembered_are_counted() {
    const ROWS: i64 = 10_500;
    let stand = Stand::new(ROWS);
    let mut process = stand.process("a").await;
    process.pipeline.selection.page_records_max = 1_000;
    process.pipeline.limits.batch_records_max = 512;
    let report = compared(&process).await;
    assert_eq!((report.missing, report.known, report.in_flight), (ROWS as u64, ROWS as u64, 0));
    assert_eq!(report.differences.len(), 10_000);
}

/// By schedule: remembered for whoever asks, counted for whoever watches, and no drift is told where an import is due.
#[tokio::test(start_paused = true)]
async fn drift_is_remembered_and_counted() {
    let stand = Stand::new(12);
    let process = stand.process("a").await;
    process.copy().await;
    assert_eq!(last_verified(&process.pipeline).await.unwrap(), None);
    stand.host.commit(&[(0, Some(5))]);
    let quiet = verify_due(&process.pipeline, &process.worker, 1).await.unwrap().unwrap();
    assert_eq!((quiet.differing, quiet.drifted, Progress::get(&process.worker.progress.drifted)), (1, 0, 0));

    stand.target.tamper(&namespace(), &FakeHost::key(7), None);
    let drifted = verify_due(&process.pipeline, &process.worker, 2).await.unwrap().unwrap();
    assert_eq!((drifted.differing, drifted.drifted, drifted.keys.as_slice()), (2, 1, &["7".to_owned()][..]));
    assert_eq!(last_verified(&process.pipeline).await.unwrap(), Some(drifted));
    let progress = &process.worker.progress;
    assert_eq!((Progress::get(&progress.drifted), Progress::get(&progress.verified)), (1, 24));
    assert_eq!(Progress::get(&progress.read), 12, "a comparison is no import");
}
