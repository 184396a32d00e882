//! Running pipelines once.

use std::sync::Arc;
use std::time::Duration;

use fides_core::{Fault, PipelineId};
use fides_engine::import::{Mode, Report, import};
use fides_engine::publishing::{Worker, consume_lanes};
use fides_engine::{Pipeline, Progress, establish, raise_fence, wait_for_fence};
use futures::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// `sync_once` gives up when a lane has tried in vain for this long.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often that is looked at.
const WATCH: Duration = Duration::from_millis(250);

/// A pipeline that is about to run, for whoever shows its progress.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Which one.
    pub pipeline: PipelineId,
    /// Its counters.
    pub progress: Arc<Progress>,
}

/// What one run of a pipeline came to.
#[derive(Debug)]
pub struct Outcome {
    /// Which one.
    pub pipeline: PipelineId,
    /// Its counters.
    pub progress: Arc<Progress>,
    /// The import's report once everything it sent is settled, or why it stopped. A later run continues.
    pub report: Result<Report, Fault>,
    /// Dead letters after the run.
    pub dead: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Runs every pipeline once, all at the same time: import, then publish until the run's fence has settled.
pub async fn sync_once(app: &App, mode: Mode, mut watch: impl FnMut(Watched), stop: CancellationToken) -> Vec<Outcome> {
    let runs = app.pipelines.iter().map(|pipeline| {
        let progress = Arc::new(Progress::default());
        watch(Watched { pipeline: pipeline.id.clone(), progress: progress.clone() });
        run_once(pipeline, mode, progress, &stop)
    });
    join_all(runs.collect::<Vec<_>>()).await
}

async fn run_once(pipeline: &Pipeline, mode: Mode, progress: Arc<Progress>, stop: &CancellationToken) -> Outcome {
    let started = Instant::now();
    let worker = worker(progress.clone());
    let work = async {
        let report = import(pipeline, mode, &worker).await?;
        progress.enter("writing what is queued");
        let fence = raise_fence(pipeline).await?;
        wait_for_fence(pipeline, fence).await?;
        progress.enter("done");
        Ok(report)
    };
    let report = beside_consumers(pipeline, &worker, stop, work).await;
    let (report, dead) = match (report, pipeline.backplane.dead.count(&pipeline.id).await) {
        (report, Ok(dead)) => (report, dead),
        (Ok(_), Err(fault)) => (Err(fault), 0),
        (report, Err(_)) => (report, 0),
    };
    Outcome { pipeline: pipeline.id.clone(), progress, report, dead, seconds: started.elapsed().as_secs_f64() }
}

/// Runs consumers until everything that is queued for a pipeline has settled.
pub async fn drain(app: &App, pipeline: &PipelineId, stop: CancellationToken) -> Result<(), Fault> {
    let pipeline =
        app.pipeline(pipeline.as_str()).ok_or_else(|| Fault::permanent(format!("there is no pipeline {pipeline}")))?;
    let worker = worker(Arc::default());
    let work = async {
        let fence = raise_fence(pipeline).await?;
        wait_for_fence(pipeline, fence).await
    };
    beside_consumers(pipeline, &worker, &stop, work).await
}

/// Does `work` while the pipeline's lanes are consumed. Ends early when `stop` is asked for, and when a lane cannot go on
/// for longer than [`PATIENCE`]: what is queued stays queued.
async fn beside_consumers<T>(
    pipeline: &Pipeline,
    worker: &Worker,
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    establish(pipeline).await?;
    let done = stop.child_token();
    let consumers = tokio::spawn({
        let (pipeline, worker, done) = (pipeline.clone(), worker.clone(), done.clone());
        async move { consume_lanes(&pipeline, &worker, &done).await }
    });
    let result = tokio::select! {
        result = work => result,
        fault = give_up(&worker.progress) => Err(fault),
        () = stop.cancelled() => {
            Err(Fault::unavailable("stopped before everything was written").advise("the next sync continues from here"))
        }
    };
    done.cancel();
    match consumers.await {
        Ok(()) => result,
        Err(error) => Err(Fault::permanent("a consumer failed unexpectedly").because(error)),
    }
}

/// Resolves when a lane has tried in vain for too long.
async fn give_up(progress: &Progress) -> Fault {
    loop {
        tokio::time::sleep(WATCH).await;
        if let Some((_, reason)) = progress.stuck().filter(|(lasted, _)| *lasted >= PATIENCE) {
            return Fault::unavailable(reason).advise("nothing is lost: run it again when the cause is mended");
        }
    }
}

/// A worker of this process: its name is new with every start.
pub(crate) fn worker(progress: Arc<Progress>) -> Worker {
    let holder = format!("{}-{:x}", std::process::id(), fastrand::u64(..)).into();
    Worker { holder, progress }
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
            fault = give_up(progress) => {
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
