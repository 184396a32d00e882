use fides_core::Fault;
use serde::Serialize;

use super::{Verified, last_verified};
use crate::admin::{self, Paused, Refusal};
use crate::cleanup::{self, Cleaned};
use crate::import::{Mode, latest};
use crate::{Counts, Pipeline, SweepReport};

/// Where a pipeline stands.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Its name.
    pub pipeline: String,
    /// Its latest run.
    pub run: Option<RunStatus>,
    /// Its lanes.
    pub lanes: Vec<LaneStatus>,
    /// Records that the target may hold.
    pub records: u64,
    /// Bytes of their marks.
    pub mark_bytes: u64,
    /// Dead letters.
    pub dead: u64,
    /// Who has paused it.
    pub paused: Option<Paused>,
    /// Deletions that were refused, until a clean-up is not. An alert.
    pub refused: Option<Refusal>,
    /// Its latest clean-up that came to its end.
    pub cleaned: Option<Cleaned>,
    /// What its latest scheduled verification found.
    pub verified: Option<Verified>,
}

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct RunStatus {
    /// Its name.
    pub id: String,
    /// What it sends.
    pub mode: Mode,
    /// When it began, in milliseconds since 1970.
    pub started_ms: u64,
    /// When everything it sends was in the queue.
    pub ended_ms: Option<u64>,
    /// How often it was resumed.
    pub resumed: u32,
    /// What it did.
    pub counts: Counts,
    /// What became of what it did not meet.
    pub sweep: Option<SweepReport>,
    /// Who ended it early.
    pub cancelled: Option<String>,
}

/// A lane.
#[derive(Clone, Debug, Serialize)]
pub struct LaneStatus {
    /// Which one.
    pub lane: u16,
    /// Messages waiting.
    pub depth: u64,
}

/// Reads a pipeline's state.
pub async fn status(pipeline: &Pipeline) -> Result<Status, Fault> {
    let run = latest(pipeline).await?.map(|run| RunStatus {
        id: run.id,
        mode: run.mode,
        started_ms: run.started_ms,
        ended_ms: run.ended_ms,
        resumed: run.resumed,
        counts: run.counts,
        sweep: run.sweep,
        cancelled: run.cancelled,
    });
    let mut lanes = Vec::new();
    for lane in pipeline.lanes() {
        lanes.push(LaneStatus { lane: lane.index, depth: pipeline.backplane.queue.depth(&lane).await? });
    }
    let (records, mark_bytes) = pipeline.backplane.hashes.size(&pipeline.id).await?;
    let dead = pipeline.backplane.dead.count(&pipeline.id).await?;
    let (paused, refused) = (admin::paused(pipeline).await?, admin::refusal(pipeline).await?);
    let (cleaned, verified) = (cleanup::latest(pipeline).await?, last_verified(pipeline).await?);
    let pipeline = pipeline.id.to_string();
    Ok(Status { pipeline, run, lanes, records, mark_bytes, dead, paused, refused, cleaned, verified })
}
