//! The raw limit: a program that publishes and consumes the same bytes, and does nothing else.

use futures::StreamExt;
use futures::future::join_all;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

use crate::{Seconds, lanes, timed};

/// Deliveries that are acknowledged together, as the product does.
const ACKED: usize = 20;

pub async fn rates(url: &str, messages: &[(u16, Vec<u8>)]) -> Seconds {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let mut queues: Vec<(ShortString, Channel, Vec<&[u8]>)> = Vec::new();
    for lane in 0..lanes::LANES {
        let queue: ShortString = format!("bench-{}", uuid::Uuid::now_v7().simple()).into();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        channel.queue_declare(queue.clone(), QueueDeclareOptions::durable(), arguments).await.unwrap();
        let own = messages.iter().filter(|(at, _)| *at == lane).map(|(_, body)| body.as_slice()).collect();
        queues.push((queue, channel, own));
    }
    let published = join_all(queues.iter().map(|(queue, channel, bodies)| publish(channel, queue, bodies)));
    let (_, published) = timed(published).await;
    let consumed = join_all(queues.iter().map(|(queue, channel, bodies)| consume(channel, queue, bodies.len())));
    let (_, consumed) = timed(consumed).await;
    connection.close(200, "done".into()).await.unwrap();
    Seconds { published: Some(published), consumed }
}

async fn publish(channel: &Channel, queue: &ShortString, bodies: &[&[u8]]) {
    let confirms = futures::stream::iter(bodies).map(|body| {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        let published = channel.basic_publish(ShortString::default(), queue.clone(), options, body, properties);
        async move { assert!(matches!(published.await.unwrap().await.unwrap(), Confirmation::Ack(_))) }
    });
    confirms.buffered(lanes::window()).for_each(|()| async {}).await;
}

async fn consume(channel: &Channel, queue: &ShortString, messages: usize) {
    channel.basic_qos(64, BasicQosOptions::default()).await.unwrap();
    let options = BasicConsumeOptions::default();
    let mut consumer =
        channel.basic_consume(queue.clone(), ShortString::default(), options, FieldTable::default()).await.unwrap();
    for number in 1..=messages {
        let delivery = consumer.next().await.unwrap().unwrap();
        if number.is_multiple_of(ACKED) || number == messages {
            channel.basic_ack(delivery.delivery_tag, BasicAckOptions { multiple: true }).await.unwrap();
        }
    }
}
