use std::collections::HashMap;

use fides_core::PipelineId;
use fides_engine::Progress;
use fides_engine::import::Mode;
use fides_runtime::config::Config;
use fides_runtime::metrics::Metrics;
use fides_runtime::{Access, App, Outcome, Role, Watched};
use serde::Serialize;

use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::present::{self, Display, Table, number};
use crate::stop::Stop;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fides sync                                   import now and by schedule, until Ctrl-C
  fides sync --once                            all pipelines, once
  fides sync --once cities countries           only these
  fides sync --once --full cities              send every record, whatever its mark says
  fides sync --once --json | jq '.[] | {pipeline, published}'

Ctrl-C or SIGTERM finishes what is in hand; what is queued stays queued, and the next sync goes on from there.")]
pub struct Args {
    /// The pipelines; all of them when none is named.
    pipelines: Vec<String>,
    /// Import once, wait until everything is written, and end.
    #[arg(long)]
    once: bool,
    /// Send every record, whatever its mark says. Never truncates.
    #[arg(long, requires = "once")]
    full: bool,
    /// Print the summary as JSON.
    #[arg(long, requires = "once")]
    json: bool,
}

pub async fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let config = global.load()?;
    let stop = Stop::listen()?;
    if !args.once {
        let telemetry = global.tell(&config)?;
        let served = serve(&config, &args.pipelines, telemetry.metrics(), &stop).await;
        // It blocks: what the runtime does for it is done by another of its threads.
        let _ = tokio::task::spawn_blocking(|| telemetry.end()).await;
        return served;
    }
    global.log_if_asked(&config);
    let app = App::open(&config, Access::Own, &args.pipelines).await?;
    let mode = if args.full { Mode::Full } else { Mode::Delta };
    let outcomes = once(&app, mode, &stop).await;
    let rows: Vec<Row> = outcomes.iter().map(Row::of).collect();
    if args.json {
        present::json(&rows)?;
    } else {
        present::out(format!("{}\n", told(&rows)))?;
    }
    Ok(conclude(outcomes, &stop))
}

async fn serve(config: &Config, pipelines: &[String], metrics: &Metrics, stop: &Stop) -> Result<Exit, Failure> {
    let app = App::open_metered(config, Access::Own, pipelines, &|| metrics.meter()).await?.counted(metrics);
    let names: Vec<&str> = app.pipelines.iter().map(|pipeline| pipeline.id.as_str()).collect();
    present::note(&format!("ready: keeping {} in step; Ctrl-C stops", names.join(", ")));
    let watch = |watched: Watched| metrics.pipeline(&watched.pipeline, watched.progress);
    let state = app.pipelines.first().map(|pipeline| pipeline.backplane.state.clone());
    let heart = async {
        match &state {
            Some(state) => metrics.keep_heartbeat(&**state).await,
            None => std::future::pending().await,
        }
    };
    let served = tokio::select! {
        served = fides_runtime::serve(&app, &Role::ALL, watch, stop.token()) => served,
        never = metrics.keep_stock(&app.pipelines) => match never {},
        never = heart => match never {},
    };
    if let Some(state) = &state {
        metrics.farewell(&**state).await;
    }
    served?;
    Ok(stop.exit().unwrap_or(Exit::Ok))
}

/// Runs every pipeline once and shows it.
pub async fn once(app: &App, mode: Mode, stop: &Stop) -> Vec<Outcome> {
    let display = Display::start();
    let mut estimates: HashMap<PipelineId, u64> = HashMap::new();
    for pipeline in &app.pipelines {
        let probe = Progress::default();
        display.estimate(pipeline, &probe).await;
        estimates.insert(pipeline.id.clone(), Progress::get(&probe.estimate));
    }
    let watch = |watched: Watched| {
        let Watched { pipeline, progress } = watched;
        Progress::add(&progress.estimate, estimates.get(&pipeline).copied().unwrap_or_default() as usize);
        display.watch(pipeline.as_str(), &progress);
    };
    let outcomes = fides_runtime::sync_once(app, mode, watch, stop.token()).await;
    display.finish().await;
    outcomes
}

/// One pipeline's run, as it is summed up.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub pipeline: String,
    pub read: u64,
    pub unchanged: u64,
    pub published: u64,
    pub written: u64,
    pub avoided_percent: Option<f64>,
    pub deleted: u64,
    pub dead: u64,
    /// Not written, because the target holds a newer version.
    pub newer: u64,
    /// Records that an interrupted run had read before, and that this one did not read again.
    pub read_before: u64,
    pub seconds: f64,
    /// Why the clean-up deleted nothing.
    pub refused: Option<String>,
    /// Why the run stopped; the next one continues it.
    pub error: Option<String>,
}

impl Row {
    pub fn of(outcome: &Outcome) -> Self {
        let progress = &outcome.progress;
        let report = outcome.report.as_ref();
        // Only what this process did: of what an earlier one published, nobody knows here how much it has written.
        let before = progress.earlier();
        let own = |counter, before: u64| Progress::get(counter).saturating_sub(before);
        let (read, unchanged) = (own(&progress.read, before.read), own(&progress.unchanged, before.unchanged));
        Self {
            pipeline: outcome.pipeline.to_string(),
            read,
            unchanged,
            published: own(&progress.published, before.published),
            written: Progress::get(&progress.written),
            avoided_percent: present::percent(unchanged, read),
            deleted: own(&progress.deletions, before.deletions),
            dead: outcome.dead,
            newer: Progress::get(&progress.newer),
            read_before: before.read,
            seconds: outcome.seconds,
            refused: report.ok().and_then(|report| report.sweep.refused.clone()),
            error: report.err().map(ToString::to_string),
        }
    }

    /// Headers of [`Row::cells`] after the first column.
    pub const HEADER: [&'static str; 8] =
        ["read", "unchanged", "published", "written", "avoided", "deleted", "dead", "seconds"];

    /// The row in a table, without its name.
    pub fn cells(&self) -> [String; 8] {
        [
            number(self.read),
            number(self.unchanged),
            number(self.published),
            number(self.written),
            present::share(self.unchanged, self.read),
            number(self.deleted),
            number(self.dead),
            present::seconds(self.seconds),
        ]
    }
}

fn told(rows: &[Row]) -> Table {
    let header: Vec<&str> = std::iter::once("pipeline").chain(Row::HEADER).collect();
    let mut table = Table::new(&header, 1);
    for row in rows {
        table.row(std::iter::once(row.pipeline.clone()).chain(row.cells()));
    }
    table
}

/// Tells stderr what went wrong, and chooses the exit status: a signal before a fault before dead letters.
fn conclude(outcomes: Vec<Outcome>, stop: &Stop) -> Exit {
    let mut exit = Exit::Ok;
    for outcome in outcomes {
        let (pipeline, progress) = (outcome.pipeline.as_str(), &outcome.progress);
        let (before, newer) = (progress.earlier().read, Progress::get(&progress.newer));
        if before > 0 {
            present::note(&present::gone_on(pipeline, before));
        }
        if newer > 0 {
            present::warn(&present::not_overwritten(pipeline, newer));
        }
        match outcome.report {
            Ok(report) => {
                if let Some(why) = report.sweep.refused {
                    present::warn(&present::refusal(outcome.pipeline.as_str(), &why));
                }
                if outcome.dead > 0 {
                    present::warn(&present::buried(outcome.pipeline.as_str(), outcome.dead));
                    exit = if exit == Exit::Ok { Exit::DeadLetters } else { exit };
                }
            }
            Err(fault) => {
                let failure = Failure::from(fault.at(format!("pipeline {}", outcome.pipeline)));
                failure.tell();
                exit = if matches!(exit, Exit::Ok | Exit::DeadLetters) { failure.exit } else { exit };
            }
        }
    }
    stop.exit().unwrap_or(exit)
}
