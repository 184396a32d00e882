use std::pin::Pin;

use async_trait::async_trait;

use crate::{Envelope, Fault, Lane, Message};

/// Durable lanes.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Publishes in order, per lane. Returns once every message is durable (L3), and waits while a lane is full
    /// (`lane_depth_batches_max`). After a fault any part may have been published; publishing again is harmless.
    async fn publish(&self, envelopes: &[Envelope]) -> Result<(), Fault>;

    /// Becomes the lane's consumer. A lane has one active consumer (L6): this waits until the one before is gone.
    async fn consume(&self, lane: &Lane) -> Result<Box<dyn Consumer>, Fault>;

    /// Messages waiting in a lane, unsettled ones included.
    async fn depth(&self, lane: &Lane) -> Result<u64, Fault>;
}

/// The active consumer of one lane. Dropping it returns what is unsettled, in order, to the head of the lane.
#[async_trait]
pub trait Consumer: Send {
    /// The next message, in order; waits for one. Cancel-safe: a message is lost to nobody when the future is dropped.
    async fn next(&mut self) -> Result<Delivery, Fault>;

    /// Settles deliveries for good, once (L2: after the marks). Durable when the future has ended; one that is dropped may have
    /// settled any of them. It borrows nothing, so that the next deliveries are taken meanwhile; of one consumer one
    /// settlement is under way at a time.
    fn settle(&mut self, tags: &[u64]) -> Settling;

    /// How many deliveries it hands out before some of them are settled.
    fn unsettled_max(&self) -> usize;
}

/// A settlement under way: does nothing until it is polled.
pub type Settling = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>>;

/// A message that waits to be settled.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Names it to [`Consumer::settle`]; ascending within one consumer.
    pub tag: u64,
    /// The message.
    pub message: Message,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// When it was sent, in milliseconds since 1970 by its sender's clock; `None` where the queue does not tell. For people
    /// only: nothing is decided by it.
    pub sent_ms: Option<u64>,
}
