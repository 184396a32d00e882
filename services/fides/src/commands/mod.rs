//! One file per command: its arguments, and what it does.

pub mod approve;
mod ask;
pub mod asked;
pub mod check;
pub mod dashboard;
pub mod dead;
pub mod demo;
pub mod explain;
pub mod init;
pub mod order;
pub mod plan;
pub mod rebuild;
pub mod reimport;
pub mod schema;
pub mod status;
pub mod sync;
pub mod verify;

use fides_core::command::Action;
use fides_engine::Pipeline;
use fides_runtime::config::Config;
use fides_runtime::{Access, App};

use crate::cli::{Cli, Command};
use crate::exit::Exit;
use crate::failure::Failure;

/// Does what was asked.
pub async fn run(cli: Cli) -> Result<Exit, Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Demo(args) => demo::run(&global, &args).await,
        Command::Init(args) => init::run(&global, &args).await,
        Command::Check(args) => check::run(&global, &args).await,
        Command::Plan(args) => plan::run(&global, &args).await,
        Command::Sync(args) => sync::run(&global, &args).await,
        Command::Status(args) => status::run(&global, &args).await,
        Command::Dashboard(args) => dashboard::run(&global, &args).await,
        Command::Verify(args) => verify::run(&global, &args).await,
        Command::RebuildHashes(args) => rebuild::run(&global, &args).await,
        Command::Explain(args) => explain::run(&global, &args).await,
        Command::Dead(args) => dead::run(&global, &args).await,
        Command::Reimport(args) => reimport::run(&global, &args).await,
        Command::Pause(args) => order::run(&global, args, |pipelines| Action::Pause { pipelines }).await,
        Command::Resume(args) => order::run(&global, args, |pipelines| Action::Resume { pipelines }).await,
        Command::Cleanup(args) => order::run(&global, args, |pipelines| Action::Cleanup { pipelines }).await,
        Command::Repair(args) => {
            order::run(&global, args, |pipelines| Action::Verify { pipelines, repair: true }).await
        }
        Command::Approve(args) => approve::run(&global, &args).await,
        Command::Cancel(args) => order::run(&global, args, |pipelines| Action::Cancel { pipelines }).await,
        Command::Commands(args) => asked::run(&global, &args).await,
        Command::Schema(args) => schema::run(&global, &args),
    }
}

/// Wires the one pipeline that a command is about.
async fn open_one(config: &Config, access: Access, id: &str) -> Result<(App, Pipeline), Failure> {
    let app = App::open(config, access, &[id.to_owned()]).await?;
    let pipeline = app.pipelines.first().cloned();
    let pipeline = pipeline.ok_or_else(|| Failure::new(Exit::Usage, format!("there is no pipeline {id:?}")))?;
    Ok((app, pipeline))
}
