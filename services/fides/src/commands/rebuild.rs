use std::sync::Arc;

use fides_engine::{Progress, RebuildReport};
use fides_runtime::Access;

use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::present::{self, Display, Text, number};
use crate::stop::Stop;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fides rebuild-hashes cities                  after the target or the hash store was restored from a backup
  fides sync --once cities                     sends what differs

An import does it by itself where the loss is noticed. The epoch rises; nothing is sent but deletions of documents whose
record is proven absent.")]
pub struct Args {
    /// The pipeline.
    pipeline: String,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

pub async fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let config = global.load()?;
    global.log_if_asked(&config);
    let stop = Stop::listen()?;
    let (app, pipeline) = super::open_one(&config, Access::Own, &args.pipeline).await?;
    let progress = Arc::new(Progress::default());
    let display = Display::start();
    display.watch(pipeline.id.as_str(), &progress);
    let report = fides_runtime::rebuild(&app, &pipeline.id, progress, stop.token()).await;
    display.finish().await;
    if let Some(exit) = stop.exit() {
        return Ok(exit);
    }
    let report = report?;
    if args.json {
        present::json(&report)?;
    } else {
        present::out(told(&report))?;
    }
    if let Some(why) = &report.sweep.refused {
        present::warn(&present::refusal(&args.pipeline, why));
    }
    Ok(Exit::Ok)
}

fn told(report: &RebuildReport) -> Text {
    let RebuildReport { host_records, marked, differing, sweep } = report;
    let mut text = Text::default();
    text.line(format_args!("{} of {} marked as they are.", number(*marked), present::count(*host_records, "record")));
    text.line(format_args!("{} for the next import to send.", present::count(*differing, "record")));
    if sweep.deleted > 0 {
        text.line(format_args!("{} without a record deleted.", present::count(sweep.deleted, "document")));
    }
    text
}
