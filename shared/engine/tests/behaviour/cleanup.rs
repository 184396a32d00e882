//! Clean-ups beside imports.

use fides_engine::clean_up;
use fides_engine::import::Mode;
use fides_testkit::fake::{Act, Gate};

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
