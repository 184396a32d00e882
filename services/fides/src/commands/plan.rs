use std::sync::Arc;

use fides_engine::Progress;
use fides_engine::inspect::{FieldDifference, Plan, Sample, plan};
use fides_runtime::Access;

use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::present::{self, Display, Table, Text, number};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fides plan cities
  fides plan cities --samples 10
  fides plan cities --json | jq '.create, .change, .delete'")]
pub struct Args {
    /// The pipeline.
    pipeline: String,
    /// How many records to show of each kind.
    #[arg(long, value_name = "N", default_value_t = 3)]
    samples: usize,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

pub async fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let config = global.load()?;
    global.log_if_asked(&config);
    let (_app, pipeline) = super::open_one(&config, Access::Read, &args.pipeline).await?;
    let progress = Arc::new(Progress::default());
    let display = Display::start();
    display.estimate(&pipeline, &progress).await;
    display.watch(pipeline.id.as_str(), &progress);
    let planned = plan(&pipeline, args.samples, &progress).await;
    display.finish().await;
    let planned = planned?;
    if args.json {
        present::json(&planned)?;
    } else {
        present::out(told(&args.pipeline, &planned))?;
    }
    Ok(Exit::Ok)
}

fn told(pipeline: &str, plan: &Plan) -> Text {
    let mut table = Table::new(&["pipeline", "read", "unchanged", "create", "change", "delete", "reject", "dead"], 1);
    table.row([
        pipeline.to_owned(),
        number(plan.read),
        number(plan.unchanged),
        number(plan.create),
        number(plan.change),
        number(plan.delete),
        number(plan.reject),
        number(plan.dead),
    ]);
    let mut text = Text::default();
    text.line(table);
    for sample in &plan.samples {
        tell_sample(&mut text, sample);
    }
    if let Some(edit) = &plan.edit {
        text.line(match &edit.unknown {
            None => format!(
                "The mapping was edited: {} documents stay as they are and only get a new mark.",
                number(edit.relabel)
            ),
            Some(why) => format!(
                "The mapping was edited, and the one before cannot be evaluated: {why}. Every document is sent again."
            ),
        });
    }
    if let Some(why) = &plan.refused {
        text.line(format_args!("The deletions would be refused: {why}"));
    }
    text.line("Nothing was written.");
    text
}

fn tell_sample(text: &mut Text, sample: &Sample) {
    text.line(format_args!("{} {}", present::strong(sample.action), sample.key));
    if !sample.fields.is_empty() {
        for FieldDifference { field, found, expected } in &sample.fields {
            text.line(format_args!("  {field}: {found} → {expected}"));
        }
        return;
    }
    if let Some(before) = &sample.before {
        text.line(format_args!("  before  {before}"));
    }
    if let Some(after) = &sample.after {
        let label = if sample.action == "reject" { "because" } else { "after  " };
        text.line(format_args!("  {label} {after}"));
    }
}
