//! Too many dead letters are not the records' fault.

use fides_engine::import::Mode;
use fides_engine::{raise_fence, wait_for_fence};
use fides_testkit::fake::FakeHost;

use crate::stand::{Stand, within};

const ROWS: i64 = 40;

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_paused_for_its_dead_letters_goes_on_when_they_are_looked_after() {
    let stand = Stand::new(ROWS);
    let mut process = stand.process("a").await;
    process.pipeline.limits.dead_count_min = 5;
    process.faults.poison((0..ROWS).map(FakeHost::key));
    let dead = process.pipeline.backplane.dead.clone();
    let id = process.pipeline.id.clone();
    let _consumers = process.consume();
    process.import(Mode::Delta).await;
    let fence = raise_fence(&process.pipeline).await.unwrap();
    let waiting = wait_for_fence(&process.pipeline, fence);
    assert!(
        tokio::time::timeout(std::time::Duration::from_mins(1), waiting).await.is_err(),
        "it pauses, and what is left stays in the queue"
    );
    let kept = dead.count(&id).await.unwrap();
    assert!((6..ROWS as u64).contains(&kept), "{kept} dead letters");
    let said = process.worker.progress.paused().unwrap();
    for part in ["became dead letters", "replay or drop them", "at most 5"] {
        assert!(said.contains(part), "{part}: {said}");
    }

    process.faults.poison([]);
    let letters = dead.list(&id, None, ROWS as usize).await.unwrap();
    let keys: Vec<_> = letters.into_iter().map(|letter| letter.key).collect();
    dead.remove(&id, &keys).await.unwrap();
    within(wait_for_fence(&process.pipeline, fence)).await.unwrap();
    assert_eq!(stand.target.documents(&crate::stand::namespace()).len() as u64, ROWS as u64 - kept);
}
