//! A target that is not what it was.

use std::time::Duration;

use fides_core::port::Fencing;
use fides_engine::current_epoch;
use fides_engine::import::Mode;
use fides_testkit::fake::{FakeHost, FakeTarget};

use crate::stand::{Stand, namespace};

const ROWS: i64 = 12;

#[tokio::test(start_paused = true)]
async fn a_target_that_was_restored_from_a_backup_is_filled_again() {
    let stand = Stand::new(ROWS);
    let process = stand.process("a").await;
    process.copy().await;
    let backup = stand.target.back_up();
    stand.host.commit(&[(0, Some(5)), (1, None), (50, Some(1))]);
    process.copy().await;
    let epoch = current_epoch(&process.pipeline).await.unwrap();

    stand.target.restore(&backup);
    process.copy().await;
    assert!(current_epoch(&process.pipeline).await.unwrap() > epoch);
    assert_eq!(stand.differing(1), [0; 0]);
    assert_eq!(stand.document(1), None, "what the backup brought back is deleted again");
}

/// The listing does not meet it, because it is marked; the walk over the target does not either.
#[tokio::test(start_paused = true)]
async fn a_record_that_listing_and_walk_miss_is_one_candidate() {
    let stand = Stand::new(ROWS);
    let process = stand.process("a").await;
    process.copy().await;
    let backup = stand.target.back_up();
    stand.host.commit(&[(0, Some(5))]);
    process.copy().await;
    stand.target.restore(&backup);
    stand.host.commit(&[(1, None), (2, None), (9, None)]);
    // Only the walk finds this one.
    stand.target.tamper(&namespace(), &FakeHost::key(70), stand.document(3));

    let epoch = current_epoch(&process.pipeline).await.unwrap();
    let _consumers = process.consume();
    while current_epoch(&process.pipeline).await.unwrap() == epoch {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let report = process.import(Mode::Delta).await;
    assert_eq!((report.sweep.candidates, report.sweep.deleted), (4, 4));
    process.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
    assert_eq!([1, 2, 9, 70].map(|id| stand.document(id)), [None, None, None, None]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_was_made_anew_is_filled_again() {
    for fencing in [Fencing::LaneToken, Fencing::Conditional, Fencing::WaitOut] {
        is_filled_again(fencing).await;
    }
}

async fn is_filled_again(fencing: Fencing) {
    let stand = Stand { target: FakeTarget::with_fencing(fencing), ..Stand::new(ROWS) };
    let (empty, process) = (stand.target.back_up(), stand.process("a").await);
    process.copy().await;
    stand.target.restore(&empty);
    let restarted = stand.process("b").await;
    restarted.copy().await;
    assert_eq!(stand.differing(1), [0; 0]);
}

/// A state store that went back counts its leases again from where it was, while the target remembers later ones.
#[tokio::test(start_paused = true)]
async fn a_state_store_that_was_restored_blocks_no_lane() {
    let stand = Stand::new(ROWS);
    let process = stand.process("a").await;
    process.copy().await;
    let backup = stand.disk.back_up();
    let epoch = current_epoch(&process.pipeline).await.unwrap();
    for value in 5..9 {
        stand.host.commit(&[(0, Some(value)), (1, None)]);
        stand.process("b").await.copy().await;
    }
    stand.disk.restore(&backup);
    stand.process("c").await.copy().await;
    assert!(current_epoch(&process.pipeline).await.unwrap() > epoch);
    assert_eq!(stand.differing(1), [0; 0]);
    assert_eq!(stand.document(1), None);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_stayed_is_trusted() {
    let stand = Stand::new(ROWS);
    stand.process("a").await.copy().await;
    let written = stand.target.history().len();
    let restarted = stand.process("b").await;
    let _consumers = restarted.consume();
    let report = restarted.import(Mode::Delta).await;
    restarted.settle().await;
    assert_eq!((report.counts.published, stand.target.history().len()), (0, written));
}
