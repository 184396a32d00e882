//! One window: messages of one lane, sent on one channel, all of whose confirms are awaited.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fides_core::{Fault, Lane, Message};
use futures::future::join_all;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation};
use uuid::Uuid;

use crate::broker::Broker;
use crate::fault::{Failure, failure};
use crate::link::{Link, Open};
use crate::topology::{self, CHANGES, queue_name};

const CONTENT_TYPE: &str = "application/vnd.fides.message";
const PERSISTENT: u8 = 2;

/// A message ready to be sent, as often as it takes.
pub(crate) struct Parcel {
    /// Tells which message came back: the driver attaches returned messages to confirms by arrival, not by tag.
    id: ShortString,
    trace: Option<String>,
    body: Vec<u8>,
    fate: Fate,
}

/// What the broker made of a parcel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Not sent, or not heard of since: sending it again is harmless.
    Unknown,
    /// In the queue, durably.
    Confirmed,
    /// The lane is full.
    Refused,
    /// No queue was there to take it.
    Returned,
}

impl Parcel {
    pub(crate) fn new(message: &Message) -> Self {
        let trace = match message {
            Message::Changes(batch) => batch.trace.clone(),
            Message::Fence(_) => None,
        };
        let id = ShortString::from(Uuid::now_v7().to_string());
        Self { id, trace, body: message.encode(), fate: Fate::Unknown }
    }

    fn properties(&self, now_s: u64) -> BasicProperties {
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type(CONTENT_TYPE.into())
            .with_app_id("fides".into())
            .with_message_id(self.id.clone())
            .with_timestamp(now_s);
        let Some(trace) = &self.trace else { return properties };
        let mut headers = FieldTable::default();
        headers.insert("traceparent".into(), AMQPValue::LongString(trace.as_str().into()));
        properties.with_headers(headers)
    }
}

/// A window that owns all it needs, so that it reaches its end when its caller has gone away.
pub(crate) struct Window {
    link: Arc<Link>,
    lane: Lane,
    queue: ShortString,
    depth_max: u32,
    patience: Duration,
    parcels: Vec<Parcel>,
}

impl Window {
    pub(crate) fn new(broker: &Broker, lane: &Lane, parcels: Vec<Parcel>) -> Result<Self, Fault> {
        Ok(Self {
            link: broker.publishing.clone(),
            queue: queue_name(lane)?,
            lane: lane.clone(),
            depth_max: broker.depth_max,
            patience: broker.settings.confirm_timeout(),
            parcels,
        })
    }

    /// Sends it; what the lane refused comes back, in order. A lane whose topology somebody has deleted is declared again,
    /// once.
    pub(crate) async fn send(mut self) -> Result<Vec<Parcel>, Fault> {
        let mut lost = None;
        for _ in 0..2 {
            let open = self.link.open().await?;
            match self.attempt(&open).await {
                Ok(()) if self.parcels.iter().all(|parcel| parcel.fate == Fate::Refused) => return Ok(self.parcels),
                Ok(()) => {}
                Err(failure) if failure.missing => lost = Some(failure.fault),
                Err(failure) => return Err(failure.fault),
            }
            tracing::warn!(queue = %self.queue, "the queue or its exchange is gone; declaring it again");
            open.forget(&self.queue);
        }
        Err(lost.unwrap_or_else(|| Fault::unavailable(format!("publishing to queue {}: nothing takes it", self.queue))).advise(
            "somebody deletes this queue, or its binding to exchange fides.changes, as fast as Fides declares it: find out who",
        ))
    }

    /// Sends what is not confirmed yet; afterwards only what is neither is left.
    async fn attempt(&mut self, open: &Arc<Open>) -> Result<(), Failure> {
        let borrowed = open.borrow().await?;
        topology::declare(open, &borrowed.channel, &self.lane, self.depth_max).await?;
        let sent = self.transmit(open, &borrowed.channel).await;
        self.parcels.retain(|parcel| parcel.fate != Fate::Confirmed);
        sent?;
        borrowed.give_back();
        Ok(())
    }

    /// Sends all parcels and awaits all their confirms: only then is it known which of them were returned.
    async fn transmit(&mut self, open: &Open, channel: &Channel) -> Result<(), Failure> {
        let largest = self.parcels.iter().map(|parcel| parcel.body.len()).max().unwrap_or_default();
        let what = format!("publishing to queue {} (largest message: {largest} bytes)", self.queue);
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sending = async {
            let mut confirms = Vec::with_capacity(self.parcels.len());
            for parcel in &self.parcels {
                let (to, key) = (CHANGES.into(), self.queue.clone());
                let sent = channel.basic_publish(to, key, options, &parcel.body, parcel.properties(now_s)).await;
                match sent {
                    Ok(confirm) => confirms.push(confirm),
                    // Those before it may have been confirmed; the channel is gone, so all of them answer.
                    Err(error) => return (join_all(confirms).await, Some(error)),
                }
            }
            (join_all(confirms).await, None)
        };
        let (confirms, mut broken) = open.within(self.patience, &what, sending).await?;
        let mut returned = HashSet::new();
        for (parcel, confirm) in self.parcels.iter_mut().zip(confirms) {
            parcel.fate = match confirm {
                Ok(Confirmation::Ack(_)) => Fate::Confirmed,
                Ok(Confirmation::Nack(_)) => Fate::Refused,
                Ok(Confirmation::NotRequested) => Fate::Unknown,
                Err(ref error) => {
                    broken.get_or_insert_with(|| error.clone());
                    Fate::Unknown
                }
            };
            let message = confirm.ok().and_then(Confirmation::take_message);
            returned.extend(message.and_then(|message| message.properties.message_id().clone()));
        }
        for parcel in self.parcels.iter_mut().filter(|parcel| returned.contains(&parcel.id)) {
            parcel.fate = Fate::Returned;
        }
        broken.map_or(Ok(()), |error| Err(failure(&open.at(&what), &error)))
    }
}
