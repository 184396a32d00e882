use std::time::Duration;

use fides_engine::inspect::{RunStatus, Status, Verified, status};
use fides_runtime::{Access, App};

use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::present::{self, Table, Text, number};

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
    loop {
        let found = all(&app).await?;
        match (args.json, args.watch) {
            (true, true) => present::json_line(&found)?,
            (true, false) => present::json(&found)?,
            (false, true) => present::redraw(told(&found))?,
            (false, false) => present::out(told(&found))?,
        }
        if !args.watch {
            return Ok(Exit::Ok);
        }
        tokio::time::sleep(REDRAW).await;
    }
}

async fn all(app: &App) -> Result<Vec<Status>, Failure> {
    let mut found = Vec::new();
    for pipeline in &app.pipelines {
        found.push(status(pipeline).await?);
    }
    Ok(found)
}

fn told(found: &[Status]) -> Text {
    let header = ["pipeline", "last run", "records", "queued", "dead", "read", "published", "avoided"];
    let mut table = Table::new(&header, 2);
    for status in found {
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
    for status in found {
        let refused = status.run.as_ref().and_then(|run| run.sweep.as_ref()?.refused.as_ref());
        if let Some(why) = refused {
            text.line(format_args!("{} {}", present::bad("!"), present::refusal(&status.pipeline, why)));
        }
        if let Some(verified) = &status.verified {
            text.line(told_verified(&status.pipeline, verified));
        }
        if status.dead > 0 {
            text.line(format_args!("{} {}", present::bad("!"), present::buried(&status.pipeline, status.dead)));
        }
    }
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
