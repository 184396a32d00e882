//! What this process knows of a broker: its two connections, and of each lane who publishes and who consumes here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use fides_core::port::{Consumer, Queue};
use fides_core::{Envelope, Fault, Lane, Limits};
use tokio::sync::{Notify, Semaphore};

use crate::link::{Link, Role};
use crate::settings::{Address, Settings};
use crate::subscription::Seated;
use crate::{consume, depth, publish};

pub(crate) struct Broker {
    pub(crate) settings: Settings,
    pub(crate) depth_max: u32,
    pub(crate) prefetch: u16,
    pub(crate) publishing: Arc<Link>,
    pub(crate) consuming: Link,
    /// One desk of this process at a time. Between processes the broker sees to it.
    pub(crate) desk: Arc<Semaphore>,
    lanes: Mutex<HashMap<Lane, Arc<LaneState>>>,
}

/// A lane as this process sees it.
pub(crate) struct LaneState {
    /// Whoever publishes to it now. One at a time: the room that was counted is used once, and order is kept.
    pub(crate) turn: Arc<tokio::sync::Mutex<Room>>,
    /// Something was settled here.
    pub(crate) drained: Notify,
    /// One consumer of this process at a time (L6). Between processes the broker sees to it.
    pub(crate) seat: Arc<Semaphore>,
    seated: Mutex<Option<Arc<Seated>>>,
}

/// Messages that the lane had room for when it was counted last, less those that were sent since: it is counted anew when they
/// are used up. Others send, too; then the broker, which keeps the bound (L10), refuses what is too much.
#[derive(Debug, Default)]
pub(crate) struct Room(pub(crate) usize);

impl LaneState {
    fn new() -> Self {
        Self {
            turn: Arc::default(),
            drained: Notify::new(),
            seat: Arc::new(Semaphore::new(1)),
            seated: Mutex::default(),
        }
    }

    /// The consumer of this process, if there is one.
    pub(crate) fn seated(&self) -> Option<Arc<Seated>> {
        self.seated.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn seat(&self, consumer: Option<Arc<Seated>>) {
        *self.seated.lock().unwrap_or_else(PoisonError::into_inner) = consumer;
    }
}

impl Broker {
    pub(crate) async fn connect(settings: Settings, limits: &Limits) -> Result<Self, Fault> {
        let address = Address::parse(&settings)?;
        let link = |role| Link::new(address.clone(), settings.clone(), role);
        let broker = Self {
            publishing: Arc::new(link(Role::Publishing)),
            consuming: link(Role::Consuming),
            depth_max: limits.lane_depth_batches_max.max(1),
            prefetch: settings.prefetch(limits),
            desk: Arc::new(Semaphore::new(1)),
            lanes: Mutex::default(),
            settings,
        };
        broker.consuming.open().await?;
        Ok(broker)
    }

    /// Messages of one lane in flight.
    pub(crate) fn window(&self) -> usize {
        usize::from(self.settings.publish_window.max(1))
    }

    pub(crate) fn lane(&self, lane: &Lane) -> Arc<LaneState> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.entry(lane.clone()).or_insert_with(|| Arc::new(LaneState::new())).clone()
    }
}

#[async_trait]
impl Queue for Broker {
    async fn publish(&self, envelopes: &[Envelope]) -> Result<(), Fault> {
        publish::publish(self, envelopes).await
    }

    async fn consume(&self, lane: &Lane) -> Result<Box<dyn Consumer>, Fault> {
        Ok(Box::new(consume::consume(self, lane).await?))
    }

    async fn depth(&self, lane: &Lane) -> Result<u64, Fault> {
        Ok(depth::depth(self, lane).await?.unwrap_or(0))
    }
}
