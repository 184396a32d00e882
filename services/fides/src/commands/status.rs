use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use fides_core::command::{self, Answer};
use fides_engine::admin::{CommandStatus, Paused, commands};
use fides_engine::inspect::{Breaker, Heartbeat, RunStatus, Status, Verified, Work, heartbeats, status};
use fides_engine::{Cleaned, SweepReport};
use fides_runtime::{Access, App};
use serde::Serialize;

use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::present::{self, Screen, Table, Text, number};
use crate::stop::ended;

/// How often `--watch` looks.
const REDRAW: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fides status                                 also while `fides sync` runs
  fides status --watch
  fides status --json | jq '.[] | select(.dead > 0)'")]
pub struct Args {
    /// Print it as JSON; with --watch one line per look.
    #[arg(long)]
    json: bool,
    /// Look every second until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

pub async fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let config = global.load()?;
    global.log_if_asked(&config);
    let app = App::open(&config, Access::Read, &[]).await?;
    if args.watch {
        let asked_to_end = ended()?;
        return tokio::select! {
            failure = watch(&app, args.json) => failure.map(|never| match never {}),
            exit = asked_to_end => Ok(exit),
        };
    }
    let found = look(&app).await?;
    if args.json {
        present::json(&found.pipelines)?;
    } else {
        present::out(told(&found))?;
    }
    Ok(Exit::Ok)
}

/// Shows it again and again. Dropped, it leaves the terminal as it was.
async fn watch(app: &App, json: bool) -> Result<Infallible, Failure> {
    let screen = if json { None } else { Some(Screen::enter()?) };
    loop {
        let found = look(app).await?;
        match &screen {
            Some(screen) => screen.draw(told(&found))?,
            None => present::json_line(&found.pipelines)?,
        }
        tokio::time::sleep(REDRAW).await;
    }
}

/// Where everything stands.
pub struct Look {
    /// By the store's clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// Every pipeline.
    pub pipelines: Vec<Standing>,
    /// Who works.
    pub processes: Vec<Heartbeat>,
}

/// Where a pipeline stands, what is asked of it, and who works for it.
#[derive(Serialize)]
pub struct Standing {
    #[serde(flatten)]
    status: Status,
    /// Commands that were accepted and are not carried out yet, the oldest first.
    commands: Vec<CommandStatus>,
    processes: Vec<Working>,
}

/// What a process does for a pipeline, as it told last.
#[derive(Serialize)]
struct Working {
    service: String,
    instance: String,
    /// When it told this, in milliseconds since 1970 on the store's clock.
    at_ms: u64,
    breakers: BTreeMap<String, Breaker>,
    #[serde(flatten)]
    work: Work,
}

impl Standing {
    /// Whether nothing is known of it.
    pub fn is_new(&self) -> bool {
        let Status { run, records, dead, paused, .. } = &self.status;
        run.is_none() && *records == 0 && *dead == 0 && paused.is_none() && self.commands.is_empty()
    }
}

/// Looks where everything stands.
pub async fn look(app: &App) -> Result<Look, Failure> {
    let Some(any) = app.pipelines.first() else {
        return Ok(Look { at_ms: 0, pipelines: Vec::new(), processes: Vec::new() });
    };
    let state = &*any.backplane.state;
    let waiting = commands(state, usize::MAX).await?;
    let waiting: Vec<CommandStatus> = waiting.into_iter().rev().filter(|command| waits(&command.answer)).collect();
    let processes = heartbeats(state).await?;
    let mut pipelines = Vec::new();
    for pipeline in &app.pipelines {
        let id = pipeline.id.as_str();
        let concerns = |command: &&CommandStatus| waits_for(&command.answer, id);
        pipelines.push(Standing {
            status: status(pipeline).await?,
            commands: waiting.iter().filter(concerns).cloned().collect(),
            processes: processes.iter().filter_map(|process| working(process, id)).collect(),
        });
    }
    Ok(Look { at_ms: state.now_ms().await?, pipelines, processes })
}

fn working(process: &Heartbeat, pipeline: &str) -> Option<Working> {
    let Heartbeat { service, instance, at_ms, breakers, pipelines } = process;
    let (service, instance, breakers) = (service.clone(), instance.clone(), breakers.clone());
    Some(Working { service, instance, at_ms: *at_ms, breakers, work: pipelines.get(pipeline)?.clone() })
}

fn waits(answer: &Answer) -> bool {
    answer.status == command::Status::Accepted
}

/// Whether an accepted command is not carried out yet in one of its pipelines.
fn waits_for(answer: &Answer, pipeline: &str) -> bool {
    let of = answer.detail.as_ref().and_then(|detail| detail.get(pipeline)?.get("status"));
    of.is_some_and(|status| status == "accepted")
}

/// What wants attention or explains why nothing happens.
fn remarks(text: &mut Text, standing: &Standing) {
    let Standing { status: Status { pipeline, run, dead, paused, refused, cleaned, verified, .. }, commands, .. } =
        standing;
    if let Some(verified) = verified {
        text.line(told_verified(pipeline, verified));
    }
    let mut remark = |what: String| text.line(format_args!("{} {what}", present::bad("!")));
    if let Some(Paused { since_ms, requester }) = paused {
        let since = present::ago(*since_ms);
        remark(format!("{pipeline}: paused {since} by {requester}; `fides resume {pipeline}` goes on"));
    }
    let swept = run.as_ref().and_then(|run| run.sweep.as_ref()?.refused.as_ref());
    match (refused, swept) {
        (Some(refusal), _) => {
            remark(present::refusal(pipeline, &refusal.why));
            remark(match &refusal.approved_by {
                None if refusal.candidates == 0 => {
                    format!("{pipeline}: the next clean-up that comes to its end ends this alert")
                }
                None => present::approval(pipeline, &refusal.run, refusal.candidates),
                Some(by) => format!("{pipeline}: run {} was approved by command {by}", refusal.run),
            });
        }
        (None, Some(why)) => remark(present::refusal(pipeline, why)),
        (None, None) => {}
    }
    if let Some(Cleaned { ended_ms, report: SweepReport { foreign: foreign @ 1.., .. }, .. }) = cleaned {
        remark(format!(
            "{pipeline}: {} of the target {} never written by Fides (clean-up {}); `foreign: delete` lets a clean-up delete them",
            present::count(*foreign, "row"),
            if *foreign == 1 { "was" } else { "were" },
            present::ago(*ended_ms)
        ));
    }
    if *dead > 0 {
        remark(present::buried(pipeline, *dead));
    }
    for CommandStatus { received_ms, requester, command, answer } in commands {
        let (asked, id) = (present::ago(*received_ms), &answer.id);
        text.line(format_args!("… {pipeline}: {command} asked {asked} by {requester}, command {id}"));
    }
}

fn told(found: &Look) -> Text {
    let header = ["pipeline", "last run", "records", "queued", "dead", "read", "published", "avoided"];
    let mut table = Table::new(&header, 2);
    for Standing { status, .. } in &found.pipelines {
        let queued: u64 = status.lanes.iter().map(|lane| lane.depth).sum();
        let counts = status.run.as_ref().map(|run| run.counts).unwrap_or_default();
        table.row([
            status.pipeline.clone(),
            status.run.as_ref().map_or_else(|| "never".into(), told_run),
            number(status.records),
            number(queued),
            number(status.dead),
            number(counts.read),
            number(counts.published),
            present::share(counts.unchanged, counts.read),
        ]);
    }
    let mut text = Text::default();
    text.line(table);
    for standing in &found.pipelines {
        remarks(&mut text, standing);
    }
    present::working(&mut text, &found.processes, found.at_ms);
    text
}

fn told_verified(pipeline: &str, verified: &Verified) -> String {
    let when = present::ago(verified.ended_ms);
    if verified.drifted == 0 {
        let known = match verified.differing {
            0 => String::new(),
            differing => format!("; {} yet to be imported", present::count(differing, "record")),
        };
        return format!("{} {pipeline} was verified {when}: nothing drifted{known}", present::good("✓"));
    }
    format!(
        "{} {pipeline} was verified {when}: {} drifted ({}); mend with `fides verify {pipeline} --repair`",
        present::bad("!"),
        present::count(verified.drifted, "record"),
        verified.keys.join(", ")
    )
}

fn told_run(run: &RunStatus) -> String {
    match run.ended_ms {
        Some(ended) => present::ago(ended),
        None => format!("began {}", present::ago(run.started_ms)),
    }
}
