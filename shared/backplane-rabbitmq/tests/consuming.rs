//! What a consumer is promised by a real broker: order at the head, nothing lost, and never left hanging.

#![allow(clippy::unwrap_used)] // a fault is a test's failure

mod common;

use common::proxy::Proxy;
use common::{delete, lane, numbers, outsider, process, process_at, queue_of, settle, soon, take, told};
use fides_core::FaultKind;
use futures::FutureExt;
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

/// Messages that the broker has given up, of whichever lane.
async fn dead() -> u32 {
    let (_connection, channel) = outsider().await;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("fides.dead".into(), options, FieldTable::default()).await.unwrap().message_count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seven_cuts_dead_letter_nothing_and_keep_the_order() {
    let proxy = Proxy::start().await;
    let queue = process_at(&proxy.url(), 16).await;
    let lane = lane("cuts");
    queue.publish(&numbers(&lane, 1..=5)).await.unwrap();
    for cut in 1..=7 {
        let mut consumer = soon("consuming", queue.consume(&lane)).await.unwrap();
        let met = take(&mut consumer, 5).await;
        assert_eq!(told(&met), [1, 2, 3, 4, 5], "after {} cuts", cut - 1);
        assert!(cut == 1 || met.iter().all(|delivery| delivery.redelivered));
        proxy.cut();
        let fault = soon("the cut", consumer.next()).await.unwrap_err();
        assert!(matches!(fault.kind, FaultKind::Transient | FaultKind::Unavailable), "{fault:?}");
        assert!(consumer.settle(&[met[0].tag]).await.is_err(), "its channel is gone");
    }
    queue.publish(&numbers(&lane, 6..=6)).await.unwrap();
    let mut consumer = soon("consuming", queue.consume(&lane)).await.unwrap();
    let met = take(&mut consumer, 6).await;
    assert_eq!(told(&met), [1, 2, 3, 4, 5, 6]);
    settle(&mut consumer, &met).await;
    assert_eq!(queue.depth(&lane).await.unwrap(), 0);
    assert_eq!(dead().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_settled_before_a_cut_never_comes_again() {
    let proxy = Proxy::start().await;
    let queue = process_at(&proxy.url(), 64).await;
    let lane = lane("settled");
    for round in 0..10 {
        queue.publish(&numbers(&lane, round * 4..round * 4 + 4)).await.unwrap();
        let mut consumer = soon("consuming", queue.consume(&lane)).await.unwrap();
        let met = take(&mut consumer, 4).await;
        // Out of order, and one of them alone.
        settle(&mut consumer, &[met[2].clone(), met[0].clone(), met[1].clone()]).await;
        proxy.cut();
        soon("the cut", consumer.next()).await.unwrap_err();
        drop(consumer);
        let mut consumer = soon("consuming", queue.consume(&lane)).await.unwrap();
        let met = take(&mut consumer, 1).await;
        assert_eq!(told(&met), [round * 4 + 3]);
        settle(&mut consumer, &met).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_becomes_active_when_the_first_is_gone() {
    let (one, other) = (process(8).await, process(8).await);
    let lane = lane("two");
    one.publish(&numbers(&lane, 1..=3)).await.unwrap();
    let mut first = one.consume(&lane).await.unwrap();
    let met = take(&mut first, 2).await;
    let mut second = soon("consuming", other.consume(&lane)).await.unwrap();
    one.publish(&numbers(&lane, 4..=4)).await.unwrap();
    assert_eq!(one.depth(&lane).await.unwrap(), 4, "what a consumer of this process holds is counted");
    assert!(second.next().now_or_never().is_none(), "a lane has one active consumer (L6)");
    settle(&mut first, &met[..1]).await;
    assert!(second.next().now_or_never().is_none());
    drop(first);
    let met = take(&mut second, 3).await;
    assert_eq!(told(&met), [2, 3, 4]);
    assert!(met[0].redelivered);
    settle(&mut second, &met).await;
    assert_eq!(other.depth(&lane).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_whose_queue_is_deleted_is_told_and_may_come_again() {
    let queue = process(8).await;
    let lane = lane("gone");
    let mut consumer = queue.consume(&lane).await.unwrap();
    delete(&lane).await;
    let fault = soon("the end of the consumer", consumer.next()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    drop(consumer);
    let mut consumer = soon("consuming again", queue.consume(&lane)).await.unwrap();
    queue.publish(&numbers(&lane, 1..=1)).await.unwrap();
    assert_eq!(told(&take(&mut consumer, 1).await), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_cannot_be_read_waits_at_the_head() {
    let (queue, newer) = (process(8).await, &[200, 1, 2][..]);
    for (body, advice) in [(newer, "upgrade"), (&[1, 0, 9], "by hand"), (&[], "by hand")] {
        let lane = lane("unreadable");
        queue.publish(&numbers(&lane, 1..=1)).await.unwrap();
        let (_connection, channel) = outsider().await;
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let published =
            channel.basic_publish("fides.changes".into(), queue_of(&lane), options, body, properties).await.unwrap();
        published.await.unwrap();
        soon("the message", async { while queue.depth(&lane).await.unwrap() < 2 {} }).await;
        queue.publish(&numbers(&lane, 3..=3)).await.unwrap();

        let mut consumer = queue.consume(&lane).await.unwrap();
        let met = take(&mut consumer, 1).await;
        settle(&mut consumer, &met).await;
        for _ in 0..3 {
            let fault = soon("the fault", consumer.next()).await.unwrap_err();
            assert_eq!(fault.kind, FaultKind::Unavailable);
            assert!(fault.to_string().contains(advice) && fault.to_string().contains(&lane.to_string()), "{fault}");
        }
        drop(consumer);
        let mut consumer = queue.consume(&lane).await.unwrap();
        soon("the fault", consumer.next()).await.unwrap_err();
        assert_eq!(queue.depth(&lane).await.unwrap(), 2, "it waits, and so does what is behind it");
    }
    assert_eq!(dead().await, 0);
}
