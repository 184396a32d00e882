//! Who may write a lane (L6).

use fides_core::{FaultKind, KeyRange, Lane, PipelineId};

use super::{TargetFixture, Writer, delete, failed, named, people, upsert};

/// Tokens ascend (L6); the owner may claim again.
pub async fn an_older_token_is_refused(fixture: &dyn TargetFixture) {
    let writer = Writer::over(fixture, people(), None).await.claimed(7).await.claimed(7).await;
    assert_eq!(writer.claimed_by().await, Some(7));
    let fault = writer.target.claim(&writer.sink, &writer.lane, 6).await.expect_err("6 is older than 7");
    assert_eq!(fault.kind, FaultKind::Permanent, "{fault}");
    writer.write(&[upsert(1, 1, "one")]).await;
}

/// Once a lane was claimed, no write of an earlier token lands (L6). Its records are sound and now another's, so the
/// refusal must not make dead letters of them: it pauses the displaced writer.
pub async fn a_displaced_writer_writes_nothing(fixture: &dyn TargetFixture) {
    let writer = Writer::over(fixture, people(), None).await;
    writer.write(&[upsert(1, 1, "one")]).await;
    writer.target.claim(&writer.sink, &writer.lane, 2).await.expect("a newer token takes the lane");
    for outcome in writer.apply(&[upsert(9, 1, "late"), upsert(9, 2, "late"), delete(9, 1)]).await {
        let fault = failed(&outcome);
        assert!(!matches!(fault.kind, FaultKind::Permanent | FaultKind::Deferred), "{fault:?}");
    }
    assert_eq!(writer.names().await, named(&[(1, "one")]));
}

/// Tokens belong to a pipeline's lane, not to the table.
pub async fn lanes_do_not_displace_each_other(fixture: &dyn TargetFixture) {
    let writer = Writer::over(fixture, people(), None).await;
    let other = Lane { index: 1, ..writer.lane.clone() };
    let unclaimed = writer.target.claimed(&writer.sink, &other).await.expect("a lane that nobody claimed yet");
    assert_eq!(unclaimed, None);
    let foreign = Lane { pipeline: PipelineId::new("another"), index: 0 };
    for lane in [&other, &foreign] {
        writer.target.claim(&writer.sink, lane, 50).await.expect("another lane can be claimed");
    }
    writer.write(&[upsert(1, 1, "one")]).await;
    let snapshot =
        writer.target.snapshot(&writer.sink, &writer.spec.selection(writer.sink.namespace.clone(), 10)).await;
    let page = snapshot.expect("the target can be read").scan(&KeyRange::ALL, None).await.expect("to its end");
    assert_eq!(page.len(), 1);
}
