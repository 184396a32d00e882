//! Commands as programs send them that know nothing of Fides, and what a network does to them.

#![allow(clippy::unwrap_used)] // a fault is a test's failure

mod common;

use common::proxy::Proxy;
use common::{admin_at, outsider, soon, unique, url};
use fides_core::FaultKind;
use fides_core::port::{Desk, Request};
use futures::{FutureExt, StreamExt};
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel};

async fn send(channel: &Channel, queue: &str, body: &[u8], properties: BasicProperties) {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    channel.basic_publish("".into(), queue.into(), options, body, properties).await.unwrap().await.unwrap();
}

async fn next(desk: &mut Box<dyn Desk>) -> Request {
    soon("the next command", desk.next()).await.unwrap()
}

/// A queue for answers of an outsider.
async fn replies(channel: &Channel) -> (ShortString, lapin::Consumer) {
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap();
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let name = queue.name().clone();
    let consumer = channel.basic_consume(name.clone(), "".into(), options, FieldTable::default()).await.unwrap();
    (name, consumer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outsider_is_answered_where_it_wished_and_under_its_own_id() {
    let queue = unique("outsider");
    let mut desk = admin_at(&url(), &queue).await.serve().await.unwrap();
    let (_connection, channel) = outsider().await;
    let (name, mut answers) = replies(&channel).await;
    let to = || BasicProperties::default().with_reply_to(name.clone());
    for (properties, expected) in [
        (to().with_correlation_id("mine".into()).with_message_id("other".into()), Some("mine")),
        (to().with_message_id("message".into()), Some("message")),
        (to(), None),
    ] {
        send(&channel, &queue, b"do it", properties).await;
        let request = next(&mut desk).await;
        assert_eq!((&request.body[..], request.wants_reply), (&b"do it"[..], true));
        desk.answer(request.tag, b"done").await.unwrap();
        let answer = soon("the answer", answers.next()).await.unwrap().unwrap();
        assert_eq!(answer.data, b"done");
        assert_eq!(answer.properties.correlation_id().as_ref().map(ShortString::as_str), expected);
        assert_eq!(answer.properties.content_type().as_ref().unwrap().as_str(), "application/json");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_nobody_can_get_harms_nothing() {
    let queue = unique("unroutable");
    let mut desk = admin_at(&url(), &queue).await.serve().await.unwrap();
    let (_connection, channel) = outsider().await;
    // Somebody's lane must never get one: it could not be read, and would stop the lane.
    let lane = format!("fides.{}.lane.0", unique("victim"));
    channel.queue_declare(lane.as_str().into(), QueueDeclareOptions::durable(), FieldTable::default()).await.unwrap();
    let nowhere = ["", "nowhere", "amq.rabbitmq.reply-to.garbage", &lane];
    for reply_to in nowhere {
        send(&channel, &queue, b"1", BasicProperties::default().with_reply_to(reply_to.into())).await;
        let request = next(&mut desk).await;
        assert_eq!(request.wants_reply, !reply_to.is_empty());
        soon("answering", desk.answer(request.tag, b"for nobody")).await.unwrap();
    }
    send(&channel, &queue, b"2", BasicProperties::default()).await;
    let request = next(&mut desk).await;
    assert_eq!((&request.body[..], request.wants_reply), (&b"2"[..], false));
    desk.answer(request.tag, b"for nobody").await.unwrap();
    assert!(desk.next().now_or_never().is_none());
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let asked = channel.queue_declare(lane.as_str().into(), options, FieldTable::default()).await.unwrap();
    assert_eq!(asked.message_count(), 0);
    channel.queue_delete(lane.into(), QueueDeleteOptions::default()).await.unwrap();
}

/// It ends the connection of a broker of 3.10: the command must not come back for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_address_is_tried_twice_at_most() {
    let queue = unique("forged");
    let admin = admin_at(&url(), &queue).await;
    let mut desk = admin.serve().await.unwrap();
    let (_connection, channel) = outsider().await;
    let forged = BasicProperties::default().with_reply_to("amq.rabbitmq.reply-to.g1h2AA5yZXBseQ==.x".into());
    send(&channel, &queue, b"1", forged).await;
    send(&channel, &queue, b"2", BasicProperties::default()).await;
    let request = next(&mut desk).await;
    assert_eq!(request.body, "1");
    if soon("answering", desk.answer(request.tag, b"")).await.is_err() {
        drop(desk);
        desk = soon("the desk", admin.serve()).await.unwrap();
        let request = next(&mut desk).await;
        assert_eq!(request.body, "1");
        soon("answering again", desk.answer(request.tag, b"")).await.unwrap();
    }
    assert_eq!(next(&mut desk).await.body, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_takes_over_when_the_first_is_gone() {
    let queue = unique("over");
    let (one, other) = (admin_at(&url(), &queue).await, admin_at(&url(), &queue).await);
    let mut first = one.serve().await.unwrap();
    let mut second = soon("standing by", other.serve()).await.unwrap();
    assert_eq!(one.ask(b"1", 0).await.unwrap(), None);
    let request = next(&mut first).await;
    assert_eq!(one.ask(b"2", 0).await.unwrap(), None);
    assert!(second.next().now_or_never().is_none(), "one desk is active");
    first.answer(request.tag, b"").await.unwrap();
    assert_eq!(next(&mut first).await.body, "2");
    drop(first);
    let request = next(&mut second).await;
    assert_eq!(request.body, "2");
    second.answer(request.tag, b"").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_hand_when_the_connection_is_cut_comes_again() {
    let (proxy, queue) = (Proxy::start().await, unique("cut"));
    let admin = admin_at(&proxy.url(), &queue).await;
    assert_eq!(admin.ask(b"1", 0).await.unwrap(), None);
    for _ in 0..3 {
        let mut desk = soon("the desk", async {
            loop {
                if let Ok(desk) = admin.serve().await {
                    return desk;
                }
            }
        })
        .await;
        let request = next(&mut desk).await;
        assert_eq!(request.body, "1");
        proxy.cut();
        let fault = soon("the cut", desk.next()).await.unwrap_err();
        assert!(matches!(fault.kind, FaultKind::Transient | FaultKind::Unavailable), "{fault:?}");
        assert!(desk.answer(request.tag, b"").await.is_err(), "its channel is gone");
    }
    let straight = admin_at(&url(), &queue).await;
    let mut desk = straight.serve().await.unwrap();
    let request = next(&mut desk).await;
    desk.answer(request.tag, b"").await.unwrap();
    // Whoever waits for an answer over a connection that is cut is told, and may ask again.
    let asking = soon("connecting", async {
        loop {
            if admin.ask(b"2", 0).await.is_ok() {
                return;
            }
        }
    });
    asking.await;
    let cut = async {
        let request = next(&mut desk).await;
        desk.answer(request.tag, b"").await.unwrap();
        let request = next(&mut desk).await;
        proxy.cut();
        request
    };
    let (asked, request) = tokio::join!(soon("the fault", admin.ask(b"3", 60_000)), cut);
    let fault = asked.unwrap_err();
    assert!(matches!(fault.kind, FaultKind::Transient | FaultKind::Unavailable), "{fault:?}");
    desk.answer(request.tag, b"for nobody").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_was_deleted_is_declared_again() {
    let queue = unique("deleted");
    let admin = admin_at(&url(), &queue).await;
    let (_connection, channel) = outsider().await;
    assert_eq!(admin.ask(b"lost", 0).await.unwrap(), None);
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    assert_eq!(soon("asking", admin.ask(b"1", 0)).await.unwrap(), None);
    let mut desk = admin.serve().await.unwrap();
    assert_eq!(next(&mut desk).await.body, "1");
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    let fault = soon("noticing", desk.next()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault:?}");
    drop(desk);
    let mut desk = soon("the desk", admin.serve()).await.unwrap();
    assert_eq!(admin.ask(b"2", 0).await.unwrap(), None);
    assert_eq!(next(&mut desk).await.body, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_told_is_named() {
    let admin = admin_at(&url(), &"x".repeat(256)).await;
    let fault = admin.ask(b"1", 0).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Permanent);
    assert!(fault.to_string().contains("255 bytes"), "{fault}");
    assert!(admin.serve().await.is_err());

    // Made by somebody who did not know what Fides wants.
    let queue = unique("foreign");
    let (_connection, channel) = outsider().await;
    channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), FieldTable::default()).await.unwrap();
    let admin = admin_at(&url(), &queue).await;
    for fault in [admin.ask(b"1", 0).await.map(drop).unwrap_err(), admin.serve().await.map(drop).unwrap_err()] {
        assert_eq!(fault.kind, FaultKind::Permanent, "{fault:?}");
        assert!(fault.to_string().contains(&queue) && fault.to_string().contains("is wanted"), "{fault}");
    }
}
