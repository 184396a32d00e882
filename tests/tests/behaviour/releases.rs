//! Two releases beside each other: what the newer one wrote waits for it.

use std::time::Duration;

use fides_core::port::Expect;
use fides_core::{Origin, Version};
use fides_engine::import::{Mode, import};
use fides_engine::{current_epoch, establish, publish};
use fides_testkit::fake::FakeMapper;

use crate::stand::{Process, Stand, upsert, within};

/// Waits until the lane is paused, and returns why.
async fn paused(process: &Process) -> String {
    within(async {
        loop {
            if let Some(why) = process.worker.progress.paused() {
                return why;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

async fn send(process: &Process, id: i64) {
    let version = Version::scan(current_epoch(&process.pipeline).await.unwrap(), 1);
    let change = upsert(id, version, FakeMapper::new(1).document(id, 1).unwrap());
    publish(&process.pipeline, process.pipeline.shape(), Origin::Event, vec![change]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_of_a_newer_release_waits_for_it_and_stops_nothing_before_it() {
    let stand = Stand::new(0);
    let process = stand.process("older").await;
    establish(&process.pipeline).await.unwrap();
    let lane = process.pipeline.lanes().remove(0);
    send(&process, 1).await;
    stand.disk.enqueue(&lane, vec![2, 0, 0]);
    send(&process, 3).await;

    let _consumers = process.consume();
    let why = paused(&process).await;
    assert!(why.contains("queue message has format 2; this release reads 1") && why.contains("upgrade"), "{why}");
    // It is looked at again and again, and neither buried nor passed over.
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(stand.document(1).is_some(), "what came before it is written");
    assert!(stand.document(3).is_none(), "what came behind it waits");
    assert_eq!(process.pipeline.backplane.dead.count(&process.pipeline.id).await.unwrap(), 0);
    assert_eq!(stand.disk.queued(), 2);

    assert_eq!(stand.disk.dequeue(&lane).as_deref(), Some(&[2, 0, 0][..]), "the newer release has it");
    process.settle().await;
    assert!(stand.document(3).is_some());
    assert!(process.worker.progress.paused().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_run_of_a_newer_release_is_neither_gone_on_with_nor_replaced() {
    let stand = Stand::new(4);
    let process = stand.process("older").await;
    process.copy().await;
    let state = &process.pipeline.backplane.state;
    let newer = b"\x02{\"a run\":\"of another form\"}";
    state.put("run/p", newer, Expect::Any).await.unwrap();
    stand.host.commit(&[(1, Some(9))]);
    let _consumers = process.consume();
    let fault = within(import(&process.pipeline, Mode::Delta, &process.worker)).await.unwrap_err();
    assert!(fault.to_string().contains("state entry run/p has format 2"), "{fault}");
    assert_eq!(state.get("run/p").await.unwrap().unwrap().value, newer);
    assert!(stand.document(1).unwrap() != FakeMapper::new(1).document(1, 9).unwrap());
}
