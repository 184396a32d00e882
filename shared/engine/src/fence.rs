//! Fences (L7): one marker message per lane. When every lane has settled its marker, everything that was confirmed
//! before the fence is settled. Markers are numbered, so that a lane needs to remember only the latest.

use std::time::Duration;

use fides_core::port::Expect;
use fides_core::{Envelope, Fault, FenceId, Lane, Message};

use tokio::time::Instant;

use crate::{Pipeline, epoch, follow, persisted};

/// How often an unsettled fence is looked at: first, and at most.
const POLL_MS: (u64, u64) = (2, 200);
/// A lane that is seen empty twice, this long apart at least, has nothing in hand either.
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
/// with its queues are published again, and an import is owed; how many are. Cancel-safe.
pub async fn wait_settled(pipeline: &Pipeline, fence: FenceId) -> Result<u64, Fault> {
    // A consumer has its deliveries in hand for as long as a write may take.
    let lost_after = LOST_AFTER.max(Duration::from_millis(pipeline.limits.write_timeout_ms_max));
    let mut wait_ms = POLL_MS.0;
    let mut look = Instant::now() + lost_after;
    let (mut empty, mut owed) = (Vec::new(), 0);
    while !settled(pipeline, fence).await? {
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        wait_ms = (wait_ms * 2).min(POLL_MS.1);
        if Instant::now() >= look {
            let before = std::mem::replace(&mut empty, empty_lanes(pipeline, fence).await?);
            let lost: Vec<Lane> = empty.iter().filter(|lane| before.contains(lane)).cloned().collect();
            if !lost.is_empty() {
                mark_again(pipeline, fence, lost).await?;
                (owed, empty) = (owed + 1, Vec::new());
            }
            look = Instant::now() + lost_after;
        }
    }
    Ok(owed)
}

/// Lanes that have not settled their marker and hold nothing: it is lost, or in the hands of a consumer.
async fn empty_lanes(pipeline: &Pipeline, fence: FenceId) -> Result<Vec<Lane>, Fault> {
    let mut empty = Vec::new();
    for lane in pipeline.lanes() {
        if !lane_settled(pipeline, &lane, fence).await? && pipeline.backplane.queue.depth(&lane).await? == 0 {
            empty.push(lane);
        }
    }
    Ok(empty)
}

/// Publishes the markers of `fence` again; a second one is harmless.
async fn mark_again(pipeline: &Pipeline, fence: FenceId, lanes: Vec<Lane>) -> Result<(), Fault> {
    tracing::warn!(pipeline = %pipeline.id, lanes = lanes.len(),
        "lanes are empty and have not settled their markers: whatever was queued with them may be lost, an import is due");
    follow::owe(pipeline).await?;
    // What was written and not marked yet when its delivery was lost is marked by nobody now.
    epoch::doubt_marks(pipeline, fence.epoch).await?;
    let again: Vec<Envelope> =
        lanes.into_iter().map(|lane| Envelope { lane, message: Message::Fence(fence) }).collect();
    pipeline.backplane.queue.publish(&again).await
}
