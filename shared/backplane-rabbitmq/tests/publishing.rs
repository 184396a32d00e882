//! What a publisher is promised by a real broker: confirmed, counted, found again.

#![allow(clippy::unwrap_used)] // a fault is a test's failure

mod common;

use std::collections::BTreeSet;

use common::proxy::Proxy;
use common::{delete, lane, number, numbers, outsider, process, process_at, queue_of, settle, soon, take, told};
use fides_core::{Envelope, FaultKind, Message, Op};
use futures::StreamExt;
use lapin::options::BasicConsumeOptions;
use lapin::types::{AMQPValue, FieldTable};

/// Each process counts room for itself, so that their windows meet a full lane and are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_fill_one_lane_lose_and_duplicate_nothing() {
    const PROCESSES: u64 = 4;
    const EACH: u64 = 60;
    let lane = lane("full");
    let publishers: Vec<_> = (0..PROCESSES)
        .map(|process| {
            let lane = lane.clone();
            tokio::spawn(async move {
                let queue = common::process(8).await;
                queue.publish(&numbers(&lane, process * EACH..(process + 1) * EACH)).await
            })
        })
        .collect();
    let queue = process(8).await;
    // Full before anything is taken: the publishers wait.
    soon("filling the lane", async {
        while queue.depth(&lane).await.unwrap() < 8 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(publishers.iter().any(|publisher| !publisher.is_finished()));
    let mut consumer = soon("consuming", queue.consume(&lane)).await.unwrap();
    let mut met = Vec::new();
    for _ in 0..PROCESSES * EACH {
        let delivery = take(&mut consumer, 1).await;
        met.push(number(&delivery[0]));
        settle(&mut consumer, &delivery).await;
    }
    for publisher in publishers {
        soon("the publisher's end", publisher).await.unwrap().unwrap();
    }
    assert_eq!(met.iter().copied().collect::<BTreeSet<_>>(), (0..PROCESSES * EACH).collect());
    assert_eq!(queue.depth(&lane).await.unwrap(), 0, "nothing twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_was_deleted_is_declared_again() {
    let queue = process(8).await;
    let lane = lane("deleted");
    queue.publish(&numbers(&lane, 1..=2)).await.unwrap();
    delete(&lane).await;
    assert_eq!(queue.depth(&lane).await.unwrap(), 0, "a queue that is not there holds nothing");
    // Over a channel that has seen the queue: each message comes back, and goes again.
    soon("publishing", queue.publish(&numbers(&lane, 3..=6))).await.unwrap();
    let mut consumer = queue.consume(&lane).await.unwrap();
    assert_eq!(told(&take(&mut consumer, 4).await), [3, 4, 5, 6]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_that_was_removed_is_made_again() {
    let queue = process(8).await;
    let lane = lane("unbound");
    queue.publish(&numbers(&lane, 1..=1)).await.unwrap();
    let (_connection, channel) = outsider().await;
    let name = queue_of(&lane);
    channel.queue_unbind(name.clone(), "fides.changes".into(), name, FieldTable::default()).await.unwrap();
    soon("publishing", queue.publish(&numbers(&lane, 2..=8))).await.unwrap();
    let mut consumer = queue.consume(&lane).await.unwrap();
    assert_eq!(told(&take(&mut consumer, 8).await), (1..=8).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_carries_what_others_need_to_follow_it() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let queue = process(8).await;
    let lane = lane("properties");
    let mut sent = numbers(&lane, 1..=2);
    let Message::Changes(batch) = &mut sent[0].message else { unreachable!() };
    batch.trace = Some(TRACE.to_owned());
    queue.publish(&sent).await.unwrap();
    let (_connection, channel) = outsider().await;
    let options = BasicConsumeOptions::default();
    let mut consumer = channel.basic_consume(queue_of(&lane), "".into(), options, FieldTable::default()).await.unwrap();
    let first = soon("a delivery", consumer.next()).await.unwrap().unwrap();
    let second = soon("a delivery", consumer.next()).await.unwrap().unwrap();
    assert_eq!(Message::decode(&first.data.into()).unwrap(), sent[0].message);
    let of = &first.properties;
    assert_eq!(of.delivery_mode(), &Some(2), "persistent");
    assert_eq!(of.app_id().as_ref().unwrap().as_str(), "fides");
    assert_eq!(of.content_type().as_ref().unwrap().as_str(), "application/vnd.fides.message");
    assert!(of.timestamp().unwrap() > 1_700_000_000);
    assert_ne!(of.message_id().as_ref().unwrap(), second.properties.message_id().as_ref().unwrap());
    let trace = |of: &lapin::BasicProperties| {
        of.headers().as_ref().and_then(|headers| headers.inner().get("traceparent").cloned())
    };
    assert_eq!(trace(of), Some(AMQPValue::LongString(TRACE.into())));
    assert_eq!(trace(&second.properties), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_the_broker_finds_too_large_is_permanent_and_names_the_limit() {
    let queue = process(8).await;
    let lane = lane("large");
    let mut sent = numbers(&lane, 1..=1);
    let Message::Changes(batch) = &mut sent[0].message else { unreachable!() };
    batch.changes[0].op = Op::Upsert(vec![7; 17 << 20].into());
    let fault = soon("publishing", queue.publish(&sent)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Permanent, "{fault}");
    let text = fault.to_string();
    assert!(
        text.contains("16777216") && text.contains("batch_bytes_max") && text.contains(&lane.to_string()),
        "{text}"
    );
    // The connection is as good as before.
    soon("publishing", queue.publish(&numbers(&lane, 2..=2))).await.unwrap();
    assert_eq!(queue.depth(&lane).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_was_cut_off_is_told_and_publishes_again() {
    let proxy = Proxy::start().await;
    let queue = process_at(&proxy.url(), 100_000).await;
    let watcher = process(100_000).await;
    let lane = lane("cut");
    let all: Vec<Envelope> = numbers(&lane, 0..500);
    // A cut after the last confirm is not noticed: then once more.
    let fault = soon("a cut that is noticed", async {
        loop {
            let before = watcher.depth(&lane).await.unwrap();
            let cut = async {
                while watcher.depth(&lane).await.unwrap() == before {}
                proxy.cut();
            };
            if let (Err(fault), ()) = tokio::join!(queue.publish(&all), cut) {
                return fault;
            }
        }
    })
    .await;
    assert!(matches!(fault.kind, FaultKind::Transient | FaultKind::Unavailable), "{fault:?}");
    let rest = numbers(&lane, 500..510);
    soon("publishing again", async { while queue.publish(&rest).await.is_err() {} }).await;
    let before = queue.depth(&lane).await.unwrap();
    let mut consumer = queue.consume(&lane).await.unwrap();
    let mut met = Vec::new();
    while met.len() < before as usize {
        let delivery = take(&mut consumer, 1).await;
        settle(&mut consumer, &delivery).await;
        met.extend(told(&delivery));
    }
    assert!(met.windows(2).all(|pair| pair[0] < pair[1] || [0, 500].contains(&pair[1])), "in order, however often");
    assert_eq!(met[met.len() - 10..], (500..510).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_in_need_makes_publishers_unavailable_and_lets_consumers_work() {
    const CONSUMING: usize = 0;
    const PUBLISHING: usize = 1;
    let proxy = Proxy::start().await;
    let queue = process_at(&proxy.url(), 8).await;
    let lane = lane("blocked");
    queue.publish(&numbers(&lane, 1..=2)).await.unwrap();
    let mut consumer = queue.consume(&lane).await.unwrap();
    assert_eq!(proxy.connections(), PUBLISHING + 1, "one to publish, one to consume");
    assert_ne!(PUBLISHING, CONSUMING);
    let mut reason = vec![10];
    reason.extend(b"low on mem");
    proxy.say(PUBLISHING, 10, 60, &reason);
    let fault = soon("the refusal", async {
        loop {
            // What is sent before the word arrives is published.
            if let Err(fault) = queue.publish(&numbers(&lane, 3..=3)).await {
                return fault;
            }
            let met = take(&mut consumer, 1).await;
            settle(&mut consumer, &met).await;
        }
    })
    .await;
    assert_eq!(fault.kind, FaultKind::Unavailable);
    assert!(fault.to_string().contains("low on mem"), "{fault}");
    // Consumers go on, or nothing would ever get better.
    while queue.depth(&lane).await.unwrap() > 0 {
        let met = take(&mut consumer, 1).await;
        settle(&mut consumer, &met).await;
    }
    proxy.say(PUBLISHING, 10, 61, &[]);
    soon("the broker's recovery", async {
        while let Err(fault) = queue.publish(&numbers(&lane, 9..=9)).await {
            assert_eq!(fault.kind, FaultKind::Unavailable);
        }
    })
    .await;
    assert_eq!(told(&take(&mut consumer, 1).await), [9]);
}
