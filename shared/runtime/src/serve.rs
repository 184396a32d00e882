//! Running pipelines for good, in one process or shared out over many.

use std::sync::Arc;
use std::time::Duration;

use fides_core::Fault;
use fides_engine::admin::{self, Office};
use fides_engine::import::{Lead, Mode, assist, demanded, last};
use fides_engine::inspect::{last_verified, verify_due};
use fides_engine::publishing::{Worker, consume_lanes};
use fides_engine::{
    Offers, Pipeline, Progress, clean_up, establish, follow, last_cleanup_due_ms, take_hints, unfinished_cleanup_due_ms,
};
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::desk::keep_desk;
use crate::intake::Intake;
use crate::schedule::{Schedules, Task};
use crate::sync::{Watched, worker};

/// Looks at what others do this often in the life of a lease.
const LOOKS_PER_LEASE: u64 = 8;

/// What a process does for the pipelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads hosts by schedule and publishes what changed, and answers commands.
    Importer,
    /// Consumes lanes and writes targets.
    PublishingConsumer,
    /// Searches targets for what hosts no longer have, and compares both sides, by schedule and when it is asked to.
    CleanupScheduler,
    /// Follows the logs of hosts, receives their events, and publishes what they tell.
    EventHandler,
}

impl Role {
    /// Every role: what a single process needs.
    pub const ALL: [Role; 4] = [Role::Importer, Role::PublishingConsumer, Role::CleanupScheduler, Role::EventHandler];
}

/// Plays `roles` for every pipeline until `stop`, and returns when what was in hand is finished. Faults of hosts,
/// targets and backplane do not end it: it waits and goes on.
pub async fn serve(
    app: &App,
    roles: &[Role],
    mut watch: impl FnMut(Watched),
    stop: CancellationToken,
) -> Result<(), Fault> {
    // First: an address that is taken ends the process before anything has begun.
    let mut intake = if roles.contains(&Role::EventHandler) { Intake::open(app)? } else { Intake::default() };
    let schedules = Schedules::start(app).await?;
    let runs = app.pipelines.iter().map(|pipeline| {
        let progress = Arc::new(Progress::default());
        watch(Watched { pipeline: pipeline.id.clone(), progress: progress.clone() });
        let followed = app.followed.contains(&pipeline.id);
        let told = Told { followed, offers: intake.offers(&pipeline.id) };
        keep_in_step(pipeline, roles, worker(progress), &schedules, told, &stop)
    });
    let runs: Vec<_> = runs.collect();
    let desk = async {
        if roles.contains(&Role::Importer) {
            stop.run_until_cancelled(keep_desk(app)).await;
        }
    };
    let (_, (), received) = futures::join!(join_all(runs), desk, intake.receive(&stop));
    schedules.shutdown().await;
    received
}

/// What tells a process of a pipeline's changes.
struct Told {
    /// The host's log.
    followed: bool,
    /// Events.
    offers: Option<Offers>,
}

async fn keep_in_step(
    pipeline: &Pipeline,
    roles: &[Role],
    worker: Worker,
    schedules: &Schedules,
    told: Told,
    stop: &CancellationToken,
) {
    while !stop.is_cancelled() {
        match establish(pipeline).await {
            Ok(_) => break,
            Err(fault) => wait_after(pipeline, &worker, &fault, stop).await,
        }
    }
    let consumers = async {
        if roles.contains(&Role::PublishingConsumer) {
            consume_lanes(pipeline, &worker, stop).await;
        }
    };
    let imports = async {
        if roles.contains(&Role::Importer) {
            keep_importing(pipeline, &worker, schedules, stop).await;
        }
    };
    let clean_ups = async {
        if roles.contains(&Role::CleanupScheduler) && schedules.has(&pipeline.id, Task::CleanUp) {
            keep_clean(pipeline, &worker, schedules, stop).await;
        }
    };
    let verifications = async {
        if roles.contains(&Role::CleanupScheduler) && schedules.has(&pipeline.id, Task::Verify) {
            keep_verified(pipeline, &worker, schedules, stop).await;
        }
    };
    let follows = async {
        if told.followed && roles.contains(&Role::EventHandler) {
            keep_following(pipeline, &worker, stop).await;
        }
    };
    let hints = async {
        if let Some(offers) = told.offers {
            take_hints(pipeline, &worker, offers, stop).await;
        }
    };
    let sends = async {
        if roles.contains(&Role::Importer) {
            admin::carry_out(pipeline, &worker, Office::Sending, stop).await;
        }
    };
    let compares = async {
        if roles.contains(&Role::CleanupScheduler) {
            admin::carry_out(pipeline, &worker, Office::Comparing, stop).await;
        }
    };
    futures::join!(consumers, imports, clean_ups, verifications, follows, hints, sends, compares, stop.cancelled());
}

/// Imports whenever an import is due: leads it, or helps the process that does.
async fn keep_importing(pipeline: &Pipeline, worker: &Worker, schedules: &Schedules, stop: &CancellationToken) {
    let look = Duration::from_millis(pipeline.limits.lease_ms / LOOKS_PER_LEASE);
    // Without a schedule an import runs when this process starts, and then on demand.
    let mut begun = false;
    while !stop.is_cancelled() {
        let turn = async {
            worker.progress.enter("waiting for the schedule");
            let due = stop.run_until_cancelled(due(pipeline, schedules, begun)).await;
            let Some(due) = due.transpose()? else { return Ok(()) };
            begun = true;
            // Only now: an operator's own import must not wait for the schedule.
            if let Some(lead) = Lead::take(pipeline, worker).await? {
                let led = stop.run_until_cancelled(lead.during(Box::pin(lead_import(pipeline, &lead, due)))).await;
                lead.release().await;
                return led.unwrap_or(Ok(()));
            }
            worker.progress.enter("helping the import of another process");
            let help = async {
                assist(pipeline, worker).await?;
                tokio::time::sleep(look).await;
                Ok(())
            };
            stop.run_until_cancelled(help).await.unwrap_or(Ok(()))
        };
        if let Err(fault) = turn.await {
            wait_after(pipeline, worker, &fault, stop).await;
        }
    }
}

/// What made an import due.
#[derive(Clone, Copy, Debug)]
enum Due {
    /// An instant, in milliseconds since 1970: of the schedule, or, without one, when this process started.
    At(u64),
    /// None has come to its end yet.
    Unended,
    /// The marks cannot be trusted (L11), or a log forgot something.
    Demanded,
}

impl Due {
    /// Whether it still is, now that this process has the lead: another one may have been faster.
    async fn holds(self, pipeline: &Pipeline) -> Result<bool, Fault> {
        Ok(match self {
            Due::At(due_ms) => last(pipeline).await?.is_none_or(|last| !last.ended || last.due_ms < due_ms),
            Due::Unended => last(pipeline).await?.is_none_or(|last| !last.ended),
            Due::Demanded => demanded(pipeline).await?,
        })
    }

    fn at_ms(self) -> Option<u64> {
        match self {
            Due::At(due_ms) => Some(due_ms),
            Due::Unended | Due::Demanded => None,
        }
    }
}

/// Imports, unless another process has done it while this one waited for the lead.
async fn lead_import(pipeline: &Pipeline, lead: &Lead<'_>, due: Due) -> Result<(), Fault> {
    if !due.holds(pipeline).await? {
        return Ok(());
    }
    let report = lead.import(Mode::Delta, due.at_ms()).await?;
    tracing::info!(pipeline = %pipeline.id, run = report.run, read = report.counts.read,
        published = report.counts.published, "import finished");
    Ok(())
}

/// Waits until an import is due, and returns what made it so: at once when a run is unfinished, when there was none yet,
/// when the marks cannot be trusted (L11), or when the schedule was missed while nothing ran; such a missed import runs
/// once, however many instants were missed and however many processes noticed.
async fn due(pipeline: &Pipeline, schedules: &Schedules, begun: bool) -> Result<Due, Fault> {
    let look = Duration::from_millis(pipeline.limits.lease_ms / LOOKS_PER_LEASE);
    let scheduled = match last(pipeline).await? {
        Some(last) if last.ended && (begun || schedules.has(&pipeline.id, Task::Import)) => {
            schedules.after(&pipeline.id, Task::Import, last.due_ms)?
        }
        Some(last) if last.ended => return pipeline.backplane.state.now_ms().await.map(Due::At),
        _ => return Ok(Due::Unended),
    };
    if let Some(missed) = scheduled.filter(|scheduled| scheduled.is_past()) {
        return schedules.missed_ms(&pipeline.id, Task::Import, missed).map(Due::At);
    }
    let demanded = async {
        loop {
            tokio::time::sleep(look).await;
            if demanded(pipeline).await? {
                return Ok(Due::Demanded);
            }
        }
    };
    tokio::select! {
        due_ms = schedules.wait(scheduled) => due_ms.map(Due::At),
        due = demanded => due,
    }
}

/// Follows the host's log. What nobody but a person can mend is said again and again: imports go on meanwhile, and what the
/// log told in between is not lost, because the host keeps it.
async fn keep_following(pipeline: &Pipeline, worker: &Worker, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(fault) = follow(pipeline, worker, stop).await {
            wait_after(pipeline, worker, &fault, stop).await;
        }
    }
}

/// Cleans up whenever the schedule says so. One process does it; a missed clean-up is made up for once.
async fn keep_clean(pipeline: &Pipeline, worker: &Worker, schedules: &Schedules, stop: &CancellationToken) {
    let look = Duration::from_millis(pipeline.limits.lease_ms);
    while !stop.is_cancelled() {
        let turn = async {
            let due_ms = match unfinished_cleanup_due_ms(pipeline).await? {
                Some(due_ms) => due_ms,
                None => next_due(pipeline, schedules, Task::CleanUp, last_cleanup_due_ms(pipeline).await?).await?,
            };
            match clean_up(pipeline, worker, due_ms).await? {
                Some(report) => tracing::info!(pipeline = %pipeline.id, candidates = report.candidates,
                    deleted = report.deleted, foreign = report.foreign, refused = report.refused, "clean-up finished"),
                None => tokio::time::sleep(look).await,
            }
            Ok(())
        };
        let turned = tokio::select! {
            biased;
            turned = turn => turned,
            () = stop.cancelled() => Ok(()),
        };
        if let Err(fault) = turned {
            wait_after(pipeline, worker, &fault, stop).await;
        }
    }
}

/// Compares both sides whenever the schedule says so. One process does it; a missed comparison is made up for once.
async fn keep_verified(pipeline: &Pipeline, worker: &Worker, schedules: &Schedules, stop: &CancellationToken) {
    let look = Duration::from_millis(pipeline.limits.lease_ms);
    let last_due_ms = async || Ok::<_, Fault>(last_verified(pipeline).await?.map(|last| last.due_ms));
    while !stop.is_cancelled() {
        let turn = async {
            let due_ms = next_due(pipeline, schedules, Task::Verify, last_due_ms().await?).await?;
            // Another replica may have been faster.
            if last_due_ms().await?.is_some_and(|last_ms| last_ms >= due_ms) {
                return Ok(());
            }
            if verify_due(pipeline, worker, due_ms).await?.is_none() {
                tokio::time::sleep(look).await;
            }
            Ok(())
        };
        if let Err(fault) = stop.run_until_cancelled(turn).await.unwrap_or(Ok(())) {
            wait_after(pipeline, worker, &fault, stop).await;
        }
    }
}

/// Waits until a task is due that was last due at `last_ms`. One that was never done begins with the next instant, not
/// with one of the past; of several that were missed, one is made up for.
async fn next_due(pipeline: &Pipeline, schedules: &Schedules, task: Task, last_ms: Option<u64>) -> Result<u64, Fault> {
    let state = &*pipeline.backplane.state;
    let last_ms = match last_ms {
        Some(last_ms) => last_ms,
        None => state.now_ms().await?,
    };
    let scheduled = schedules.after(&pipeline.id, task, last_ms)?;
    match scheduled.filter(|scheduled| scheduled.is_past()) {
        Some(missed) => schedules.missed_ms(&pipeline.id, task, missed),
        None => schedules.wait(scheduled).await,
    }
}

async fn wait_after(pipeline: &Pipeline, worker: &Worker, fault: &Fault, stop: &CancellationToken) {
    tracing::error!(pipeline = %pipeline.id, %fault, "stopped by a fault; it goes on after a while");
    worker.progress.enter("waiting after a fault");
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(pipeline.limits.retry_cap_ms / 4)) => {}
        () = stop.cancelled() => {}
    }
}
