//! Verification by schedule: drift that nobody looks for is an alert.

use std::sync::Arc;

use fides_core::Fault;
use fides_core::port::Expect;
use serde::{Deserialize, Serialize};

use super::{VerifyReport, verify};
use crate::lease::Held;
use crate::publishing::Worker;
use crate::{Pipeline, Progress, persisted};

/// Keys that are named where drift is told.
const NAMED_MAX: usize = 10;

/// What the latest scheduled verification of a pipeline found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// The instant for which it was due, in milliseconds since 1970.
    pub due_ms: u64,
    /// When it came to its end.
    pub ended_ms: u64,
    /// Documents that are what the mapping makes of the host's record.
    pub equal: u64,
    /// Keys on which the sides disagree.
    pub differing: u64,
    /// Of those, the ones that Fides does not know of: see [`VerifyReport::drifted`].
    pub drifted: u64,
    /// Some of the keys that drifted.
    pub keys: Vec<String>,
}

fn key(pipeline: &Pipeline) -> String {
    format!("verified/{}", pipeline.id)
}

/// What the latest scheduled verification found.
pub async fn last_verified(pipeline: &Pipeline) -> Result<Option<Verified>, Fault> {
    let latest = persisted::load::<Verified>(&*pipeline.backplane.state, &key(pipeline)).await?;
    Ok(latest.map(|(latest, _)| latest))
}

/// Compares both sides because `due_ms` has come, remembers the result and tells of drift. `None` while another process
/// is at it.
pub async fn verify_due(pipeline: &Pipeline, worker: &Worker, due_ms: u64) -> Result<Option<Verified>, Fault> {
    let state = &*pipeline.backplane.state;
    let lease = format!("verify-lease/{}", pipeline.id);
    let Some(lease) = Held::take(state, lease, &worker.holder, pipeline.limits.lease_ms).await? else {
        return Ok(None);
    };
    let compare = async {
        worker.progress.enter("comparing both sides");
        // Counted apart: what a comparison reads is no import.
        let report = verify(pipeline, &Arc::default()).await?;
        let verified = told(pipeline, &report, due_ms, state.now_ms().await?);
        Progress::add(&worker.progress.verified, usize::try_from(report.host_records).unwrap_or(usize::MAX));
        Progress::add(&worker.progress.drifted, usize::try_from(verified.drifted).unwrap_or(usize::MAX));
        persisted::store(state, &key(pipeline), &verified, Expect::Any).await?;
        worker.progress.enter("waiting for the schedule");
        Ok(verified)
    };
    let verified = lease.during(compare).await?;
    lease.release().await;
    Ok(Some(verified))
}

fn told(pipeline: &Pipeline, report: &VerifyReport, due_ms: u64, ended_ms: u64) -> Verified {
    let drifted = report.differences.iter().filter(|difference| !difference.known);
    let keys: Vec<String> = drifted.take(NAMED_MAX).map(|difference| difference.key.clone()).collect();
    let verified = Verified {
        due_ms,
        ended_ms,
        equal: report.equal,
        differing: report.differing(),
        drifted: report.drifted(),
        keys,
    };
    if verified.drifted > 0 {
        tracing::error!(pipeline = %pipeline.id, drifted = verified.drifted, differing = verified.differing,
            keys = verified.keys.join(", "),
            "the target differs from the host, and no import will mend it: run `fides verify --repair`");
    } else {
        tracing::info!(pipeline = %pipeline.id, equal = verified.equal, differing = verified.differing,
            "both sides compared");
    }
    verified
}
