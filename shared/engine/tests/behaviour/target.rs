//! A target that is not what it was.

use fides_engine::current_epoch;
use fides_engine::import::Mode;

use crate::stand::Stand;

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

#[tokio::test(start_paused = true)]
async fn a_target_that_was_made_anew_is_filled_again() {
    let stand = Stand::new(ROWS);
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
