//! Running pipelines once.

use std::sync::Arc;
use std::time::Duration;

use fides_core::{Fault, PipelineId};
use fides_engine::admin::paused;
use fides_engine::import::{Lead, Mode, Report};
use fides_engine::inspect::{self, RepairReport};
use fides_engine::publishing::{Worker, consume_lanes};
use fides_engine::{Pipeline, Progress, RebuildReport, establish, raise_fence, wait_for_fence};
use futures::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::desk::keep_desk;
use crate::patience;

/// Whoever waits for another process asks this often in the life of its lease.
const ASKS_PER_LEASE: u64 = 8;

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

/// Runs every pipeline once, all at the same time: import, then publish until the run's fence has settled. Commands are
/// answered meanwhile.
pub async fn sync_once(app: &App, mode: Mode, mut watch: impl FnMut(Watched), stop: CancellationToken) -> Vec<Outcome> {
    let runs = app.pipelines.iter().map(|pipeline| {
        let progress = Arc::new(Progress::default());
        watch(Watched { pipeline: pipeline.id.clone(), progress: progress.clone() });
        run_once(pipeline, mode, progress, &stop)
    });
    tokio::select! {
        outcomes = join_all(runs.collect::<Vec<_>>()) => outcomes,
        never = keep_desk(app) => match never {},
    }
}

async fn run_once(pipeline: &Pipeline, mode: Mode, progress: Arc<Progress>, stop: &CancellationToken) -> Outcome {
    let started = Instant::now();
    let worker = worker(progress.clone());
    let work = async {
        if let Some(paused) = paused(pipeline).await? {
            return Err(Fault::unavailable(paused.told(pipeline)));
        }
        let report = patience::import(pipeline, mode, &worker).await?;
        progress.enter("writing what is queued");
        let fence = raise_fence(pipeline).await?;
        let lost = wait_for_fence(pipeline, fence).await?;
        if lost > 0 {
            return Err(
                Fault::unavailable("the queue lost what was published").advise("run it again: it sends what was lost")
            );
        }
        progress.enter("done");
        Ok(report)
    };
    let report = Box::pin(beside_consumers(pipeline, &worker, stop, work)).await;
    let (report, dead) = match (report, pipeline.backplane.dead.count(&pipeline.id).await) {
        (report, Ok(dead)) => (report, dead),
        (Ok(_), Err(fault)) => (Err(fault), 0),
        (report, Err(_)) => (report, 0),
    };
    Outcome { pipeline: pipeline.id.clone(), progress, report, dead, seconds: started.elapsed().as_secs_f64() }
}

/// Runs consumers until everything that is queued for a pipeline has settled.
pub async fn drain(app: &App, pipeline: &PipelineId, stop: CancellationToken) -> Result<(), Fault> {
    let pipeline = of(app, pipeline)?;
    let worker = worker(Arc::default());
    let work = async {
        let fence = raise_fence(pipeline).await?;
        wait_for_fence(pipeline, fence).await.map(drop)
    };
    beside_consumers(pipeline, &worker, &stop, work).await
}

/// Mends what differs, with consumers of its own beside those of other processes. See [`inspect::repair`].
pub async fn repair(
    app: &App,
    pipeline: &PipelineId,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Result<RepairReport, Fault> {
    let (pipeline, worker) = (of(app, pipeline)?, worker(progress));
    beside_consumers(pipeline, &worker, &stop, Box::pin(inspect::repair(pipeline, &worker))).await
}

/// Rebuilds the marks of a pipeline from what both sides hold, waiting for whoever imports it. See [`Lead::rebuild`].
pub async fn rebuild(
    app: &App,
    pipeline: &PipelineId,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Result<RebuildReport, Fault> {
    let (pipeline, worker) = (of(app, pipeline)?, worker(progress));
    let work = async {
        let lead = loop {
            if let Some(lead) = Lead::take(pipeline, &worker).await? {
                break lead;
            }
            worker.progress.enter("waiting for the import of another process");
            tokio::time::sleep(Duration::from_millis(pipeline.limits.lease_ms / ASKS_PER_LEASE)).await;
        };
        let report = lead.during(lead.rebuild()).await;
        lead.release().await;
        report
    };
    beside_consumers(pipeline, &worker, &stop, work).await
}

fn of<'a>(app: &'a App, pipeline: &PipelineId) -> Result<&'a Pipeline, Fault> {
    app.pipeline(pipeline.as_str()).ok_or_else(|| Fault::permanent(format!("there is no pipeline {pipeline}")))
}

/// Does `work` while the pipeline's lanes are consumed. Ends early when `stop` is asked for, and when a lane cannot go on
/// for too long: what is queued stays queued.
pub(crate) async fn beside_consumers<T>(
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
        fault = patience::for_lanes(&worker.progress) => Err(fault),
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

/// A worker of this process: its name is new with every start.
pub(crate) fn worker(progress: Arc<Progress>) -> Worker {
    let holder = format!("{}-{:x}", std::process::id(), fastrand::u64(..)).into();
    Worker { holder, progress }
}
