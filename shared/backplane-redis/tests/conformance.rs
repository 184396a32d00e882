//! The suites of the backplane's ports, run against Redis.

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use fides_backplane_redis::Settings;
use fides_core::port::{Backplane, Consumer, Queue};
use fides_core::{Envelope, Fault, Lane};
use fides_testkit::conformance::{self, Stores};

struct Prefix(Settings);

impl Prefix {
    #[allow(clippy::unused_async)] // the suites ask for a future: other stores need one
    async fn new() -> Self {
        Self(common::settings())
    }
}

#[async_trait]
impl Stores for Prefix {
    async fn open(&mut self) -> Backplane {
        let redis = common::open(&self.0).await;
        Backplane { queue: Arc::new(NoQueue), hashes: redis.hashes(), state: redis.state(), dead: redis.dead_letters() }
    }
}

/// Redis is no queue; the suites of the other ports never ask for one.
struct NoQueue;

#[async_trait]
impl Queue for NoQueue {
    async fn publish(&self, _: &[Envelope]) -> Result<(), Fault> {
        Err(Fault::permanent("Redis is no queue"))
    }

    async fn consume(&self, _: &Lane) -> Result<Box<dyn Consumer>, Fault> {
        Err(Fault::permanent("Redis is no queue"))
    }

    async fn depth(&self, _: &Lane) -> Result<u64, Fault> {
        Err(Fault::permanent("Redis is no queue"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hash_store() {
    conformance::hash_store::run_all(Prefix::new).await;
}

/// Buckets so small that every case has many of them, and splits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hash_store_in_small_buckets() {
    let small = async || Prefix(Settings { bucket_marks_max: 50, ..common::settings() });
    conformance::hash_store::run_all(small).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_store() {
    conformance::state_store::run_all(Prefix::new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters() {
    conformance::dead_letters::run_all(Prefix::new).await;
}
