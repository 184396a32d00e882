//! How long a run that is to end by itself waits for a host or a target that went away, before it gives up.

use std::time::Duration;

use fides_core::decide::backoff_ms_max;
use fides_core::{Fault, FaultKind};
use fides_engine::import::{self, Mode, Report};
use fides_engine::publishing::Worker;
use fides_engine::{Pipeline, Progress};
use tokio::time::Instant;

/// A lane may try in vain, and a host may stay away, for this long.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the lanes are looked at.
const WATCH: Duration = Duration::from_millis(250);

/// Resolves when a lane has tried in vain for too long.
pub(crate) async fn for_lanes(progress: &Progress) -> Fault {
    loop {
        tokio::time::sleep(WATCH).await;
        if let Some((_, reason)) = progress.stuck().filter(|(lasted, _)| *lasted >= PATIENCE) {
            return Fault::unavailable(reason).advise("nothing is lost: run it again when the cause is mended");
        }
    }
}

/// Imports. A host that goes away in the middle is waited for, and the run is resumed. One that is not there at the
/// beginning, or goes away again before a page was read, is told at once: it may be the wrong address.
pub(crate) async fn import(pipeline: &Pipeline, mode: Mode, worker: &Worker) -> Result<Report, Fault> {
    let progress = &*worker.progress;
    let mut read_before = 0;
    loop {
        let fault = match import::import(pipeline, mode, worker).await {
            Ok(report) => return Ok(report),
            Err(fault) => fault,
        };
        let read = Progress::get(&progress.read);
        if !progress.take_host_failed() || read == read_before || !may_pass(&fault) {
            return Err(fault);
        }
        read_before = read;
        tracing::warn!(pipeline = %pipeline.id, %fault, "import stopped; it is resumed when its host answers");
        progress.enter("waiting for the host");
        host_answers(pipeline).await?;
    }
}

fn may_pass(fault: &Fault) -> bool {
    match fault.kind {
        FaultKind::Transient | FaultKind::Throttled { .. } | FaultKind::Unavailable => true,
        FaultKind::Deferred | FaultKind::Permanent => false,
    }
}

/// Waits until the host answers; its last fault when it does not for too long.
async fn host_answers(pipeline: &Pipeline) -> Result<(), Fault> {
    let since = Instant::now();
    let mut failures = 0;
    loop {
        let Err(fault) = pipeline.host.lineage().await else { return Ok(()) };
        failures += 1;
        if since.elapsed() >= PATIENCE || !may_pass(&fault) {
            return Err(fault.advise("nothing is lost: run it again when the host answers"));
        }
        let wait_ms = fastrand::u64(1..=backoff_ms_max(failures, &pipeline.limits).max(1));
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lane that can be owned and cannot write, beside one that works: every two seconds, for so many.
    async fn in_vain(progress: &Progress, seconds: u64, works_at: Option<u64>) -> bool {
        let lanes = async {
            for second in (0..seconds).step_by(2) {
                progress.pause(0, String::from("lane items/0 waits: refused"));
                tokio::time::sleep(Duration::from_secs(1)).await;
                progress.retry(0);
                progress.resume(1);
                tokio::time::sleep(Duration::from_secs(1)).await;
                if works_at == Some(second) {
                    progress.resume(0);
                }
            }
        };
        tokio::select! {
            biased;
            fault = for_lanes(progress) => {
                assert!(fault.to_string().contains("items/0") && fault.to_string().contains("nothing is lost"), "{fault}");
                true
            }
            () = lanes => false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_for_a_lane_that_is_tried_again_and_again() {
        assert!(in_vain(&Progress::default(), 40, None).await);
        assert!(!in_vain(&Progress::default(), 28, None).await, "within its patience");
        assert!(!in_vain(&Progress::default(), 40, Some(20)).await, "it worked in between");
    }
}
