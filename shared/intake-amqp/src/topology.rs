//! The queue that is bound to the host's exchange, and the one of what is malformed.

use fides_core::Fault;
use fides_core::port::Concern;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind, Queue};

use crate::Settings;
use crate::session::Session;

/// The broker must not judge events: connection cuts alone would count as deliveries.
const DELIVERY_LIMIT: i64 = 1_000_000;
/// Malformed events that are kept; when they are as many the queue of events waits, and says so (L10).
const DEAD_MESSAGES_MAX: i64 = 100_000;

pub(crate) fn short(name: &str) -> Result<ShortString, Fault> {
    ShortString::try_new(name.to_owned()).map_err(|_| {
        Fault::permanent(format!("the name {name:?} has more than 255 bytes")).advise("give it a shorter one")
    })
}

/// Makes the queues and binds them. The exchange is the host's: it is only asked for.
pub(crate) async fn declare(session: &Session, channel: &Channel, settings: &Settings) -> Result<(), Fault> {
    let exchange = short(&settings.exchange)?;
    let asked = session.call(&asking(settings), passive_exchange(channel, &exchange)).await;
    asked.map_err(|fault| match fault.advice {
        Some(_) => fault,
        None => fault.advise("the host's exchange must be there: Fides never makes it"),
    })?;
    let dead = short(&settings.dead_queue())?;
    let bounds = [("x-max-length", AMQPValue::LongLongInt(DEAD_MESSAGES_MAX)), ("x-overflow", text("reject-publish"))];
    queue(session, channel, &dead, bounds.into()).await?;
    let own = short(&settings.queue)?;
    queue(session, channel, &own, Vec::new()).await?;
    for key in &settings.routing_keys {
        let what = format!("binding queue {own} to exchange {exchange} with {key}");
        let options = QueueBindOptions::default();
        let binding = channel.queue_bind(own.clone(), exchange.clone(), short(key)?, options, FieldTable::default());
        session.call(&what, binding).await?;
    }
    Ok(())
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

async fn queue(
    session: &Session,
    channel: &Channel,
    name: &ShortString,
    more: Vec<(&str, AMQPValue)>,
) -> Result<(), Fault> {
    let all = [("x-queue-type", text("quorum")), ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT))];
    let mut arguments = FieldTable::default();
    for (argument, value) in all.into_iter().chain(more) {
        arguments.insert(ShortString::from(argument), value);
    }
    let declaring = channel.queue_declare(name.clone(), QueueDeclareOptions::durable(), arguments);
    session.call(&format!("declaring queue {name}"), declaring).await.map(drop)
}

async fn passive_exchange(channel: &Channel, exchange: &ShortString) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.clone(), ExchangeKind::Topic, options, FieldTable::default()).await
}

fn asking(settings: &Settings) -> String {
    format!("asking about exchange {}", settings.exchange)
}

/// What the broker says of a queue; `None` where there is none, which closes the channel.
pub(crate) async fn look(session: &Session, channel: &Channel, name: &ShortString) -> Result<Option<Queue>, Fault> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let asking = channel.queue_declare(name.clone(), options, FieldTable::default());
    session.try_call(&format!("asking about queue {name}"), asking).await
}

/// Everything that would keep events from being received, or that somebody should know. Changes nothing.
pub async fn check(settings: &Settings) -> Result<Vec<Concern>, Fault> {
    let session = Session::open(settings).await?;
    let found = concerns(&session, settings).await;
    session.close().await;
    found
}

async fn concerns(session: &Session, settings: &Settings) -> Result<Vec<Concern>, Fault> {
    let mut concerns = Vec::new();
    let exchange = short(&settings.exchange)?;
    let channel = session.channel().await?;
    if session.try_call(&asking(settings), passive_exchange(&channel, &exchange)).await?.is_none() {
        concerns.push(Concern {
            stops: true,
            what: format!("{}: there is no such exchange", session.at(&asking(settings))),
            mend: Some("let the service that publishes events declare it, or correct `exchange`".to_owned()),
        });
    }
    let channel = session.channel().await?;
    if look(session, &channel, &short(&settings.queue)?).await?.is_none() {
        concerns.push(Concern {
            stops: false,
            what: format!(
                "queue {} is not there yet: events that are published before it is are not received",
                settings.queue
            ),
            mend: Some("start the event-handler, which makes it and binds it; imports find what was missed".to_owned()),
        });
        return Ok(concerns);
    }
    let channel = session.channel().await?;
    let dead = look(session, &channel, &short(&settings.dead_queue())?).await?;
    if let Some(waiting) = dead.map(|dead| dead.message_count()).filter(|&waiting| waiting > 0) {
        concerns.push(Concern {
            stops: false,
            what: format!("{waiting} malformed events wait in queue {}", settings.dead_queue()),
            mend: Some("read their header x-fides-reason, then purge it".to_owned()),
        });
    }
    Ok(concerns)
}
