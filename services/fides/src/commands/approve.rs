use fides_core::command::Action;
use fides_core::command::bounds::{EXPIRES_SECONDS_DEFAULT, EXPIRES_SECONDS_MAX};

use super::ask::{self, Asking};
use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fides status                                 tells which run was refused, and why
  fides approve cities RUN --deletions-max 1200
  fides approve cities RUN --deletions-max 1200 --expires 600 --wait

The clean-up is made anew. With more candidates than the ceiling nothing is deleted.")]
pub struct Args {
    /// The pipeline.
    pipeline: String,
    /// The run whose deletions were refused.
    run: String,
    /// How many records may be deleted, once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    deletions_max: u64,
    /// How long the approval holds.
    #[arg(long, value_name = "SECONDS", default_value_t = EXPIRES_SECONDS_DEFAULT,
        value_parser = clap::value_parser!(u64).range(1..=EXPIRES_SECONDS_MAX))]
    expires: u64,
    #[command(flatten)]
    asking: Asking,
}

pub async fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let Args { pipeline, run, deletions_max, expires, asking } = args;
    let (pipeline, run) = (pipeline.clone(), run.clone());
    let action = Action::Approve { pipeline, run, deletions_max: *deletions_max, expires_seconds: *expires };
    ask::run(global, asking, action).await
}
