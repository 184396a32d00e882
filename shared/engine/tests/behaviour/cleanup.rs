//! Clean-ups beside imports.

use fides_core::{FaultKind, Origin};
use fides_engine::import::Mode;
use fides_engine::inspect::status;
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
