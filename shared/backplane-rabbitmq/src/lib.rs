//! The queue on RabbitMQ (3.10 and newer, 4.x): lanes as quorum queues.
//!
//! A lane is a durable quorum queue with a single active consumer, fed through the exchange `fides.changes`. A full lane
//! makes publishers wait (L10), a message is published when the broker has confirmed it (L3), and a delivery that was not
//! settled comes again, at the head of its lane (L2). The broker never judges a message: its delivery limit is out of
//! reach, and what Fides cannot read stays where it is.
//!
//! Lost connections and channels are faults of the call that meets them; the next call opens new ones. Nothing recovers
//! behind the caller's back.

mod admin;
mod broker;
mod consume;
mod depth;
mod dial;
mod fault;
mod inbox;
mod link;
mod publish;
mod settings;
mod subscription;
mod topology;
mod window;

use std::sync::Arc;

use fides_core::port::{AdminQueue, Queue};
use fides_core::{Fault, Limits};

use crate::broker::Broker;
pub use crate::settings::Settings;

/// Lanes and the queue of commands on a broker. Dropping the last handle closes the connections.
#[derive(Clone)]
pub struct RabbitQueue(Arc<Broker>);

/// Connects to a broker, so that a wrong address, password or virtual host is told at once. Of the limits it takes
/// `lane_depth_batches_max`, `apply_records_max` and `batch_records_max`.
pub async fn connect(settings: Settings, limits: &Limits) -> Result<RabbitQueue, Fault> {
    Ok(RabbitQueue(Arc::new(Broker::connect(settings, limits).await?)))
}

impl RabbitQueue {
    /// The port.
    pub fn queue(&self) -> Arc<dyn Queue> {
        self.0.clone()
    }

    /// The port of commands.
    pub fn admin(&self) -> Arc<dyn AdminQueue> {
        self.0.clone()
    }
}
