//! Faults of connecting and declaring: their kinds, what they name, and what they hide.

#![allow(clippy::unwrap_used)] // a fault is a test's failure

mod common;

use std::path::PathBuf;

use common::proxy::Proxy;
use common::{lane, numbers, outsider, process, process_at, queue_of, settings_for, settle, soon, take};
use fides_backplane_rabbitmq::connect;
use fides_core::{Fault, FaultKind, Limits};
use lapin::options::{ExchangeDeleteOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

async fn refused(url: &str) -> Fault {
    let settings = settings_for(url);
    let shown = format!("{settings:?}");
    let fault = soon("the refusal", connect(settings, &Limits::default())).await.map(|_| ()).unwrap_err();
    let password = url::Url::parse(url).unwrap().password().unwrap().to_owned();
    for said in [shown, fault.to_string(), format!("{fault:?}")] {
        assert!(!said.contains(&password) && !said.contains("fides_test"), "{said}");
    }
    fault
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_us_out_is_unavailable_and_shows_no_secret() {
    let right = url::Url::parse(&common::url()).unwrap();
    let mut wrong = right.clone();
    wrong.set_password(Some("hunter2")).unwrap();
    let fault = refused(wrong.as_str()).await;
    assert_eq!(fault.kind, FaultKind::Unavailable);
    assert!(fault.to_string().contains("check user and password"), "{fault}");

    let mut wrong = right.clone();
    wrong.set_path("/nowhere");
    let fault = refused(wrong.as_str()).await;
    assert_eq!(fault.kind, FaultKind::Unavailable);
    assert!(fault.to_string().contains("create the virtual host") && fault.to_string().contains("nowhere"), "{fault}");

    // A port that nobody listens on: it was free a moment ago, and is not reused that soon.
    let free = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port();
    let mut wrong = right.clone();
    wrong.set_port(Some(free)).unwrap();
    let fault = refused(wrong.as_str()).await;
    assert_eq!(fault.kind, FaultKind::Unavailable);
    assert!(fault.to_string().contains(&format!("127.0.0.1:{free}")), "{fault}");

    let fault = refused("http://u:hunter2@127.0.0.1").await;
    assert_eq!(fault.kind, FaultKind::Permanent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_accepts_and_says_nothing_is_given_up() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let peer = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut said = Vec::new();
        // Ends when the client has cut the connection: no thread waits for it any more.
        client.read_to_end(&mut said).await.unwrap();
        said
    });
    let mut settings = settings_for(&format!("amqp://u:p@127.0.0.1:{port}/%2f"));
    settings.connect_timeout_ms = 200;
    let fault = soon("giving up", connect(settings, &Limits::default())).await.map(|_| ()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Transient);
    assert!(fault.to_string().contains("no answer after 200 ms"), "{fault}");
    assert!(soon("the cut", peer).await.unwrap().starts_with(b"AMQP"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_is_opened_once_for_all_who_need_it() {
    let proxy = Proxy::start().await;
    let queue = process_at(&proxy.url(), 8).await;
    let lane = lane("once");
    queue.publish(&numbers(&lane, 1..=1)).await.unwrap();
    let mut consumer = queue.consume(&lane).await.unwrap();
    let before = proxy.connections();
    proxy.cut();
    // The driver has noticed when the consumer has.
    soon("the cut", async { while consumer.next().await.is_ok() {} }).await;
    drop(consumer);
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let (queue, lane) = (queue.clone(), lane.clone());
            tokio::spawn(async move { queue.depth(&lane).await })
        })
        .collect();
    for caller in callers {
        soon("an answer", caller).await.unwrap().unwrap();
    }
    assert_eq!(proxy.connections(), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_was_made_otherwise_is_named_with_both_values() {
    let lane = lane("clash");
    process(4).await.publish(&numbers(&lane, 1..=1)).await.unwrap();
    let other = process(8).await;
    let published = soon("publishing", other.publish(&numbers(&lane, 2..=2))).await.unwrap_err();
    let consumed = soon("consuming", other.consume(&lane)).await.map(|_| ()).unwrap_err();
    for fault in [published, consumed] {
        assert_eq!(fault.kind, FaultKind::Permanent);
        let text = fault.to_string();
        assert!(text.contains(&format!("queue '{}'", queue_of(&lane))), "{text}");
        assert!(text.contains("x-max-length = 4, 8 is wanted") && text.contains("lane_depth_batches_max"), "{text}");
    }
    assert_eq!(other.depth(&lane).await.unwrap(), 1, "looking is allowed");

    // Made by somebody who did not know what Fides wants.
    let lane = common::lane("foreign");
    let (_connection, channel) = outsider().await;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue_of(&lane), options, FieldTable::default()).await.unwrap();
    let fault = soon("publishing", other.publish(&numbers(&lane, 1..=1))).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Permanent);
    // The first of several that differ.
    assert!(fault.to_string().contains("was made with x-dead-letter-exchange = none, fides.dead is wanted"), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_that_was_deleted_is_declared_again_for_every_lane() {
    let queue = process(8).await;
    let lanes = [lane("exchange"), lane("exchange"), lane("exchange")];
    let all = |at: u64| lanes.iter().flat_map(move |lane| numbers(lane, at..=at)).collect::<Vec<_>>();
    queue.publish(&all(1)).await.unwrap();
    let (_connection, channel) = outsider().await;
    channel.exchange_delete("fides.changes".into(), ExchangeDeleteOptions::default()).await.unwrap();
    soon("publishing", queue.publish(&all(2))).await.unwrap();
    for lane in &lanes {
        assert_eq!(queue.depth(lane).await.unwrap(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_too_long_is_told() {
    let queue = process(8).await;
    let mut long = lane("long");
    long.pipeline = fides_core::PipelineId::new(&"x".repeat(300));
    let fault = queue.publish(&numbers(&long, 1..=1)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Permanent);
    assert!(fault.to_string().contains("255 bytes"), "{fault}");
    assert!(queue.consume(&long).await.is_err() && queue.depth(&long).await.is_err());
}

fn tls() -> (String, PathBuf) {
    let variable = |name: &str| {
        std::env::var(name)
            .unwrap_or_else(|_| panic!("{name} is not set: tests/parts/rabbitmq sets it, with the others"))
    };
    (variable("FIDES_TEST_AMQPS_URL"), variable("FIDES_TEST_AMQPS_CA").into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_the_brokers_certificate_is_checked() {
    let (url, ca_file) = tls();
    // No public authority signed it.
    let fault = refused(&url).await;
    assert_eq!(fault.kind, FaultKind::Unavailable);
    assert!(fault.to_string().contains("check the broker's certificate"), "{fault}");

    let mut settings = settings_for(&url);
    settings.ca_file = Some("/nowhere/ca.pem".into());
    let fault = connect(settings.clone(), &Limits::default()).await.map(|_| ()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable);
    assert!(fault.to_string().contains("/nowhere/ca.pem"), "{fault}");

    // Signed for this address, not for that name.
    settings.ca_file = Some(ca_file);
    settings.url = url.replace("127.0.0.1", "localhost").into();
    let fault = soon("the refusal", connect(settings.clone(), &Limits::default())).await.map(|_| ()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");

    settings.url = url.into();
    let queue = soon("connecting", connect(settings, &Limits::default())).await.unwrap().queue();
    let lane = lane("tls");
    soon("publishing", queue.publish(&numbers(&lane, 1..=3))).await.unwrap();
    let mut consumer = queue.consume(&lane).await.unwrap();
    let met = take(&mut consumer, 3).await;
    settle(&mut consumer, &met).await;
    assert_eq!(queue.depth(&lane).await.unwrap(), 0);
}
