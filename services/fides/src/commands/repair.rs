use fides_core::command::Action;

use super::ask::{self, Asking};
use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fides repair cities --wait                   compares record by record, and sends what differs again
  fides verify cities                          only compares")]
pub struct Args {
    /// The pipelines.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pipelines: Vec<String>,
    /// All pipelines.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    asking: Asking,
}

pub async fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    ask::run(global, &args.asking, Action::Verify { pipelines: args.pipelines.clone(), repair: true }).await
}
