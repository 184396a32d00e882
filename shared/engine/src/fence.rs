//! Fences (L7): one marker message per lane. When every lane has settled its marker, everything that was confirmed
//! before the fence is settled. Markers are numbered, so that a lane needs to remember only the latest.

use std::time::Duration;

use fides_core::port::Expect;
use fides_core::{Envelope, Fault, FenceId, Lane, Message};

use tokio::time::Instant;

use crate::{Pipeline, epoch, follow, persisted};

/// How often an unsettled fence is looked at: first, and at most.
const POLL_MS: (u64, u64) = (2, 200);
/// A marker that is not settled by then may be lost.
const LOST_AFTER: Duration = Duration::from_secs(5);

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
    let expect = match passed {
        Some((passed, _)) if passed >= fence => return Ok(()),
        // Compared and set: a displaced consumer that is late must not take a newer fence back.
        Some((_, revision)) => Expect::Revision(revision),
        None => Expect::Absent,
    };
    let key = key(lane);
    persisted::store(state, &key, &fence, expect).await?.ok_or_else(|| persisted::lost_race(&key))?;
    Ok(())
}

/// Whether every lane has settled its marker.
pub async fn settled(pipeline: &Pipeline, fence: FenceId) -> Result<bool, Fault> {
    for lane in pipeline.lanes() {
        if !lane_settled(pipeline, &lane, fence).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn lane_settled(pipeline: &Pipeline, lane: &Lane, fence: FenceId) -> Result<bool, Fault> {
    let passed = persisted::load::<FenceId>(&*pipeline.backplane.state, &key(lane)).await?;
    Ok(passed.is_some_and(|(passed, _)| passed >= fence))
}

/// Waits until every lane has settled its marker: for as long as a target is down. Markers that a broker lost together
/// with its queues are published again. Cancel-safe.
pub async fn wait_settled(pipeline: &Pipeline, fence: FenceId) -> Result<(), Fault> {
    let mut wait_ms = POLL_MS.0;
    let mut look = Instant::now() + LOST_AFTER;
    while !settled(pipeline, fence).await? {
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        wait_ms = (wait_ms * 2).min(POLL_MS.1);
        if Instant::now() >= look {
            mark_again(pipeline, fence).await?;
            look = Instant::now() + LOST_AFTER;
        }
    }
    Ok(())
}

/// Publishes the markers of `fence` again to lanes that have not settled theirs and hold nothing: it is lost, or is in the
/// hands of a consumer, to which a second one is harmless.
async fn mark_again(pipeline: &Pipeline, fence: FenceId) -> Result<(), Fault> {
    let mut again = Vec::new();
    for lane in pipeline.lanes() {
        if !lane_settled(pipeline, &lane, fence).await? && pipeline.backplane.queue.depth(&lane).await? == 0 {
            again.push(Envelope { lane, message: Message::Fence(fence) });
        }
    }
    if again.is_empty() {
        return Ok(());
    }
    tracing::warn!(pipeline = %pipeline.id, lanes = again.len(),
        "lanes are empty and have not settled their markers: whatever was queued with them may be lost, an import is due");
    follow::owe(pipeline).await?;
    pipeline.backplane.queue.publish(&again).await
}
