//! The suites of the backplane's ports, run against the embedded one.

use std::sync::Arc;

use async_trait::async_trait;
use fides_core::Limits;
use fides_core::port::{AdminQueue, Backplane};
use fides_testkit::conformance::admin_queue::CommandQueue;
use fides_testkit::conformance::{self, LANE_DEPTH_MAX, Stores};
use tempfile::TempDir;

struct StateFile(TempDir);

impl StateFile {
    #[allow(clippy::unused_async)] // the suites ask for a future: other stores need one
    async fn new() -> Self {
        Self(TempDir::new().expect("a folder for temporary files"))
    }
}

#[async_trait]
impl Stores for StateFile {
    async fn open(&mut self) -> Backplane {
        let limits = Limits { lane_depth_batches_max: LANE_DEPTH_MAX, ..Limits::default() };
        let opened = fides_backplane_embedded::open(&self.0.path().join("state.db"), &limits).await;
        opened.expect("nobody else owns the file").backplane()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue() {
    conformance::queue::run_all(StateFile::new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hash_store() {
    conformance::hash_store::run_all(StateFile::new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_store() {
    conformance::state_store::run_all(StateFile::new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters() {
    conformance::dead_letters::run_all(StateFile::new).await;
}

#[async_trait]
impl CommandQueue for StateFile {
    async fn open(&mut self) -> Arc<dyn AdminQueue> {
        let opened = fides_backplane_embedded::open(&self.0.path().join("state.db"), &Limits::default()).await;
        opened.expect("nobody else owns the file").admin()
    }

    async fn beside(&mut self) -> Arc<dyn AdminQueue> {
        let opened = fides_backplane_embedded::open_read_only(&self.0.path().join("state.db")).await;
        opened.expect("there is a file").admin()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_queue() {
    conformance::admin_queue::run_all(StateFile::new).await;
}
