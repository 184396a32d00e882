//! Sending a command and telling what became of it: what `reimport`, `pause`, `resume`, `cleanup`, `approve` and `cancel`
//! have in common.

use std::time::{Duration, Instant};

use fides_core::command::{Action, Answer, Command, Status};
use fides_runtime::{App, Commands};
use serde_json::Value;

use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::present::{self, Text};
use crate::stop::Stop;

/// How often `--wait` asks how far a command is: at first, and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Decides that bound nothing: a year.
const TIMEOUT_SECONDS_MAX: u64 = 31_536_000;

/// How a command is sent.
#[derive(Debug, clap::Args)]
pub struct Asking {
    /// Wait until it is carried out, not only accepted. Where no sync runs it is always waited for.
    #[arg(long)]
    wait: bool,
    /// Give up waiting after so long; the command stays queued. With --wait for as long as it takes if not given, otherwise
    /// 30 seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=TIMEOUT_SECONDS_MAX))]
    timeout: Option<u64>,
    /// The command's id: the same id again is the same command, and tells how far it is. A new one if not given.
    #[arg(long)]
    id: Option<String>,
    /// Who asks, for the audit trail: the user of this process if not given.
    #[arg(long, value_name = "NAME", env = "FIDES_REQUESTER")]
    requester: Option<String>,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Asking {
    fn command(&self, action: Action) -> Result<Command, Failure> {
        let id = self.id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let requester = self.requester.clone().unwrap_or_else(requester);
        // What this would be refused for elsewhere is told before anything is opened.
        Command::parse(&Command { id, requester, action }.to_bytes()).map_err(|answer| refused(&answer))
    }

    fn timeout_ms(&self) -> u64 {
        const ANSWER_SECONDS: u64 = 30;
        self.timeout.unwrap_or(ANSWER_SECONDS).saturating_mul(1_000)
    }
}

/// The user of this process.
pub fn requester() -> String {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = variable("USER").or_else(|| variable("LOGNAME")).or_else(|| variable("USERNAME"));
    user.unwrap_or_else(|| String::from("unknown user"))
}

/// Sends a command to whoever takes commands, and tells the answer.
pub async fn run(global: &Global, asking: &Asking, action: Action) -> Result<Exit, Failure> {
    let command = asking.command(action)?;
    let config = global.load()?;
    global.log_if_asked(&config);
    let commands = Commands::find(&config, command.action.pipelines()).await?;
    let answer = match &commands {
        Commands::Here(app) => here(&commands, app, &command, asking).await?,
        Commands::Elsewhere(_) => elsewhere(&commands, &command, asking).await?,
    };
    tell(&command, &answer, asking)
}

/// No sync runs: what is accepted would wait for the next one, so it is done now.
async fn here(commands: &Commands, app: &App, command: &Command, asking: &Asking) -> Result<Answer, Failure> {
    let answer = asked(commands, command, asking.timeout_ms()).await?;
    if answer.status != Status::Accepted {
        return Ok(answer);
    }
    let stop = Stop::listen()?;
    app.carry_out(command, stop.token()).await?;
    asked(commands, command, asking.timeout_ms()).await
}

async fn elsewhere(commands: &Commands, command: &Command, asking: &Asking) -> Result<Answer, Failure> {
    let began = Instant::now();
    let answer = asked(commands, command, asking.timeout_ms()).await?;
    let over = || asking.timeout.is_some_and(|seconds| began.elapsed() >= Duration::from_secs(seconds));
    let (mut answer, mut look) = (answer, LOOK.0);
    while asking.wait && answer.status == Status::Accepted && !over() {
        tokio::time::sleep(look).await;
        look = (look * 2).min(LOOK.1);
        answer = asked(commands, command, asking.timeout_ms()).await?;
    }
    Ok(answer)
}

async fn asked(commands: &Commands, command: &Command, timeout_ms: u64) -> Result<Answer, Failure> {
    let answer = commands.ask(command, timeout_ms).await?;
    answer.ok_or_else(|| {
        let what = format!("nobody answered within {} s; command {} is queued", timeout_ms / 1_000, command.id);
        let advice = "is an importer running? It is carried out as soon as one takes it; `fides commands list` tells";
        Failure::new(Exit::Temporary, what).advise(advice)
    })
}

fn refused(answer: &Answer) -> Failure {
    let why = answer.reason.as_deref().unwrap_or("no reason was given");
    Failure::new(Exit::Refused, format!("the command was refused: {why}"))
        .advise("`fides commands list` tells what was asked; `--help` what is expected")
}

fn tell(command: &Command, answer: &Answer, asking: &Asking) -> Result<Exit, Failure> {
    if asking.json {
        present::json(answer)?;
    } else if answer.status != Status::Refused {
        present::out(told(command, answer))?;
    }
    match answer.status {
        Status::Refused => Err(refused(answer)),
        Status::Accepted | Status::Done => Ok(Exit::Ok),
    }
}

fn told(command: &Command, answer: &Answer) -> Text {
    let mut text = Text::default();
    let name = command.action.name();
    match answer.status {
        Status::Accepted => {
            text.line(format_args!("{} {name}, command {}", present::strong("accepted:"), answer.id));
        }
        Status::Done => text.line(format_args!("{} {name}", present::good("done:"))),
        Status::Refused => text.line(format_args!("{} {name}", present::bad("refused:"))),
    }
    detail(&mut text, answer);
    text
}

/// What became of it in each pipeline, one line each.
pub fn detail(text: &mut Text, answer: &Answer) {
    let pipelines = answer.detail.as_ref().and_then(Value::as_object);
    for (pipeline, detail) in pipelines.into_iter().flatten() {
        let fields = detail.as_object().into_iter().flatten();
        let told = fields.filter(|(name, value)| *name != "status" && !value.is_null()).map(told_field);
        let fields: Vec<String> = told.collect();
        text.line(format_args!("  {pipeline}  {}", fields.join(", ")));
    }
}

/// `deleted 12`, `since 2026-11-21 14:57:07 UTC`.
fn told_field((name, value): (&String, &Value)) -> String {
    let (name, value) = match (name.strip_suffix("_ms"), value) {
        (Some(name), Value::Number(ms)) => (name, present::instant(ms.as_u64().unwrap_or_default())),
        (_, Value::Number(number)) => (&**name, number.as_u64().map_or_else(|| number.to_string(), present::number)),
        (_, Value::String(text)) => (&**name, text.clone()),
        (_, other) => (&**name, other.to_string()),
    };
    format!("{} {value}", name.replace('_', " "))
}
