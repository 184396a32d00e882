//! The suite of the port `Queue`, run against a real broker.

#![allow(clippy::unwrap_used)] // a fault is a test's failure

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::{AdminQueue, Backplane, Consumer, Queue};
use fides_core::{Envelope, Fault, Lane, Limits, PipelineId};
use fides_testkit::conformance::admin_queue::CommandQueue;
use fides_testkit::conformance::{self, LANE_DEPTH_MAX, Stores};
use fides_testkit::fake::Disk;

/// Lanes of a case's own on the broker that all share: the suite's pipelines, under names that nobody else has.
struct OwnLanes {
    prefix: String,
}

impl OwnLanes {
    #[allow(clippy::unused_async)] // the suite asks for a future: other stores need one
    async fn new() -> Self {
        Self { prefix: common::unique("suite") }
    }
}

#[async_trait]
impl Stores for OwnLanes {
    async fn open(&mut self) -> Backplane {
        let limits = Limits { lane_depth_batches_max: LANE_DEPTH_MAX, ..Limits::default() };
        let queue = fides_backplane_rabbitmq::connect(common::settings(), &limits).await.unwrap().queue();
        // The suite of the queue uses nothing else of it.
        Backplane { queue: Arc::new(Renamed { queue, prefix: self.prefix.clone() }), ..Disk::new(1).open() }
    }
}

struct Renamed {
    queue: Arc<dyn Queue>,
    prefix: String,
}

impl Renamed {
    fn own(&self, lane: &Lane) -> Lane {
        let pipeline = PipelineId::new(&format!("{}-{}", self.prefix, lane.pipeline));
        Lane { pipeline, index: lane.index }
    }
}

#[async_trait]
impl Queue for Renamed {
    async fn publish(&self, envelopes: &[Envelope]) -> Result<(), Fault> {
        let own = |envelope: &Envelope| Envelope { lane: self.own(&envelope.lane), message: envelope.message.clone() };
        self.queue.publish(&envelopes.iter().map(own).collect::<Vec<_>>()).await
    }

    async fn consume(&self, lane: &Lane) -> Result<Box<dyn Consumer>, Fault> {
        self.queue.consume(&self.own(lane)).await
    }

    async fn depth(&self, lane: &Lane) -> Result<u64, Fault> {
        self.queue.depth(&self.own(lane)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue() {
    conformance::queue::run_all(OwnLanes::new).await;
}

/// A queue of commands of a case's own.
struct OwnCommands {
    queue: String,
}

impl OwnCommands {
    #[allow(clippy::unused_async)] // the suite asks for a future: other queues need one
    async fn new() -> Self {
        Self { queue: common::unique("admin") }
    }
}

#[async_trait]
impl CommandQueue for OwnCommands {
    async fn open(&mut self) -> Arc<dyn AdminQueue> {
        common::admin_at(&common::url(), &self.queue).await
    }

    async fn beside(&mut self) -> Arc<dyn AdminQueue> {
        self.open().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_queue() {
    conformance::admin_queue::run_all(OwnCommands::new).await;
}
