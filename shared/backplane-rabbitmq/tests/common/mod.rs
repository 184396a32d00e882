//! The broker of `FIDES_TEST_AMQP_URL`, and names on it that nobody else has.

#![allow(dead_code, clippy::unwrap_used)] // each test file uses a part of it

pub mod proxy;

use std::sync::Arc;
use std::time::Duration;

use fides_backplane_rabbitmq::Settings;
use fides_core::port::{AdminQueue, Consumer, Delivery, Queue};
use fides_core::{Batch, Change, Envelope, Key, Lane, Limits, Message, Op, Origin, PipelineId, Shape, Value, Version};
use lapin::types::ShortString;
use secrecy::SecretString;

/// The broker's URL; a test without a broker fails and says how to give it one.
pub fn url() -> String {
    std::env::var("FIDES_TEST_AMQP_URL").expect(
        "FIDES_TEST_AMQP_URL is not set: run the test as `tests/parts/rabbitmq cargo test -p fides-backplane-rabbitmq`, \
         or set it to amqp://user:password@127.0.0.1:port/%2f of a throwaway broker",
    )
}

pub fn settings() -> Settings {
    Settings::new(SecretString::from(url()))
}

/// A name that no other test, and no other run, has.
pub fn unique(what: &str) -> String {
    format!("{what}-{}", uuid::Uuid::now_v7().simple())
}

pub fn settings_for(url: &str) -> Settings {
    Settings::new(SecretString::from(url))
}

pub fn limits(lane_depth_batches_max: u32) -> Limits {
    Limits { lane_depth_batches_max, ..Limits::default() }
}

/// What one process has; several are several processes to the broker.
pub async fn process(lane_depth_batches_max: u32) -> Arc<dyn Queue> {
    process_at(&url(), lane_depth_batches_max).await
}

pub async fn process_at(url: &str, lane_depth_batches_max: u32) -> Arc<dyn Queue> {
    fides_backplane_rabbitmq::connect(settings_for(url), &limits(lane_depth_batches_max)).await.unwrap().queue()
}

/// The queue of commands under a name of the test's own.
pub async fn admin_at(url: &str, queue: &str) -> Arc<dyn AdminQueue> {
    let settings = Settings { admin_queue: queue.to_owned(), ..settings_for(url) };
    fides_backplane_rabbitmq::connect(settings, &Limits::default()).await.unwrap().admin()
}

pub fn lane(test: &str) -> Lane {
    Lane { pipeline: PipelineId::new(&unique(test)), index: 0 }
}

pub fn queue_of(lane: &Lane) -> ShortString {
    format!("fides.{lane}").into()
}

/// A message that says `number` and nothing else.
pub fn numbered(lane: &Lane, number: u64) -> Envelope {
    let change = Change {
        key: Key::encode(&[Value::U64(number)]).unwrap(),
        version: Version { epoch: 1, position: number, sequence: 0 },
        fingerprint: None,
        op: Op::Delete,
        forced: false,
    };
    let shape = Arc::new(Shape { fields: Vec::new(), key: Vec::new() });
    let batch = Batch { origin: Origin::Event, trace: None, shape, changes: vec![change] };
    Envelope { lane: lane.clone(), message: Message::Changes(batch) }
}

pub fn numbers(lane: &Lane, numbers: impl IntoIterator<Item = u64>) -> Vec<Envelope> {
    numbers.into_iter().map(|number| numbered(lane, number)).collect()
}

pub fn number(delivery: &Delivery) -> u64 {
    match &delivery.message {
        Message::Changes(batch) => batch.changes[0].version.position,
        Message::Fence(fence) => fence.number,
    }
}

/// Far longer than anything takes on a busy machine: a test that would hang fails instead.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), future).await.unwrap_or_else(|_| panic!("{what}: hangs"))
}

pub async fn take(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<Delivery> {
    let mut met = Vec::new();
    for _ in 0..count {
        met.push(soon("the next message", consumer.next()).await.unwrap());
    }
    met
}

pub fn told(met: &[Delivery]) -> Vec<u64> {
    met.iter().map(number).collect()
}

pub async fn settle(consumer: &mut Box<dyn Consumer>, met: &[Delivery]) {
    let tags: Vec<u64> = met.iter().map(|delivery| delivery.tag).collect();
    soon("settling", consumer.settle(&tags)).await.unwrap();
}

/// A channel that Fides knows nothing of.
pub async fn outsider() -> (lapin::Connection, lapin::Channel) {
    let connection = lapin::Connection::connect(&url(), lapin::ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

pub async fn delete(lane: &Lane) {
    let (_connection, channel) = outsider().await;
    channel.queue_delete(queue_of(lane), lapin::options::QueueDeleteOptions::default()).await.unwrap();
}
