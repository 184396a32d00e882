//! Commands: one durable queue that any program may publish to, the desk that answers, and Fides' own way of asking.

mod ask;
mod desk;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fides_core::Fault;
use fides_core::port::{AdminQueue, Desk};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, options::BasicPublishOptions};

use crate::broker::Broker;
use crate::fault::Failure;
use crate::link::Open;

const PERSISTENT: u8 = 2;
const JSON: &str = "application/json";

#[async_trait]
impl AdminQueue for Broker {
    async fn ask(&self, command: &[u8], timeout_ms: u64) -> Result<Option<Bytes>, Fault> {
        ask::ask(self, command, timeout_ms).await
    }

    async fn serve(&self) -> Result<Box<dyn Desk>, Fault> {
        Ok(Box::new(desk::serve(self).await?))
    }
}

fn queue_name(broker: &Broker) -> Result<ShortString, Fault> {
    let name = broker.settings.admin_queue.as_str();
    ShortString::try_new(name)
        .map_err(|_| Fault::permanent("the name of the queue of commands has more than 255 bytes").advise("shorten it"))
}

/// What became of one message that was sent to a queue by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Taken,
    /// The queue is full.
    Refused,
    /// There is no such queue.
    Returned,
}

/// How a message is sent.
#[derive(Clone, Copy)]
struct How {
    /// How long its confirm may take.
    patience: Duration,
    /// Whether the broker returns it where no queue takes it.
    mandatory: bool,
}

/// Sends one message through the default exchange and awaits its confirm (L3).
async fn send(
    open: &Open,
    channel: &Channel,
    queue: &ShortString,
    message: (&[u8], BasicProperties),
    how: How,
) -> Result<Sent, Failure> {
    let what = format!("publishing to queue {queue}");
    let options = BasicPublishOptions { mandatory: how.mandatory, ..BasicPublishOptions::default() };
    let (body, properties) = message;
    let properties =
        properties.with_delivery_mode(PERSISTENT).with_content_type(JSON.into()).with_app_id("fides".into());
    let sending =
        async { channel.basic_publish(ShortString::default(), queue.clone(), options, body, properties).await?.await };
    let confirmed = open.within(how.patience, &what, sending).await?;
    Ok(match confirmed.map_err(|error| crate::fault::failure(&open.at(&what), &error))? {
        Confirmation::Nack(_) => Sent::Refused,
        confirmation => match confirmation.take_message() {
            Some(_) => Sent::Returned,
            None => Sent::Taken,
        },
    })
}
