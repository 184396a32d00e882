//! Where malformed events go: a queue of their own, each with its reason.

use fides_core::Fault;
use lapin::message::Delivery;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, ShortString};
use lapin::{Channel, Confirmation};
use tokio::sync::Mutex;

use crate::Settings;
use crate::session::Session;
use crate::topology::short;

/// The header that says why.
const REASON: &str = "x-fides-reason";
/// Bytes of a reason.
const REASON_BYTES_MAX: usize = 2_000;

/// Buries events over a channel of its own, one at a time: returned messages are told from others by nothing else.
pub(crate) struct Grave {
    channel: Mutex<Channel>,
    queue: ShortString,
}

impl Grave {
    pub(crate) async fn open(session: &Session, settings: &Settings) -> Result<Self, Fault> {
        Ok(Self { channel: Mutex::new(session.confirming().await?), queue: short(&settings.dead_queue())? })
    }

    /// Returns when the broker has confirmed it: the event may be acknowledged then. It is what it was, with its reason.
    pub(crate) async fn bury(&self, session: &Session, delivery: &Delivery, reason: &str) -> Result<(), Fault> {
        let what = format!("putting a malformed event into queue {}", self.queue);
        let mut headers = delivery.properties.headers().clone().unwrap_or_default();
        for (name, value) in [
            (REASON, bounded(reason)),
            ("x-fides-exchange", delivery.exchange.as_str()),
            ("x-fides-routing-key", delivery.routing_key.as_str()),
        ] {
            headers.insert(name.into(), AMQPValue::LongString(value.into()));
        }
        // A client's own expiry would lose it.
        let properties = delivery.properties.clone().with_headers(headers).with_delivery_mode(2);
        let properties = match properties.expiration() {
            Some(_) => properties.with_expiration(NEVER.into()),
            None => properties,
        };
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let channel = self.channel.lock().await;
        let sending = async {
            let (to, key) = (ShortString::default(), self.queue.clone());
            channel.basic_publish(to, key, options, &delivery.data, properties).await?.await
        };
        match session.call(&what, sending).await? {
            Confirmation::Nack(_) => Err(Fault::unavailable(format!("{}: it is full", session.at(&what)))
                .advise("read what is in it, then purge it; events wait meanwhile")),
            confirmation => match confirmation.take_message() {
                Some(_) => Err(Fault::unavailable(format!("{}: it was deleted", session.at(&what)))),
                None => Ok(()),
            },
        }
    }
}

/// The longest that RabbitMQ takes, in milliseconds: 49 days.
const NEVER: &str = "4294967295";

fn bounded(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}
