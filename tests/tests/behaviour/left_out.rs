//! What the mapping leaves out although nothing says that the host meant it: no way around the judgement of deletions, and
//! none around `delete: never`.

use std::sync::Arc;

use fides_core::command::{Action, Extent, KeySpan, KeyText};
use fides_core::{FaultKind, Origin, Version};
use fides_engine::import::Mode;
use fides_engine::inspect::{repair, status, verify};
use fides_engine::{DeletePolicy, current_epoch, establish, publish, refresh};
use fides_testkit::fake::{Act, FakeHost, FakeMapper};

use crate::edits::{RARE, RARE_ROWS, ROWS, copied, excluding, imported, planned, process};
use crate::stand::{Process, Stand, namespace, upsert, within};

/// Half of the rows, which a mistaken edit leaves out, and whose deletion was refused.
async fn refused_edit(serve: bool) -> (Stand, Process, Option<tokio_util::sync::DropGuard>) {
    let before = FakeMapper::new(1);
    let stand = Stand::new(ROWS);
    stand.host.commit(&(0..ROWS / 2).map(|id| (id, Some(RARE))).collect::<Vec<_>>());
    process(&stand, "first", &before).await.copy().await;
    let mut process = process(&stand, "edited", &excluding(&before, 2, RARE)).await;
    process.pipeline.limits.delete_count_min = 1;
    let serving = serve.then(|| process.serve());
    let consuming = (!serve).then(|| process.consume());
    let report = process.import(Mode::Delta).await;
    process.settle().await;
    assert!(report.sweep.refused.is_some_and(|why| why.contains("leaves out")));
    drop(consuming);
    assert_eq!(stand.target.documents(&namespace()).len(), ROWS as usize);
    (stand, process, serving)
}

/// What an import may not delete no other way deletes unasked.
#[tokio::test(start_paused = true)]
async fn what_a_refused_edit_leaves_out_is_deleted_by_no_repair_and_no_range() {
    for by_repair in [true, false] {
        let (stand, process, _serving) = refused_edit(true).await;
        let action = if by_repair {
            Action::Verify { pipelines: Vec::new(), repair: true }
        } else {
            let span = KeySpan { from: None, to: Some(KeyText("1000".into())) };
            Action::Reimport { pipelines: vec!["p".into()], mode: Extent::Full, keys: Vec::new(), ranges: vec![span] }
        };
        process.ask_and_wait("ask", action).await;
        process.settle().await;
        assert_eq!(stand.target.documents(&namespace()).len(), ROWS as usize, "by repair: {by_repair}");
    }
}

/// Nor is it after everything was lost that tells of the edit.
#[tokio::test(start_paused = true)]
async fn what_a_refused_edit_leaves_out_is_not_deleted_after_a_loss() {
    for mode in [Mode::Delta, Mode::Full] {
        let (stand, process, _) = refused_edit(false).await;
        stand.disk.lose_everything();
        let _consumers = process.consume();
        let report = process.import(mode).await;
        process.settle().await;
        assert_eq!(stand.target.documents(&namespace()).len(), ROWS as usize, "{mode:?}: {report:?}");
        assert!(report.sweep.refused.is_some_and(|why| why.contains("leaves out")), "{mode:?}");
        // From here on nothing tells that there was an edit.
        let keys: Vec<_> = (0..ROWS).map(FakeHost::key).collect();
        refresh(&process.pipeline, &keys, Origin::Repair, true).await.unwrap();
        within(repair(&process.pipeline, &process.worker)).await.unwrap();
        process.settle().await;
        assert_eq!(stand.target.documents(&namespace()).len(), ROWS as usize, "{mode:?}");
    }
}

/// Nor where the target cannot be walked, so that no mark can be rebuilt.
#[tokio::test(start_paused = true)]
async fn what_a_refused_edit_leaves_out_is_not_deleted_where_marks_cannot_be_rebuilt() {
    let (stand, process, _) = refused_edit(false).await;
    stand.disk.lose_everything();
    let _consumers = process.consume();
    process.faults.script("target.snapshot", vec![Act::Reject(FaultKind::Permanent); 2]);
    for _ in 0..3 {
        let report = process.import(Mode::Delta).await;
        process.settle().await;
        assert_eq!(stand.target.documents(&namespace()).len(), ROWS as usize, "{report:?}");
    }
}

/// A dead letter of a record that is left out now ends, also where nothing is ever deleted.
#[tokio::test(start_paused = true)]
async fn a_dead_letter_ends_when_its_record_is_left_out() {
    for delete in [DeletePolicy::Never, DeletePolicy::Hard] {
        let stand = Stand::new(6);
        let mapper = excluding(&FakeMapper::new(1), 1, RARE).edited(1, |edited| edited.rejects = vec![77]);
        let mut process = process(&stand, "a", &mapper).await;
        process.pipeline.delete = delete;
        process.copy().await;
        stand.host.commit(&[(3, Some(77))]);
        imported(&process).await;
        assert_eq!(status(&process.pipeline).await.unwrap().dead, 1);
        stand.host.commit(&[(3, Some(RARE))]);
        imported(&process).await;
        assert_eq!(status(&process.pipeline).await.unwrap().dead, 0);
        assert_eq!(imported(&process).await, (0, 0));
    }
}

/// Not even by a change that was queued when its mark was lost.
#[tokio::test(start_paused = true)]
async fn an_orphan_that_is_left_out_stays_where_nothing_is_ever_deleted() {
    let stand = Stand::new(3);
    let mapper = excluding(&FakeMapper::new(1), 1, RARE);
    let mut process = process(&stand, "a", &mapper).await;
    process.pipeline.delete = DeletePolicy::Never;
    process.copy().await;
    let epoch = current_epoch(&process.pipeline).await.unwrap();
    let queued = vec![upsert(1, Version::scan(epoch, 1 << 40), mapper.document(1, 7).unwrap())];
    publish(&process.pipeline, process.pipeline.shape(), Origin::Import, queued).await.unwrap();
    stand.host.commit(&[(1, Some(RARE))]);
    stand.disk.lose_everything();
    establish(&process.pipeline).await.unwrap();
    let _consumers = process.consume();
    process.settle().await;
    assert!(stand.document(1).is_some());
}

/// Nothing is ever deleted means just that: what the mapping leaves out keeps the document that it had, whether the mapping
/// or the record became another, and is not looked at again.
#[tokio::test(start_paused = true)]
async fn what_is_left_out_stays_where_nothing_is_ever_deleted() {
    let before = FakeMapper::new(1);
    let stand = copied(&before).await;
    let mut process = process(&stand, "edited", &excluding(&before, 2, RARE)).await;
    process.pipeline.delete = DeletePolicy::Never;
    process.pipeline.limits.delete_ratio_max = 0.0;
    process.pipeline.limits.delete_count_min = 0;
    let held = RARE_ROWS.map(|id| stand.document(id));
    stand.host.commit(&[(7, Some(RARE)), (8, None)]);
    let seven = stand.document(7);
    assert_eq!((planned(&process).await.delete, planned(&process).await.refused), (0, None));
    let _consumers = process.consume();
    let report = process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!((report.sweep.deleted, report.sweep.refused, report.counts.deletions), (0, None, 0));
    assert!(held.iter().all(Option::is_some) && seven.is_some());
    assert_eq!((RARE_ROWS.map(|id| stand.document(id)), stand.document(7)), (held, seven));
    assert!(stand.document(8).is_some());
    // What the edit has left out is met once more; from then on its marks remember it.
    assert_eq!(imported(&process).await.1, 0);
    assert_eq!(RARE_ROWS.map(|id| stand.document(id).is_some()), [true; 3]);
    assert_eq!(imported(&process).await, (0, 0), "their marks remember it");
    let found = verify(&process.pipeline, &Arc::default()).await.unwrap();
    assert_eq!((found.extra, found.drifted()), (5, 0));

    stand.host.commit(&[(7, Some(1))]);
    assert_eq!(imported(&process).await, (1, 0));
    assert_eq!(stand.document(7), before.document(7, 1).map(Into::into), "it is followed again");
}
