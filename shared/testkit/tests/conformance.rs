//! The suites of the backplane's ports, run against the fakes: a simulation is worth what its fakes are.

use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::{AdminQueue, Backplane};
use fides_testkit::conformance::admin_queue::CommandQueue;
use fides_testkit::conformance::{self, LANE_DEPTH_MAX, Stores};
use fides_testkit::fake::Disk;

struct FakeStores(Disk);

impl FakeStores {
    #[allow(clippy::unused_async)] // the suites ask for a future: other stores need one
    async fn new() -> Self {
        Self(Disk::new(LANE_DEPTH_MAX as usize))
    }
}

#[async_trait]
impl Stores for FakeStores {
    async fn open(&mut self) -> Backplane {
        self.0.crash();
        self.0.open()
    }
}

#[tokio::test(start_paused = true)]
async fn queue() {
    conformance::queue::run_all(FakeStores::new).await;
}

#[tokio::test(start_paused = true)]
async fn hash_store() {
    conformance::hash_store::run_all(FakeStores::new).await;
}

#[tokio::test(start_paused = true)]
async fn state_store() {
    conformance::state_store::run_all(FakeStores::new).await;
}

#[tokio::test(start_paused = true)]
async fn dead_letters() {
    conformance::dead_letters::run_all(FakeStores::new).await;
}

#[tokio::test(start_paused = true)]
async fn admin_queue() {
    conformance::admin_queue::run_all(FakeCommands::new).await;
}

struct FakeCommands(Disk);

impl FakeCommands {
    #[allow(clippy::unused_async)] // the suite asks for a future: other queues need one
    async fn new() -> Self {
        Self(Disk::new(LANE_DEPTH_MAX as usize))
    }
}

#[async_trait]
impl CommandQueue for FakeCommands {
    async fn open(&mut self) -> Arc<dyn AdminQueue> {
        self.0.crash();
        self.0.admin()
    }

    async fn beside(&mut self) -> Arc<dyn AdminQueue> {
        self.0.admin()
    }
}
