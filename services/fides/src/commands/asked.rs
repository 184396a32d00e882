use fides_core::command::Status;
use fides_engine::admin::{CommandStatus, commands};

use super::ask;
use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::present::{self, Table, Text};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fides commands list                          what was asked in the last days, by whom, and what became of it
  fides commands show 01a2b3                   one of them
  fides commands schema > admin.schema.json    for those who send commands themselves")]
pub struct Args {
    #[command(subcommand)]
    action: Which,
}

#[derive(Debug, clap::Subcommand)]
enum Which {
    /// List the latest commands, the newest first.
    #[command(
        after_help = "Examples:\n  fides commands list\n  fides commands list --limit 5 --json | jq -r '.[].answer.id'"
    )]
    List {
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one command and what became of it in each pipeline.
    #[command(after_help = "Examples:\n  fides commands show 01a2b3\n  fides commands show 01a2b3 --json")]
    Show {
        /// Its id.
        id: String,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of commands and answers.
    #[command(after_help = "Examples:\n  fides commands schema > admin.schema.json")]
    Schema,
}

pub async fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    match &args.action {
        Which::Schema => present::json(&fides_core::command::json_schema())?,
        Which::List { limit, json } => {
            let found = all(global, *limit).await?;
            if *json { present::json(&found)? } else { present::out(listed(&found))? }
        }
        Which::Show { id, json } => {
            let found = all(global, usize::MAX).await?.into_iter().find(|found| found.answer.id == *id);
            let found = found.ok_or_else(|| {
                Failure::data(format!("there is no command {id:?}"))
                    .advise("see `fides commands list`; what is older than a week is forgotten")
            })?;
            if *json { present::json(&found)? } else { present::out(shown(&found))? }
        }
    }
    Ok(Exit::Ok)
}

async fn all(global: &Global, limit: usize) -> Result<Vec<CommandStatus>, Failure> {
    let config = global.load()?;
    global.log_if_asked(&config);
    let state = fides_runtime::state(&config).await?;
    Ok(commands(&*state, limit).await?)
}

/// The status in one word.
pub fn word(status: Status) -> &'static str {
    match status {
        Status::Accepted => "accepted",
        Status::Done => "done",
        Status::Refused => "refused",
    }
}

fn listed(found: &[CommandStatus]) -> Text {
    let mut table = Table::new(&["asked", "command", "status", "requester", "id"], 5);
    for CommandStatus { received_ms, requester, command, answer } in found {
        let asked = present::instant(*received_ms);
        table.row([asked, command.clone(), word(answer.status).into(), requester.clone(), answer.id.clone()]);
    }
    let mut text = Text::default();
    if !found.is_empty() {
        text.line(table);
    }
    text.line(format_args!("{}.", present::count(found.len() as u64, "command")));
    text
}

fn shown(found: &CommandStatus) -> Text {
    let CommandStatus { received_ms, requester, command, answer } = found;
    let mut text = Text::default();
    text.line(format_args!("{} {command}: {}", present::strong(&answer.id), word(answer.status)));
    text.line(format_args!("  asked      {} by {requester}", present::instant(*received_ms)));
    if let Some(reason) = &answer.reason {
        text.line(format_args!("  reason     {reason}"));
    }
    ask::detail(&mut text, answer);
    text
}
