use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fides_core::port::{Desk, Request};
use fides_core::{Fault, FaultKind};
use lapin::BasicProperties;
use lapin::types::ShortString;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use super::{How, Sent, queue_name, send};
use crate::broker::Broker;
use crate::consume::IDLE;
use crate::fault::Failure;
use crate::inbox::Arrived;
use crate::link::{Link, Open};
use crate::subscription::{Seated, Subscription};
use crate::topology;

/// One command at a time: the others stay in the queue, and so does their memory (L10).
const PREFETCH: u16 = 1;
/// Queues of Fides' own begin so and take no answers: a lane would hold one for ever, as a message that it cannot read.
const OURS: &str = "fides.";

/// Becomes the desk, once the one of this process before is gone.
pub(super) async fn serve(broker: &Broker) -> Result<RabbitDesk, Fault> {
    let queue = queue_name(broker)?;
    match subscribe(broker, &queue).await {
        Err(failure) if failure.missing => {}
        subscribed => return subscribed.map_err(Fault::from),
    }
    // Deleted since this connection declared it.
    broker.consuming.open().await?.forget(&queue);
    subscribe(broker, &queue).await.map_err(Fault::from)
}

async fn subscribe(broker: &Broker, queue: &ShortString) -> Result<RabbitDesk, Failure> {
    let seat = broker.desk.clone().acquire_owned().await;
    let seat = seat.map_err(|_| Fault::transient("the desk was closed"))?;
    let open = broker.consuming.open().await?;
    let channel = open.channel().await?;
    topology::declare_admin(&open, &channel, queue).await?;
    let seated = Seated::prepare(open, channel, queue.clone(), PREFETCH).await?;
    let subscription = Subscription::begin(seated, seat).await?;
    let (answering, patience) = (broker.publishing.clone(), broker.settings.confirm_timeout());
    Ok(RabbitDesk { answering, patience, subscription, callers: HashMap::new() })
}

/// The desk of this process. What it has not answered returns to the head of the queue when it is dropped.
pub(super) struct RabbitDesk {
    answering: Arc<Link>,
    patience: Duration,
    subscription: Subscription<OwnedSemaphorePermit>,
    callers: HashMap<u64, Caller>,
}

/// Where an answer goes.
struct Caller {
    reply_to: ShortString,
    correlation_id: Option<ShortString>,
    /// Whether the command came before: its answer may have failed then.
    again: bool,
}

#[async_trait]
impl Desk for RabbitDesk {
    async fn next(&mut self) -> Result<Request, Fault> {
        let seated = self.subscription.seated()?;
        loop {
            let (request, caller) = tokio::select! {
                biased;
                next = seated.inbox.next(|arrived| Ok(read(arrived))) => next?,
                () = sleep(IDLE) => {
                    seated.is_served().await?;
                    continue;
                }
            };
            self.callers.extend(caller.map(|caller| (request.tag, caller)));
            return Ok(request);
        }
    }

    /// The answer is with its queue before the command is settled: after a crash in between the command comes again, and is
    /// answered again.
    async fn answer(&mut self, tag: u64, body: &[u8]) -> Result<(), Fault> {
        if let Some(caller) = self.callers.get(&tag) {
            self.reply(caller, body).await?;
        }
        self.subscription.seated()?.settle(&[tag]).await?;
        self.callers.remove(&tag);
        Ok(())
    }
}

/// A command, and who wants its answer. Who names no correlation id gets the id of the message.
fn read(arrived: &Arrived) -> (Request, Option<Caller>) {
    let caller = arrived.reply_to.clone().filter(|reply_to| !reply_to.as_str().is_empty()).map(|reply_to| Caller {
        reply_to,
        correlation_id: arrived.correlation_id.clone().or_else(|| arrived.id.clone()),
        again: arrived.redelivered,
    });
    (Request { tag: arrived.tag, body: arrived.body.clone(), wants_reply: caller.is_some() }, caller)
}

impl RabbitDesk {
    /// Sends an answer. That nobody can be reached under its address, or nobody may be, is told and harms nothing: the
    /// answer is stored under the command's id. Only where the broker itself is not there is it a fault, and of a command
    /// that came before not even then: an address that makes the broker fail (a forged one of its own kind ends the
    /// connection of RabbitMQ 3.10) would bring the command back for ever.
    async fn reply(&self, caller: &Caller, body: &[u8]) -> Result<(), Fault> {
        let Caller { reply_to, .. } = caller;
        if reply_to.as_str().starts_with(OURS) {
            tracing::warn!(%reply_to, "an answer is not sent to a queue of Fides' own");
            return Ok(());
        }
        let open = self.answering.open().await?;
        match self.try_reply(&open, caller, body).await {
            Ok(Sent::Taken) => Ok(()),
            Ok(sent) => {
                tracing::warn!(%reply_to, ?sent, "an answer was not taken");
                Ok(())
            }
            Err(Failure { fault, .. }) if open.is_blocked() => Err(fault),
            Err(Failure { fault, .. }) => {
                let is_refused =
                    matches!(fault.kind, FaultKind::Permanent | FaultKind::Unavailable) && open.is_usable();
                if !is_refused && !caller.again {
                    return Err(fault);
                }
                tracing::warn!(%reply_to, %fault, "an answer could not be sent");
                Ok(())
            }
        }
    }

    async fn try_reply(&self, open: &Arc<Open>, caller: &Caller, body: &[u8]) -> Result<Sent, Failure> {
        let borrowed = open.borrow().await?;
        let mut properties = BasicProperties::default();
        if let Some(id) = &caller.correlation_id {
            properties = properties.with_correlation_id(id.clone());
        }
        // Not mandatory: the broker returns every mandatory message to its own place for answers, taken or not.
        let how = How { patience: self.patience, mandatory: false };
        let sent = send(open, &borrowed.channel, &caller.reply_to, (body, properties), how).await?;
        borrowed.give_back();
        Ok(sent)
    }
}
