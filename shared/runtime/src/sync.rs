//! Running pipelines: once, or for good.

use std::sync::Arc;
use std::time::Duration;

use fides_core::{Fault, PipelineId};
use fides_engine::import::{Mode, Report, import};
use fides_engine::publishing::consume_lanes;
use fides_engine::{Pipeline, Progress, establish, raise_fence, wait_for_fence};
use futures::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::patience;
use crate::schedule::Schedules;

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
    let work = async {
        let report = patience::import(pipeline, mode, &progress).await?;
        progress.enter("writing what is queued");
        let fence = raise_fence(pipeline).await?;
        wait_for_fence(pipeline, fence).await?;
        progress.enter("done");
        Ok(report)
    };
    let report = beside_consumers(pipeline, &progress, stop, work).await;
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
    let progress = Arc::new(Progress::default());
    let work = async {
        let fence = raise_fence(pipeline).await?;
        wait_for_fence(pipeline, fence).await
    };
    beside_consumers(pipeline, &progress, &stop, work).await
}

/// Does `work` while the pipeline's lanes are consumed. Ends early when `stop` is asked for, and when a lane cannot go on
/// for too long: what is queued stays queued.
async fn beside_consumers<T>(
    pipeline: &Pipeline,
    progress: &Arc<Progress>,
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    establish(pipeline).await?;
    let done = stop.child_token();
    let holder = holder();
    let consumers = tokio::spawn({
        let (pipeline, progress, done) = (pipeline.clone(), progress.clone(), done.clone());
        async move { consume_lanes(&pipeline, &progress, &holder, &done).await }
    });
    let result = tokio::select! {
        result = work => result,
        fault = patience::for_lanes(progress) => Err(fault),
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

/// Runs every pipeline until `stop`: lanes are consumed, imports run at the start and by schedule.
pub async fn serve(app: &App, mut watch: impl FnMut(Watched), stop: CancellationToken) -> Result<(), Fault> {
    let schedules = Schedules::start(app).await?;
    let runs = app.pipelines.iter().map(|pipeline| {
        let progress = Arc::new(Progress::default());
        watch(Watched { pipeline: pipeline.id.clone(), progress: progress.clone() });
        keep_in_step(pipeline, progress, &schedules, &stop)
    });
    let results = join_all(runs.collect::<Vec<_>>()).await;
    schedules.shutdown().await;
    results.into_iter().collect()
}

async fn keep_in_step(
    pipeline: &Pipeline,
    progress: Arc<Progress>,
    schedules: &Schedules,
    stop: &CancellationToken,
) -> Result<(), Fault> {
    while !stop.is_cancelled() {
        match establish(pipeline).await {
            Ok(_) => break,
            Err(fault) => wait_after(pipeline, &progress, &fault, stop).await,
        }
    }
    let holder = holder();
    let imports = async {
        // A schedule that was missed while nothing ran is made up for by this first run.
        loop {
            match import(pipeline, Mode::Delta, &progress).await {
                Ok(report) => {
                    tracing::info!(pipeline = %pipeline.id, run = report.run, read = report.counts.read,
                        published = report.counts.published, "import finished");
                    progress.enter("waiting for the schedule");
                    schedules.due(&pipeline.id).await;
                }
                Err(fault) => wait_after(pipeline, &progress, &fault, stop).await,
            }
        }
    };
    tokio::select! {
        () = consume_lanes(pipeline, &progress, &holder, stop) => Ok(()),
        never = imports => never,
    }
}

async fn wait_after(pipeline: &Pipeline, progress: &Progress, fault: &Fault, stop: &CancellationToken) {
    tracing::error!(pipeline = %pipeline.id, %fault, "import stopped; it will be resumed");
    progress.enter("waiting after a fault");
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(pipeline.limits.retry_cap_ms)) => {}
        () = stop.cancelled() => {}
    }
}

/// Names this process as the owner of lanes: new with every start.
fn holder() -> String {
    format!("{}-{:x}", std::process::id(), fastrand::u64(..))
}
