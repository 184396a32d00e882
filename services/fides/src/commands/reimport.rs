use fides_core::command::{Action, Extent, KeySpan, KeyText};

use super::ask::{self, Asking};
use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fides reimport cities                        now, instead of at the next instant of the schedule
  fides reimport cities countries --full       every record, whatever its mark says; never truncates
  fides reimport cities --keys 2657896 2660646
  fides reimport cities --from 2600000 --to 2700000 --wait
  fides reimport --all --json | jq .status")]
pub struct Args {
    /// The pipelines.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pipelines: Vec<String>,
    /// All pipelines.
    #[arg(long)]
    all: bool,
    /// Send every record, whatever its mark says. Versions are kept and nothing is truncated.
    #[arg(long)]
    full: bool,
    /// Send only these records of one pipeline.
    #[arg(long, num_args = 1.., value_name = "KEY", allow_negative_numbers = true, conflicts_with_all = ["from", "to"])]
    keys: Vec<String>,
    /// Send only records of one pipeline from this key on.
    #[arg(long, value_name = "KEY", allow_negative_numbers = true)]
    from: Option<String>,
    /// Send only records of one pipeline up to this key, which is left out.
    #[arg(long, value_name = "KEY", allow_negative_numbers = true)]
    to: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

pub async fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let Args { pipelines, full, keys, from, to, asking, .. } = args;
    let key = |text: &String| KeyText(text.clone());
    let ranges = match (from, to) {
        (None, None) => Vec::new(),
        (from, to) => vec![KeySpan { from: from.as_ref().map(key), to: to.as_ref().map(key) }],
    };
    let keys: Vec<KeyText> = keys.iter().map(key).collect();
    // Named records are always sent whole.
    let mode = if *full || !keys.is_empty() || !ranges.is_empty() { Extent::Full } else { Extent::Delta };
    ask::run(global, asking, Action::Reimport { pipelines: pipelines.clone(), mode, keys, ranges }).await
}
