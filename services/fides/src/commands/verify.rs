use std::sync::Arc;

use fides_engine::Progress;
use fides_engine::inspect::{RepairReport, VerifyReport, verify};
use fides_runtime::Access;
use fides_runtime::config::Config;

use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::present::{self, Display, Table, Text, number};
use crate::stop::Stop;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fides verify cities                          exits with 1 when something differs
  fides verify cities --limit 100
  fides verify cities --repair                 sends what differs again; exits with 1 when some of it still does
  fides verify cities --json | jq -r '.differences[].key'")]
pub struct Args {
    /// The pipeline.
    pipeline: String,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
    /// Send the host's present state of what differs, delete what the host does not have if that is allowed, wait until it
    /// is written, and look again. Beside a running sync only with a backplane of RabbitMQ and Redis.
    #[arg(long)]
    repair: bool,
    /// List at most this many differing records; all of them are counted.
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

pub async fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let config = global.load()?;
    global.log_if_asked(&config);
    if args.repair {
        return mend(&config, args).await;
    }
    let (_app, pipeline) = super::open_one(&config, Access::Read, &args.pipeline).await?;
    let progress = Arc::new(Progress::default());
    let display = Display::start();
    display.estimate(&pipeline, &progress).await;
    display.watch(pipeline.id.as_str(), &progress);
    let report = verify(&pipeline, &progress).await;
    display.finish().await;
    let mut report = report?;
    report.differences.truncate(args.limit);
    if args.json {
        present::json(&report)?;
    } else {
        present::out(told(&args.pipeline, &report))?;
    }
    Ok(if report.is_equal() { Exit::Ok } else { Exit::Different })
}

/// Repairs. What is queued when it is stopped stays queued.
async fn mend(config: &Config, args: &Args) -> Result<Exit, Failure> {
    let stop = Stop::listen()?;
    let (app, pipeline) = super::open_one(config, Access::Own, &args.pipeline).await?;
    let progress = Arc::new(Progress::default());
    let display = Display::start();
    display.estimate(&pipeline, &progress).await;
    display.watch(pipeline.id.as_str(), &progress);
    let report = fides_runtime::repair(&app, &pipeline.id, progress, stop.token()).await;
    display.finish().await;
    if let Some(exit) = stop.exit() {
        return Ok(exit);
    }
    let mut report = report?;
    report.found.differences.truncate(args.limit);
    report.left.differences.truncate(args.limit);
    if args.json {
        present::json(&report)?;
    } else {
        present::out(told_repair(&args.pipeline, &report))?;
    }
    if let Some(why) = &report.refused {
        present::warn(&present::refusal(&args.pipeline, why));
    }
    Ok(if report.left.is_equal() { Exit::Ok } else { Exit::Different })
}

fn told_repair(pipeline: &str, report: &RepairReport) -> Text {
    let mut text = Text::default();
    text.line(counts(pipeline, &report.found));
    if report.found.is_equal() {
        text.line(verdict(&report.found));
        return text;
    }
    text.line("");
    text.line(differences(&report.found));
    let more = report.found.differing() - report.found.differences.len() as u64;
    if more > 0 {
        text.line(format_args!("{} more; --limit shows more of them, at most the first 10,000.", number(more)));
    }
    text.line(format_args!(
        "{} sent again, {} deleted, {} mended.",
        present::count(report.sent, "record"),
        number(report.deleted),
        number(report.mended)
    ));
    if report.left.is_equal() {
        text.line(format_args!("{} nothing of it differs any more.", present::good("✓")));
        return text;
    }
    text.line("");
    text.line("Not mended:");
    text.line(differences(&report.left));
    text.line(verdict(&report.left));
    text
}

fn told(pipeline: &str, report: &VerifyReport) -> Text {
    let mut text = Text::default();
    text.line(counts(pipeline, report));
    if !report.differences.is_empty() {
        text.line("");
        text.line(differences(report));
    }
    let more = report.differing() - report.differences.len() as u64;
    if more > 0 {
        text.line(format_args!("{} more; --limit shows more of them, at most the first 10,000.", number(more)));
    }
    text.line(verdict(report));
    text
}

/// One sentence; the demo ends with it too.
pub fn verdict(report: &VerifyReport) -> String {
    if report.is_equal() {
        return format!(
            "{} both sides are equal: {} documents, compared field by field.",
            present::good("✓"),
            number(report.equal)
        );
    }
    format!("{} the sides differ in {}.", present::bad("✗"), present::count(report.differing(), "record"))
}

fn counts(pipeline: &str, report: &VerifyReport) -> Table {
    let header =
        ["pipeline", "host", "left out", "target", "equal", "missing", "extra", "different", "unmappable", "in flight"];
    let mut table = Table::new(&header, 1);
    let numbers = [
        report.host_records,
        report.excluded,
        report.target_records,
        report.equal,
        report.missing,
        report.extra,
        report.different,
        report.unmappable,
        report.in_flight,
    ];
    table.row(std::iter::once(pipeline.to_owned()).chain(numbers.map(number)));
    table
}

fn differences(report: &VerifyReport) -> Table {
    let mut table = Table::new(&["key", "how", "field", "expected", "found"], 5).wrapped();
    for difference in &report.differences {
        let first = [difference.key.clone(), difference.kind.name().to_owned()];
        if difference.fields.is_empty() {
            let reason = difference.reason.clone().unwrap_or_default();
            table.row(first.clone().into_iter().chain([String::new(), reason, String::new()]));
        }
        for field in &difference.fields {
            let rest = [field.field.clone(), field.expected.clone(), field.found.clone()];
            table.row(first.clone().into_iter().chain(rest));
        }
    }
    table
}
