//! A channel that consumes one queue: its round trips, and how it is given up without losing or doubling anything.

use std::sync::Arc;

use fides_core::Fault;
use futures::FutureExt;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use tokio::runtime::Handle;

use crate::fault::Failure;
use crate::inbox::{Feed, Inbox};
use crate::link::Open;
use crate::topology;

const REPLY_SUCCESS: u16 = 200;

/// A channel that consumes, and what has come over it.
pub(crate) struct Seated {
    pub(crate) open: Arc<Open>,
    pub(crate) channel: Channel,
    pub(crate) queue: ShortString,
    prefetch: u16,
    pub(crate) inbox: Arc<Inbox>,
}

impl Seated {
    /// A channel that may hold `prefetch` messages of a queue (L10), and has not begun to consume it.
    pub(crate) async fn prepare(
        open: Arc<Open>,
        channel: Channel,
        queue: ShortString,
        prefetch: u16,
    ) -> Result<Arc<Self>, Failure> {
        let inbox = Inbox::new(open.at(&format!("consuming queue {queue}")));
        let seated = Arc::new(Self { open, channel, queue, prefetch, inbox });
        seated.round_trip().await?;
        Ok(seated)
    }

    /// When it answers, what the broker sent before on this channel has arrived. The bound that it sets is the one that is
    /// set already.
    pub(crate) async fn round_trip(&self) -> Result<(), Failure> {
        let qos = self.channel.basic_qos(self.prefetch, BasicQosOptions::default());
        self.open.call("asking a consumer's channel for an answer", qos).await
    }

    /// Fails when this consumer waits in vain. A channel that ends between the answer to its `basic.consume` and the first
    /// look at its deliveries tells nobody; and a queue whose leader is being elected may accept a consumer and forget it.
    pub(crate) async fn is_served(&self) -> Result<(), Fault> {
        let what = format!("waiting for messages of queue {}", self.queue);
        if !self.channel.status().connected() {
            return Err(Fault::transient(format!("{}: the channel has ended", self.open.at(&what))));
        }
        match topology::consumers(&self.open, &self.channel, &self.queue).await? {
            Some(0) => {
                Err(Fault::transient(format!("{}: the broker does not know this consumer", self.open.at(&what))))
            }
            Some(_) => Ok(()),
            None => Err(Fault::unavailable(self.open.at(&what)).advise("its queue was deleted meanwhile")),
        }
    }

    /// Settles messages. After the acknowledgements the broker is asked for the queue's depth. The channel hands over what
    /// it received in order, so when the queue's leader has answered it had the acknowledgements before: they survive our
    /// crash and the loss of the connection. An acknowledgement itself has no answer in AMQP. Should the leader fail before
    /// it has replicated them the messages come again, as after any crash (L2).
    pub(crate) async fn settle(&self, tags: &[u64]) -> Result<(), Fault> {
        let Self { open, channel, inbox, queue, .. } = self;
        let what = format!("settling messages of queue {queue}");
        for (tag, multiple) in inbox.acknowledgements(tags) {
            // On its way before the future is first awaited: a caller who gives up here may settle the rest again.
            let acknowledged = channel.basic_ack(tag, BasicAckOptions { multiple });
            inbox.settled(tag, multiple);
            open.call(&what, acknowledged).await?;
        }
        let proof = topology::ready(open, channel, queue).await?;
        proof.map(drop).ok_or_else(|| Fault::unavailable(open.at(&what)).advise("its queue was deleted meanwhile"))
    }
}

/// A consumer of a queue, and what it keeps as long as the broker may count it as one. What it has not settled returns to
/// the head of the queue when it is dropped.
pub(crate) struct Subscription<K: Send + 'static> {
    runtime: Handle,
    /// Taken when it is dropped.
    held: Option<Held<K>>,
}

struct Held<K> {
    seated: Arc<Seated>,
    /// Must outlive the channel: it cancels when it is dropped, and a consumer that cancels with unsettled messages makes
    /// the next one active before they are back (L6).
    consumer: Option<lapin::Consumer>,
    kept: K,
}

impl<K: Send + 'static> Subscription<K> {
    /// Begins to consume. From now on giving up means closing the channel; `kept` is kept until that is done.
    pub(crate) async fn begin(seated: Arc<Seated>, kept: K) -> Result<Self, Failure> {
        let held = Some(Held { seated: seated.clone(), consumer: None, kept });
        let mut subscription = Self { runtime: Handle::current(), held };
        let what = format!("consuming queue {}", seated.queue);
        let (options, queue) = (BasicConsumeOptions::default(), seated.queue.clone());
        let consuming = seated.channel.basic_consume(queue, ShortString::default(), options, FieldTable::default());
        let consumer = seated.open.call(&what, consuming).await?;
        consumer.set_delegate(Feed(seated.inbox.clone()));
        if let Some(held) = &mut subscription.held {
            held.consumer = Some(consumer);
        }
        Ok(subscription)
    }

    pub(crate) fn seated(&self) -> Result<Arc<Seated>, Fault> {
        let held = self.held.as_ref().map(|held| held.seated.clone());
        held.ok_or_else(|| Fault::transient("a consumer that was dropped"))
    }
}

impl<K: Send + 'static> Drop for Subscription<K> {
    fn drop(&mut self) {
        let Some(Held { seated, consumer, kept }) = self.held.take() else { return };
        let mut closing = Box::pin(async move {
            let closed = seated.channel.close(REPLY_SUCCESS, "dropped".into());
            // Fails where the channel has ended already. Either way the broker has everything back.
            let _ = seated.open.call("closing a consumer's channel", closed).await;
            drop(consumer);
            drop(kept);
        });
        // The request is on its way when this returns, whatever becomes of the runtime.
        let _guard = self.runtime.enter();
        if closing.as_mut().now_or_never().is_none() {
            self.runtime.spawn(closing);
        }
    }
}
