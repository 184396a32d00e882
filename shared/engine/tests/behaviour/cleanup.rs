//! Clean-ups beside imports.

use fides_core::Origin;
use fides_engine::import::Mode;
use fides_engine::{clean_up, refresh};
use fides_testkit::fake::{Act, FakeHost, Gate};

use crate::stand::{Stand, within};

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
