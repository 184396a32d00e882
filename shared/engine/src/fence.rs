//! Fences (L7): one marker message per lane. When every lane has settled its marker, everything that was confirmed
//! before the fence is settled. Markers are numbered, so that a lane needs to remember only the latest.

use std::time::Duration;

use fides_core::port::Expect;
use fides_core::{Envelope, Fault, FenceId, Lane, Message};

use crate::{Pipeline, epoch, persisted};

/// How often an unsettled fence is looked at: first, and at most.
const POLL_MS: (u64, u64) = (2, 200);

fn key(lane: &Lane) -> String {
    format!("fence/{}/{:05}", lane.pipeline, lane.index)
}

/// Publishes a marker to every lane, behind everything confirmed so far.
pub async fn raise(pipeline: &Pipeline) -> Result<FenceId, Fault> {
    let epoch = epoch::current(pipeline).await?;
    let fence = FenceId { epoch, number: pipeline.backplane.state.next_position(&pipeline.id).await? };
    let envelopes: Vec<Envelope> =
        pipeline.lanes().into_iter().map(|lane| Envelope { lane, message: Message::Fence(fence) }).collect();
    pipeline.backplane.queue.publish(&envelopes).await?;
    Ok(fence)
}

/// Records that a lane has settled everything before a marker; before the marker itself is settled.
pub(crate) async fn pass(pipeline: &Pipeline, lane: &Lane, fence: FenceId) -> Result<(), Fault> {
    let state = &*pipeline.backplane.state;
    let passed = persisted::load::<FenceId>(state, &key(lane)).await?;
    if passed.is_none_or(|(passed, _)| passed < fence) {
        persisted::store(state, &key(lane), &fence, Expect::Any).await?;
    }
    Ok(())
}

/// Whether every lane has settled its marker.
pub async fn settled(pipeline: &Pipeline, fence: FenceId) -> Result<bool, Fault> {
    for lane in pipeline.lanes() {
        let passed = persisted::load::<FenceId>(&*pipeline.backplane.state, &key(&lane)).await?;
        if passed.is_none_or(|(passed, _)| passed < fence) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Waits until every lane has settled its marker: for as long as a target is down. Cancel-safe.
pub async fn wait_settled(pipeline: &Pipeline, fence: FenceId) -> Result<(), Fault> {
    let mut wait_ms = POLL_MS.0;
    while !settled(pipeline, fence).await? {
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        wait_ms = (wait_ms * 2).min(POLL_MS.1);
    }
    Ok(())
}
