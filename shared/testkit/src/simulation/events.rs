use std::time::Duration;

use fides_core::port::Expect;
use fides_core::{Change, Fault, Op, Origin, Version, fingerprint};
use fides_engine::{Pipeline, current_epoch, publish};
use tokio::time::sleep;

use super::planted::Planted;
use super::world::World;
use crate::fake::{FakeHost, FakeMapper, raw_row};

/// The committed position of the host's log.
const POSITION: &str = "events/sim";

/// Follows the host's log: publish, then commit the position (L3). Starts again after every fault.
pub(super) async fn follow(world: &World, pipeline: &Pipeline) {
    loop {
        // A fault is the weather's; what was not committed is published again.
        let _again = follow_once(world, pipeline).await;
        sleep(Duration::from_millis(10)).await;
    }
}

async fn follow_once(world: &World, pipeline: &Pipeline) -> Result<(), Fault> {
    let state = &*pipeline.backplane.state;
    let stored = state.get(POSITION).await?;
    let from = stored.and_then(|entry| entry.value.try_into().ok()).map_or(0, u64::from_be_bytes);
    world.followed_to.set(from);
    let epoch = current_epoch(pipeline).await?;
    for commit in world.host.log_from(from) {
        let mut changes = Vec::new();
        for logged in &commit.changes {
            // Planted: two changes of one row in one transaction share a version.
            let sequence = if world.plan.planted == Some(Planted::SequenceIgnored) { 1 } else { logged.sequence };
            let version = Version { epoch, position: commit.position, sequence };
            changes.push(change(pipeline, logged.key, logged.value, version)?);
        }
        publish(pipeline, pipeline.shape(), Origin::Event, changes).await?;
        state.put(POSITION, &commit.position.to_be_bytes(), Expect::Any).await?;
        world.followed_to.set(commit.position);
    }
    Ok(())
}

fn change(pipeline: &Pipeline, id: i64, value: Option<i64>, version: Version) -> Result<Change, Fault> {
    let key = FakeHost::key(id);
    let Some(v) = value else {
        return Ok(Change { key, version, fingerprint: None, op: Op::Delete, forced: false });
    };
    let row = raw_row(&pipeline.selection, id, v)?;
    let op = FakeMapper::new(1).document(id, v).map_or(Op::Delete, |document| Op::Upsert(document.into()));
    Ok(Change { key, version, fingerprint: Some(fingerprint(&row, pipeline.selection.seed)), op, forced: false })
}
