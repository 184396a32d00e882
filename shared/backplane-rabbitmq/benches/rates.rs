//! Records per second through the queue of the product, beside what the broker gives a program that does nothing else.
//!
//! `tests/parts/rabbitmq cargo bench -p fides-backplane-rabbitmq --bench rates`

#![allow(clippy::unwrap_used, clippy::cast_precision_loss)] // a measurement, not a part of the product

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use fides_backplane_rabbitmq::Settings;
use fides_core::port::Queue;
use fides_core::{
    Batch, Change, Envelope, Field, Fingerprint, Key, Kind, Lane, Limits, Message, Op, Origin, PipelineId, Shape,
    Value, Version, encode_value,
};
use futures::StreamExt;
use futures::future::join_all;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use secrecy::SecretString;

const MESSAGES: u64 = 2_000;
const RECORDS: u64 = 512;
const LANES: u16 = 4;
/// Unconfirmed messages, and unacknowledged ones, of the plain program.
const WINDOW: usize = 16;

#[tokio::main]
async fn main() {
    let url = std::env::var("FIDES_TEST_AMQP_URL").expect("run this through tests/parts/rabbitmq");
    let message = message();
    let bytes = message.encode().len();
    println!("{MESSAGES} messages of {RECORDS} records and {bytes} bytes, quorum queues, persistent, confirmed");
    let (published, consumed) = plain(&url, &message.encode()).await;
    row("plain lapin, one queue", published, consumed);
    let (published, consumed) = product(&url, &message).await;
    row("the product, 4 lanes", published, consumed);
}

fn row(name: &str, published: f64, consumed: f64) {
    let rate = |seconds: f64| (MESSAGES * RECORDS) as f64 / seconds / 1_000.0;
    println!("{name:<24} published {:>7.0}k/s  consumed {:>7.0}k/s", rate(published), rate(consumed));
}

/// Records of about 200 bytes.
fn message() -> Message {
    let field = |name: &str, kind| Field { name: name.into(), kind };
    let shape = Shape { fields: vec![field("id", Kind::I64), field("text", Kind::String)], key: vec![0] };
    let changes = (0..RECORDS).map(|number| {
        let mut document = Vec::new();
        encode_value(&mut document, &Value::U64(number));
        encode_value(&mut document, &Value::String("x".repeat(170).into()));
        Change {
            key: Key::encode(&[Value::U64(number)]).unwrap(),
            version: Version { epoch: 1, position: number, sequence: 0 },
            fingerprint: Some(Fingerprint(u128::from(number))),
            op: Op::Upsert(Bytes::from(document)),
            forced: false,
        }
    });
    let changes = changes.collect();
    Message::Changes(Batch { origin: Origin::Import, trace: None, shape: Arc::new(shape), changes })
}

async fn plain(url: &str, body: &[u8]) -> (f64, f64) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let queue: ShortString = format!("bench-{}", uuid::Uuid::now_v7().simple()).into();
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(queue.clone(), QueueDeclareOptions::durable(), arguments).await.unwrap();

    let started = Instant::now();
    let confirms = futures::stream::iter(0..MESSAGES).map(|_| {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let published = channel.basic_publish(
            ShortString::default(),
            queue.clone(),
            BasicPublishOptions::default(),
            body,
            properties,
        );
        async move { published.await.unwrap().await.unwrap() }
    });
    confirms.buffered(WINDOW).for_each(|_| async {}).await;
    let published = started.elapsed().as_secs_f64();

    let started = Instant::now();
    channel.basic_qos(64, BasicQosOptions::default()).await.unwrap();
    let options = BasicConsumeOptions::default();
    let mut consumer =
        channel.basic_consume(queue.clone(), ShortString::default(), options, FieldTable::default()).await.unwrap();
    for number in 1..=MESSAGES {
        let delivery = consumer.next().await.unwrap().unwrap();
        if number.is_multiple_of(WINDOW as u64) || number == MESSAGES {
            channel.basic_ack(delivery.delivery_tag, BasicAckOptions { multiple: true }).await.unwrap();
        }
    }
    let consumed = started.elapsed().as_secs_f64();
    connection.close(200, "done".into()).await.unwrap();
    (published, consumed)
}

async fn product(url: &str, message: &Message) -> (f64, f64) {
    let limits = Limits { lane_depth_batches_max: 100_000, ..Limits::default() };
    let settings = Settings::new(SecretString::from(url.to_owned()));
    let queue = fides_backplane_rabbitmq::connect(settings, &limits).await.unwrap().queue();
    let pipeline = PipelineId::new(&format!("bench-{}", uuid::Uuid::now_v7().simple()));
    let lane = |index: u16| Lane { pipeline: pipeline.clone(), index };

    let started = Instant::now();
    // As the importer publishes: some messages to every lane at a time.
    for _ in 0..MESSAGES / 64 {
        let envelopes: Vec<Envelope> =
            (0..64).map(|number| Envelope { lane: lane(number % LANES), message: message.clone() }).collect();
        queue.publish(&envelopes).await.unwrap();
    }
    let published = started.elapsed().as_secs_f64();

    let started = Instant::now();
    let each = MESSAGES / 64 * 64 / u64::from(LANES);
    join_all((0..LANES).map(|index| drain(&*queue, lane(index), each))).await;
    (published, started.elapsed().as_secs_f64())
}

/// Consumes as a consumer does: about 20 messages are gathered, then settled together.
async fn drain(queue: &dyn Queue, lane: Lane, messages: u64) {
    let mut consumer = queue.consume(&lane).await.unwrap();
    let mut tags = Vec::new();
    for number in 1..=messages {
        tags.push(consumer.next().await.unwrap().tag);
        if tags.len() == 20 || number == messages {
            consumer.settle(&tags).await.unwrap();
            tags.clear();
        }
    }
}
