//! Exchanges and queues, declared idempotently at a lane's first use.

use fides_core::{Fault, Lane};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind, Queue};

use crate::fault::Failure;
use crate::link::Open;

/// Routes a message to the lane whose queue its routing key names.
pub(crate) const CHANGES: &str = "fides.changes";
/// Where the broker puts what it gives up, exchange and queue: nothing, as long as it is configured as here.
pub(crate) const DEAD: &str = "fides.dead";

/// Messages that the broker gives up before it stops doing so.
const DEAD_MESSAGES_MAX: i64 = 10_000;

/// Commands that wait, and their bytes together, before senders are refused (L10).
const ADMIN_COMMANDS_MAX: i64 = 1_000;
const ADMIN_BYTES_MAX: i64 = 64 << 20;

/// The broker must not judge our records: connection cuts alone would dead-letter healthy batches. With a limit set, what
/// returns goes to the head of the queue and order is kept; without one it goes to the tail.
const DELIVERY_LIMIT: i64 = 1_000_000;

/// The name of a lane's queue, which is its routing key too.
pub(crate) fn queue_name(lane: &Lane) -> Result<ShortString, Fault> {
    ShortString::try_new(format!("fides.{lane}")).map_err(|_| {
        Fault::permanent(format!("the queue of lane {lane} would have a name of more than 255 bytes"))
            .advise("give the pipeline a shorter id")
    })
}

fn arguments(pairs: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        table.insert(ShortString::from(*name), value.clone());
    }
    table
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// Declares everything that a lane needs, unless this connection has done so already.
pub(crate) async fn declare(open: &Open, channel: &Channel, lane: &Lane, depth_max: u32) -> Result<(), Failure> {
    let queue = queue_name(lane)?;
    if open.has_declared(&queue) {
        return Ok(());
    }
    declare_dead(open, channel).await?;
    exchange(open, channel, CHANGES, ExchangeKind::Direct).await?;
    let options = QueueDeclareOptions::durable();
    let arguments = arguments(&[
        ("x-queue-type", text("quorum")),
        ("x-single-active-consumer", AMQPValue::Boolean(true)),
        ("x-max-length", AMQPValue::LongLongInt(i64::from(depth_max))),
        ("x-overflow", text("reject-publish")),
        ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT)),
        ("x-dead-letter-exchange", text(DEAD)),
        // A full `fides.dead` keeps a message where it is, instead of losing it.
        ("x-dead-letter-strategy", text("at-least-once")),
    ]);
    let what = format!("declaring queue {queue}");
    open.call(&what, channel.queue_declare(queue.clone(), options, arguments)).await?;
    bind(open, channel, &queue, CHANGES, queue.clone()).await?;
    open.declared(queue);
    Ok(())
}

/// Declares the queue of commands, unless this connection has done so already. Whoever sends one reaches it through the
/// broker's default exchange, which needs no binding.
pub(crate) async fn declare_admin(open: &Open, channel: &Channel, queue: &ShortString) -> Result<(), Failure> {
    if open.has_declared(queue) {
        return Ok(());
    }
    let options = QueueDeclareOptions::durable();
    let arguments = arguments(&[
        ("x-queue-type", text("quorum")),
        ("x-single-active-consumer", AMQPValue::Boolean(true)),
        ("x-max-length", AMQPValue::LongLongInt(ADMIN_COMMANDS_MAX)),
        ("x-max-length-bytes", AMQPValue::LongLongInt(ADMIN_BYTES_MAX)),
        ("x-overflow", text("reject-publish")),
        ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT)),
    ]);
    let what = format!("declaring queue {queue}");
    open.call(&what, channel.queue_declare(queue.clone(), options, arguments)).await?;
    open.declared(queue.clone());
    Ok(())
}

async fn declare_dead(open: &Open, channel: &Channel) -> Result<(), Failure> {
    exchange(open, channel, DEAD, ExchangeKind::Fanout).await?;
    let options = QueueDeclareOptions::durable();
    let arguments = arguments(&[
        ("x-queue-type", text("quorum")),
        ("x-max-length", AMQPValue::LongLongInt(DEAD_MESSAGES_MAX)),
        ("x-overflow", text("reject-publish")),
        ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT)),
    ]);
    let queue = ShortString::from(DEAD);
    open.call(&format!("declaring queue {DEAD}"), channel.queue_declare(queue.clone(), options, arguments)).await?;
    bind(open, channel, &queue, DEAD, ShortString::default()).await
}

async fn exchange(open: &Open, channel: &Channel, name: &str, kind: ExchangeKind) -> Result<(), Failure> {
    let what = format!("declaring exchange {name}");
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    open.call(&what, channel.exchange_declare(name.into(), kind, options, FieldTable::default())).await
}

async fn bind(
    open: &Open,
    channel: &Channel,
    queue: &ShortString,
    to: &str,
    routing_key: ShortString,
) -> Result<(), Failure> {
    let what = format!("binding queue {queue} to exchange {to}");
    let options = QueueBindOptions::default();
    open.call(&what, channel.queue_bind(queue.clone(), to.into(), routing_key, options, FieldTable::default())).await
}

/// Messages that are ready in a queue; `None` where there is no such queue.
pub(crate) async fn ready(open: &Open, channel: &Channel, queue: &ShortString) -> Result<Option<u64>, Failure> {
    let queue = ask(open, channel, queue).await?;
    Ok(queue.map(|queue| u64::from(queue.message_count())))
}

/// Consumers of a queue; `None` where there is no such queue.
pub(crate) async fn consumers(open: &Open, channel: &Channel, queue: &ShortString) -> Result<Option<u32>, Failure> {
    let queue = ask(open, channel, queue).await?;
    Ok(queue.map(|queue| queue.consumer_count()))
}

/// A question about a queue that is not there closes the channel.
async fn ask(open: &Open, channel: &Channel, queue: &ShortString) -> Result<Option<Queue>, Failure> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let what = format!("asking about queue {queue}");
    match open.call(&what, channel.queue_declare(queue.clone(), options, FieldTable::default())).await {
        Ok(queue) => Ok(Some(queue)),
        Err(failure) if failure.missing => Ok(None),
        Err(failure) => Err(failure),
    }
}
