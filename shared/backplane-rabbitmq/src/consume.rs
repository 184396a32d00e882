//! The consumer of a lane.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fides_core::port::{Consumer, Delivery, Settling};
use fides_core::{Fault, FaultKind, Lane, Message};
use lapin::types::ShortString;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use crate::broker::{Broker, LaneState};
use crate::fault::Failure;
use crate::inbox::Arrived;
use crate::subscription::{Seated, Subscription};
use crate::topology::{self, queue_name};

/// A consumer that nothing has come to for so long looks whether it still is one.
pub(crate) const IDLE: Duration = Duration::from_secs(2);

/// Becomes the consumer of a lane. While another one of this process is, this waits; while one of another process is, the
/// first delivery does (the broker does not tell who is active, it only delivers).
pub(crate) async fn consume(broker: &Broker, lane: &Lane) -> Result<LaneConsumer, Fault> {
    match subscribe(broker, lane).await {
        Err(failure) if failure.missing => {}
        subscribed => return subscribed.map_err(Fault::from),
    }
    // Deleted since this connection declared it.
    broker.consuming.open().await?.forget(&queue_name(lane)?);
    subscribe(broker, lane).await.map_err(Fault::from)
}

async fn subscribe(broker: &Broker, lane: &Lane) -> Result<LaneConsumer, Failure> {
    let state = broker.lane(lane);
    let permit = state.seat.clone().acquire_owned().await;
    let permit = permit.map_err(|_| Fault::transient(format!("lane {lane} was closed")))?;
    let open = broker.consuming.open().await?;
    let channel = open.channel().await?;
    topology::declare(&open, &channel, lane, broker.depth_max).await?;
    let seated = Seated::prepare(open, channel, queue_name(lane)?, broker.prefetch).await?;
    // Before anything can come: whoever counts the lane meanwhile finds it in the queue or here.
    let seat = Seat::take(state.clone(), &seated, permit);
    let subscription = Subscription::begin(seated, seat).await?;
    // A lane that is full gets nothing more, either.
    let unsettled_max = usize::from(broker.prefetch).min(broker.depth_max as usize);
    Ok(LaneConsumer { lane: lane.clone(), state, subscription, unsettled_max })
}

/// The place of this process' consumer in a lane.
struct Seat {
    state: Arc<LaneState>,
    _permit: OwnedSemaphorePermit,
}

impl Seat {
    fn take(state: Arc<LaneState>, seated: &Arc<Seated>, permit: OwnedSemaphorePermit) -> Self {
        state.seat(Some(seated.clone()));
        Self { state, _permit: permit }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.state.seat(None);
    }
}

/// The consumer of a lane. What it has not settled returns to the head of the lane when it is dropped.
pub(crate) struct LaneConsumer {
    lane: Lane,
    state: Arc<LaneState>,
    subscription: Subscription<Seat>,
    unsettled_max: usize,
}

#[async_trait]
impl Consumer for LaneConsumer {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        let lane = &self.lane;
        let seated = self.subscription.seated()?;
        loop {
            tokio::select! {
                biased;
                next = seated.inbox.next(|arrived| read(lane, arrived)) => return next,
                () = sleep(IDLE) => seated.is_served().await?,
            }
        }
    }

    fn settle(&mut self, tags: &[u64]) -> Settling {
        let (seated, state, tags) = (self.subscription.seated(), self.state.clone(), tags.to_vec());
        Box::pin(async move {
            if tags.is_empty() {
                return Ok(());
            }
            let settled = seated?.settle(&tags).await;
            state.drained.notify_waiters();
            settled
        })
    }

    fn unsettled_max(&self) -> usize {
        self.unsettled_max
    }
}

/// When a message was sent: its id is a UUID that begins with that time, finer than the seconds of AMQP's timestamp.
fn sent_ms(id: &ShortString) -> Option<u64> {
    let (seconds, nanos) = uuid::Uuid::parse_str(id.as_str()).ok()?.get_timestamp()?.to_unix();
    seconds.checked_mul(1_000)?.checked_add(u64::from(nanos / 1_000_000))
}

/// What the broker's message says. A message that cannot be read waits in its lane, whatever is wrong with it.
fn read(lane: &Lane, arrived: &Arrived) -> Result<Delivery, Fault> {
    let fault = match Message::decode(&arrived.body) {
        Ok(message) => {
            let sent_ms = arrived.id.as_ref().and_then(sent_ms);
            return Ok(Delivery { tag: arrived.tag, message, redelivered: arrived.redelivered, sent_ms });
        }
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
