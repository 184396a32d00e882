//! What the conformance suites cannot ask: the file itself, its lock, its failures, its smallest buckets.

mod buckets;
mod commands;
mod failures;
mod opening;
mod queue;

use std::path::PathBuf;

use fides_core::port::Backplane;
use fides_core::{Envelope, FenceId, Fingerprint, Key, Lane, Limits, Mark, Message, PipelineId, Value, Version};
use tempfile::TempDir;

use crate::Embedded;

/// A folder with a state file.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("state.db")
    }

    async fn open(&self) -> Embedded {
        crate::open(&self.path(), &Limits { lane_depth_batches_max: 2, ..Limits::default() }).await.unwrap()
    }

    async fn backplane(&self) -> Backplane {
        self.open().await.backplane()
    }
}

fn pipeline() -> PipelineId {
    PipelineId::new("p")
}

fn lane() -> Lane {
    Lane { pipeline: pipeline(), index: 0 }
}

fn fence(id: u64) -> Envelope {
    Envelope { lane: lane(), message: Message::Fence(FenceId { epoch: 1, number: id }) }
}

fn key(id: i64) -> Key {
    Key::encode(&[Value::I64(id)]).unwrap()
}

fn mark(position: u64) -> Mark {
    Mark::present(Version::scan(1, position), Fingerprint(position.into()))
}
