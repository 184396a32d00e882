//! Commands that say no more than which pipelines: `pause`, `resume`, `cleanup`, `repair` and `cancel`.

use fides_core::command::Action;

use super::ask::{self, Asking};
use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;

pub const PAUSE: &str = "\
Examples:
  fides pause cities                           beside a running sync or without one; survives restarts
  fides pause --all --requester 'ops: maintenance of the warehouse'";
pub const RESUME: &str = "\
Examples:
  fides resume cities
  fides resume --all";
pub const CLEANUP: &str = "\
Examples:
  fides cleanup cities --wait                  delete from the target what the host no longer has
  fides cleanup --all --json";
pub const REPAIR: &str = "\
Examples:
  fides repair cities --wait                   compares record by record, and sends what differs again
  fides verify cities                          only compares";
pub const CANCEL: &str = "\
Examples:
  fides cancel cities                          ends its import, its clean-up and what waits; deletes nothing
  fides cancel --all";

#[derive(Debug, clap::Args)]
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

/// Sends what `action` makes of the pipelines; none are all.
pub async fn run(global: &Global, args: Args, action: impl FnOnce(Vec<String>) -> Action) -> Result<Exit, Failure> {
    ask::run(global, &args.asking, action(args.pipelines)).await
}
