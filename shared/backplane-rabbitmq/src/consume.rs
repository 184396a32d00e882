//! The consumer of a lane.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fides_core::port::{Consumer, Delivery};
use fides_core::{Fault, FaultKind, Lane, Message};
use futures::FutureExt;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use crate::broker::{Broker, LaneState};
use crate::fault::Failure;
use crate::inbox::{Arrived, Feed, Inbox};
use crate::link::Open;
use crate::topology::{self, queue_name};

const REPLY_SUCCESS: u16 = 200;
/// A consumer that nothing has come to for so long looks whether it still is one.
const IDLE: Duration = Duration::from_secs(2);

/// A channel that consumes, and what has come over it.
pub(crate) struct Seated {
    open: Arc<Open>,
    channel: Channel,
    prefetch: u16,
    pub(crate) inbox: Arc<Inbox>,
}

impl Seated {
    /// When it answers, what the broker sent before on this channel has arrived. The bound that it sets is the one that is
    /// set already.
    pub(crate) async fn round_trip(&self) -> Result<(), Failure> {
        let qos = self.channel.basic_qos(self.prefetch, BasicQosOptions::default());
        self.open.call("asking a consumer's channel for an answer", qos).await
    }
}

impl Seated {
    /// Fails when this consumer waits in vain. A channel that ends between the answer to its `basic.consume` and the first
    /// look at its deliveries tells nobody; and a queue whose leader is being elected may accept a consumer and forget it.
    async fn is_served(&self, lane: &Lane) -> Result<(), Fault> {
        let what = format!("waiting for messages of lane {lane}");
        if !self.channel.status().connected() {
            return Err(Fault::transient(format!("{}: the channel has ended", self.open.at(&what))));
        }
        match topology::consumers(&self.open, &self.channel, lane).await? {
            Some(0) => {
                Err(Fault::transient(format!("{}: the broker does not know this consumer", self.open.at(&what))))
            }
            Some(_) => Ok(()),
            None => Err(Fault::unavailable(self.open.at(&what)).advise("its queue was deleted meanwhile")),
        }
    }
}

/// Becomes the consumer of a lane. While another one of this process is, this waits; while one of another process is, the
/// first delivery does (the broker does not tell who is active, it only delivers).
pub(crate) async fn consume(broker: &Broker, lane: &Lane) -> Result<LaneConsumer, Fault> {
    match subscribe(broker, lane).await {
        Err(failure) if failure.missing => {}
        subscribed => return subscribed.map_err(Fault::from),
    }
    // Deleted since this connection declared it.
    broker.consuming.open().await?.forget(lane);
    subscribe(broker, lane).await.map_err(Fault::from)
}

async fn subscribe(broker: &Broker, lane: &Lane) -> Result<LaneConsumer, Failure> {
    let state = broker.lane(lane);
    let seat = state.seat.clone().acquire_owned().await;
    let seat = seat.map_err(|_| Fault::transient(format!("lane {lane} was closed")))?;
    let open = broker.consuming.open().await?;
    let channel = open.channel().await?;
    topology::declare(&open, &channel, lane, broker.depth_max).await?;
    let queue = queue_name(lane)?;
    let what = format!("consuming queue {queue}");
    let inbox = Inbox::new(open.at(&what));
    let seated = Arc::new(Seated { open, channel, prefetch: broker.prefetch, inbox });
    seated.round_trip().await?;
    // Before anything can come: whoever counts the lane meanwhile finds it in the queue or here. From now on giving up
    // means closing the channel.
    state.seat(Some(seated.clone()));
    let held = Some(Held { seated: seated.clone(), consumer: None, seat });
    let mut subscribed = LaneConsumer { lane: lane.clone(), state, runtime: Handle::current(), held };
    let options = BasicConsumeOptions::default();
    let consuming = seated.channel.basic_consume(queue, ShortString::default(), options, FieldTable::default());
    let consumer = seated.open.call(&what, consuming).await?;
    consumer.set_delegate(Feed(seated.inbox.clone()));
    if let Some(held) = &mut subscribed.held {
        held.consumer = Some(consumer);
    }
    Ok(subscribed)
}

/// The consumer of a lane. What it has not settled returns to the head of the lane when it is dropped.
pub(crate) struct LaneConsumer {
    lane: Lane,
    state: Arc<LaneState>,
    runtime: Handle,
    /// Taken when it is dropped.
    held: Option<Held>,
}

struct Held {
    seated: Arc<Seated>,
    /// Must outlive the channel: it cancels when it is dropped, and a consumer that cancels with unsettled messages makes
    /// the next one active before they are back (L6).
    consumer: Option<lapin::Consumer>,
    seat: OwnedSemaphorePermit,
}

impl LaneConsumer {
    fn seated(&self) -> Result<&Seated, Fault> {
        let held = self.held.as_ref().map(|held| &*held.seated);
        held.ok_or_else(|| Fault::transient(format!("the consumer of lane {} was dropped", self.lane)))
    }
}

#[async_trait]
impl Consumer for LaneConsumer {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        let lane = &self.lane;
        let seated = self.seated()?;
        loop {
            tokio::select! {
                biased;
                next = seated.inbox.next(|arrived| read(lane, arrived)) => return next,
                () = sleep(IDLE) => seated.is_served(lane).await?,
            }
        }
    }

    /// After the acknowledgements the broker is asked for the queue's depth. The channel hands over what it received in
    /// order, so when the queue's leader has answered it had the acknowledgements before: they survive our crash and the
    /// loss of the connection. An acknowledgement itself has no answer in AMQP. Should the leader fail before it has
    /// replicated them the messages come again, as after any crash (L2).
    async fn settle(&mut self, tags: &[u64]) -> Result<(), Fault> {
        if tags.is_empty() {
            return Ok(());
        }
        let Seated { open, channel, inbox, .. } = self.seated()?;
        let what = format!("settling messages of lane {}", self.lane);
        for (tag, multiple) in inbox.acknowledgements(tags) {
            // On its way before the future is first awaited: a caller who gives up here may settle the rest again.
            let acknowledged = channel.basic_ack(tag, BasicAckOptions { multiple });
            inbox.settled(tag, multiple);
            open.call(&what, acknowledged).await?;
        }
        let proof = topology::ready(open, channel, &self.lane).await?;
        self.state.drained.notify_waiters();
        proof.map(drop).ok_or_else(|| Fault::unavailable(open.at(&what)).advise("its queue was deleted meanwhile"))
    }
}

impl Drop for LaneConsumer {
    fn drop(&mut self) {
        let (Some(Held { seated, consumer, seat }), state) = (self.held.take(), self.state.clone()) else { return };
        let mut closing = Box::pin(async move {
            let closed = seated.channel.close(REPLY_SUCCESS, "dropped".into());
            // Fails where the channel has ended already. Either way the broker has everything back.
            let _ = seated.open.call("closing a consumer's channel", closed).await;
            state.seat(None);
            drop((consumer, seat));
        });
        // The request is on its way when this returns, whatever becomes of the runtime.
        let _guard = self.runtime.enter();
        if closing.as_mut().now_or_never().is_none() {
            self.runtime.spawn(closing);
        }
    }
}

/// What the broker's message says. A message that cannot be read waits in its lane, whatever is wrong with it.
fn read(lane: &Lane, arrived: &Arrived) -> Result<Delivery, Fault> {
    let fault = match Message::decode(&arrived.body) {
        Ok(message) => return Ok(Delivery { tag: arrived.tag, message, redelivered: arrived.redelivered }),
        Err(fault) => fault,
    };
    let id = arrived.id.as_ref().map_or("without id", ShortString::as_str);
    let fault = fault.at(format!("lane {lane}, message {id}"));
    Err(match fault.kind {
        FaultKind::Unavailable => fault,
        _ => Fault { kind: FaultKind::Unavailable, ..fault }
            .advise("it waits at the head of its queue: find out who wrote it, then get it out by hand"),
    })
}
