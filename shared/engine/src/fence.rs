//! Fences (L7): one marker message per lane. When every lane has settled its marker, everything that was confirmed
//! before the fence is settled. Markers are numbered, and a lane remembers the latest that came.

use std::time::Duration;

use fides_core::port::Expect;
use fides_core::{Envelope, Fault, FenceId, Lane, Message};

use tokio::time::Instant;

use crate::{Pipeline, epoch, follow, persisted};

/// How often an unsettled fence is looked at: first, and at most.
const POLL_MS: (u64, u64) = (2, 200);
/// A lane is asked whether its marker is lost: after this time, and after twice the time, and so on.
const ASK_AFTER: Duration = Duration::from_secs(10);
const ASK_AFTER_MAX: Duration = Duration::from_mins(10);
/// More markers than anybody waits for at the same time.
const PASSED_MAX: usize = 256;

/// The latest markers that a lane has settled everything before.
fn key(lane: &Lane) -> String {
    format!("fences/{}/{:05}", lane.pipeline, lane.index)
}

/// Publishes a marker to every lane, behind everything confirmed so far.
pub async fn raise(pipeline: &Pipeline) -> Result<FenceId, Fault> {
    mark(pipeline, pipeline.lanes()).await
}

/// A new marker, behind everything confirmed so far: its number is drawn, and then it is published.
async fn mark(pipeline: &Pipeline, lanes: Vec<Lane>) -> Result<FenceId, Fault> {
    let epoch = epoch::current(pipeline).await?;
    let fence = FenceId { epoch, number: pipeline.backplane.state.next_position(&pipeline.id).await? };
    let envelopes: Vec<Envelope> =
        lanes.into_iter().map(|lane| Envelope { lane, message: Message::Fence(fence) }).collect();
    pipeline.backplane.queue.publish(&envelopes).await?;
    Ok(fence)
}

/// Records that a lane has settled everything before a marker; before the marker itself is settled.
pub(crate) async fn pass(pipeline: &Pipeline, lane: &Lane, fence: FenceId) -> Result<(), Fault> {
    let (state, key) = (&*pipeline.backplane.state, key(lane));
    let found = persisted::load::<Vec<FenceId>>(state, &key).await?;
    // Compared and set: a displaced consumer that is late must not forget what another one has recorded.
    let (mut passed, expect) =
        found.map_or((Vec::new(), Expect::Absent), |(passed, revision)| (passed, Expect::Revision(revision)));
    if passed.contains(&fence) {
        return Ok(());
    }
    passed.push(fence);
    passed.drain(..passed.len().saturating_sub(PASSED_MAX));
    persisted::store(state, &key, &passed, expect).await?.ok_or_else(|| persisted::lost_race(&key))?;
    Ok(())
}

async fn passed(pipeline: &Pipeline, lane: &Lane) -> Result<Vec<FenceId>, Fault> {
    let found = persisted::load(&*pipeline.backplane.state, &key(lane)).await?;
    Ok(found.map(|(passed, _)| passed).unwrap_or_default())
}

/// Waits until every lane has settled its marker: for as long as a target is down. Where a broker lost markers together with
/// its queues, an import is owed; in how many lanes. Cancel-safe.
pub async fn wait_settled(pipeline: &Pipeline, fence: FenceId) -> Result<u64, Fault> {
    let mut wait_ms = POLL_MS.0;
    let mut asking = Asking::new();
    let (mut open, mut lost) = (pipeline.lanes(), 0);
    loop {
        let mut still = Vec::new();
        for lane in open {
            let passed = passed(pipeline, &lane).await?;
            if passed.contains(&fence) {
                continue;
            }
            if passed.iter().any(|passed| asking.probes.contains(passed)) {
                owe(pipeline, &lane, fence).await?;
                lost += 1;
                continue;
            }
            still.push(lane);
        }
        if still.is_empty() {
            return Ok(lost);
        }
        open = still;
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        wait_ms = (wait_ms * 2).min(POLL_MS.1);
        asking.ask(pipeline, &open).await?;
    }
}

/// Whether a marker is lost. Nobody sees from here what waits in a lane, and what its consumer has in hand, for as long as the
/// target takes. A probe tells: a lane settles what it gets in order, so that one that settles a later marker does not have the
/// earlier one any more.
struct Asking {
    probes: Vec<FenceId>,
    after: Duration,
    due: Instant,
}

impl Asking {
    fn new() -> Self {
        Self { probes: Vec::new(), after: ASK_AFTER, due: Instant::now() + ASK_AFTER }
    }

    /// Sends a probe behind the marker, when it is time to.
    async fn ask(&mut self, pipeline: &Pipeline, open: &[Lane]) -> Result<(), Fault> {
        if Instant::now() < self.due {
            return Ok(());
        }
        tracing::debug!(pipeline = %pipeline.id, lanes = open.len(), "lanes are asked for their markers");
        self.probes.push(mark(pipeline, open.to_vec()).await?);
        self.after = (self.after * 2).min(ASK_AFTER_MAX);
        self.due = Instant::now() + self.after;
        Ok(())
    }
}

/// What was queued with a marker that is lost may be lost, too.
async fn owe(pipeline: &Pipeline, lane: &Lane, fence: FenceId) -> Result<(), Fault> {
    tracing::warn!(pipeline = %pipeline.id, %lane,
        "a lane has lost a marker: whatever was queued with it may be lost, too, an import is due");
    follow::owe(pipeline).await?;
    // What was written and not marked yet when its delivery was lost is marked by nobody now.
    epoch::doubt_marks(pipeline, fence.epoch).await
}
