//! The operator's command: all services in one process, and everything one asks of them.

mod cli;
mod commands;
mod dashboard;
mod exit;
mod failure;
mod present;
mod stop;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;

use cli::Cli;
use exit::Exit;
use failure::Failure;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout and may be cut short by its reader; there is nobody left to tell.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok }.into();
        }
    };
    match catch_unwind(AssertUnwindSafe(|| run(cli))) {
        Ok(Ok(exit)) => exit.into(),
        Ok(Err(failure)) => {
            failure.tell();
            failure.exit.into()
        }
        Err(_) => {
            Failure::new(Exit::Internal, "an internal error: please report it with the lines above").tell();
            Exit::Internal.into()
        }
    }
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Internal, format!("the process cannot start its threads: {error}")))?;
    runtime.block_on(commands::run(cli))
}
