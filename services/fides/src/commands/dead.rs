use fides_core::Key;
use fides_core::port::DeadLetter;
use fides_engine::inspect::parse_key;
use fides_engine::{Pipeline, dead};
use fides_runtime::{Access, App};
use serde_json::json;

use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::present::{self, Table, Text};
use crate::stop::Stop;

/// Letters read from the state file at a time.
const LIST_MAX: usize = 1_000;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fides dead list cities
  fides dead show cities 2657896               with the document, or the record that the mapping refused
  fides dead replay cities --all               after the cause is mended: sends the host's present state
  fides dead drop cities 2657896               forget it; the target stays as it is")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List dead letters.
    #[command(after_help = "Examples:\n  fides dead list cities\n  fides dead list cities --json | jq -r '.[].key'")]
    List(Which),
    /// Show dead letters in full.
    #[command(after_help = "Examples:\n  fides dead show cities 2657896\n  fides dead show cities --all --json")]
    Show(Chosen),
    /// Send the host's present state of the records again. What can be written leaves the dead letters.
    #[command(after_help = "Examples:\n  fides dead replay cities --all\n  fides dead replay cities 2657896 2660646")]
    Replay(Chosen),
    /// Forget dead letters. The target stays as it is until the host changes the records.
    #[command(after_help = "Examples:\n  fides dead drop cities 2657896\n  fides dead drop cities --all")]
    Drop(Chosen),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The pipeline.
    pipeline: String,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Chosen {
    #[command(flatten)]
    which: Which,
    /// Keys of the records.
    #[arg(required_unless_present = "all", conflicts_with = "all", allow_negative_numbers = true)]
    keys: Vec<String>,
    /// All of the pipeline's dead letters.
    #[arg(long)]
    all: bool,
}

pub async fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    match &args.action {
        Action::List(which) => {
            let (_app, pipeline) = open(global, which, Access::Read).await?;
            list(which, &all(&pipeline).await?)
        }
        Action::Show(chosen) => {
            let (_app, pipeline) = open(global, &chosen.which, Access::Read).await?;
            show(&chosen.which, &letters(&pipeline, chosen).await?)
        }
        Action::Replay(chosen) => {
            let stop = Stop::listen()?;
            let (app, pipeline) = open(global, &chosen.which, Access::Own).await?;
            let keys = keys(letters(&pipeline, chosen).await?);
            replay(&app, &pipeline, &chosen.which, &keys, &stop).await
        }
        Action::Drop(chosen) => {
            let (_app, pipeline) = open(global, &chosen.which, Access::Own).await?;
            let keys = keys(letters(&pipeline, chosen).await?);
            dead::drop_letters(&pipeline, &keys).await?;
            told(&chosen.which, &json!({ "dropped": keys.len() }), || {
                Text::of(format_args!(
                    "{} dropped. The target stays as it is until the host changes the records, or `fides sync --once \
                     --full` sends them.",
                    present::count(keys.len() as u64, "dead letter")
                ))
            })?;
            Ok(Exit::Ok)
        }
    }
}

async fn open(global: &Global, which: &Which, access: Access) -> Result<(App, Pipeline), Failure> {
    let config = global.load()?;
    global.log_if_asked(&config);
    super::open_one(&config, access, &which.pipeline).await
}

async fn all(pipeline: &Pipeline) -> Result<Vec<DeadLetter>, Failure> {
    let mut letters: Vec<DeadLetter> = Vec::new();
    loop {
        let after = letters.last().map(|letter| letter.key.clone());
        let more = pipeline.backplane.dead.list(&pipeline.id, after.as_ref(), LIST_MAX).await?;
        let end = more.len() < LIST_MAX;
        letters.extend(more);
        if end {
            return Ok(letters);
        }
    }
}

/// The letters that were asked for; nothing is done when one of them does not exist.
async fn letters(pipeline: &Pipeline, chosen: &Chosen) -> Result<Vec<DeadLetter>, Failure> {
    if chosen.all {
        return all(pipeline).await;
    }
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for text in &chosen.keys {
        let key = parse_key(&pipeline.selection, text)?;
        match pipeline.backplane.dead.get(&pipeline.id, &key).await? {
            Some(letter) => found.push(letter),
            None => unknown.push(text.as_str()),
        }
    }
    if unknown.is_empty() {
        return Ok(found);
    }
    let what = format!("pipeline {} has no dead letter {}", pipeline.id, unknown.join(", "));
    Err(Failure::data(what).advise(format!("see `fides dead list {}`", pipeline.id)))
}

fn keys(letters: Vec<DeadLetter>) -> Vec<Key> {
    letters.into_iter().map(|letter| letter.key).collect()
}

/// Sends the host's present state and waits until it is written, in portions that fit the lanes even if every record
/// were a message of its own: while a portion is published nobody consumes.
async fn replay(app: &App, pipeline: &Pipeline, which: &Which, keys: &[Key], stop: &Stop) -> Result<Exit, Failure> {
    let before = pipeline.backplane.dead.count(&pipeline.id).await?;
    fides_runtime::drain(app, &pipeline.id, stop.token()).await?;
    let mut published = 0;
    for portion in keys.chunks(pipeline.limits.lane_depth_batches_max.max(1) as usize) {
        published += dead::replay(pipeline, portion).await?;
        let drained = fides_runtime::drain(app, &pipeline.id, stop.token()).await;
        if let Some(exit) = stop.exit() {
            return Ok(exit);
        }
        drained?;
    }
    let remaining = pipeline.backplane.dead.count(&pipeline.id).await?;
    let result = json!({ "published": published, "before": before, "remaining": remaining });
    told(which, &result, || {
        let letters = present::count(remaining, "dead letter");
        Text::of(format_args!("{} sent again; {letters} remain.", present::count(published, "record")))
    })?;
    Ok(if remaining == 0 { Exit::Ok } else { Exit::DeadLetters })
}

fn told(which: &Which, value: &serde_json::Value, text: impl FnOnce() -> Text) -> Result<(), Failure> {
    if which.json { present::json(value) } else { present::out(text()) }
}

fn list(which: &Which, letters: &[DeadLetter]) -> Result<Exit, Failure> {
    told(which, &letters.iter().map(as_json).collect(), || {
        let mut table = Table::new(&["key", "since", "reason", "attempts"], 3).wrapped();
        for letter in letters {
            table.row([
                letter.key.to_string(),
                present::instant(letter.first_ms),
                letter.reason.clone(),
                present::number(u64::from(letter.attempts)),
            ]);
        }
        let mut text = Text::default();
        if !letters.is_empty() {
            text.line(table);
        }
        text.line(format_args!("{}.", present::count(letters.len() as u64, "dead letter")));
        text
    })?;
    Ok(Exit::Ok)
}

fn show(which: &Which, letters: &[DeadLetter]) -> Result<Exit, Failure> {
    told(which, &letters.iter().map(as_json).collect(), || {
        let mut text = Text::default();
        for letter in letters {
            let DeadLetter { key, reason, record, attempts, first_ms, last_ms, trace } = letter;
            let (first, last) = (present::instant(*first_ms), present::instant(*last_ms));
            text.line(present::strong(key));
            text.line(format_args!("  reason    {reason}"));
            text.line(format_args!("  record    {record}"));
            text.line(format_args!("  attempts  {attempts}, from {first} to {last}"));
            if let Some(trace) = trace {
                text.line(format_args!("  trace     {trace}"));
            }
        }
        text
    })?;
    Ok(Exit::Ok)
}

/// The letter with its key, which its own JSON leaves to the store.
fn as_json(letter: &DeadLetter) -> serde_json::Value {
    let DeadLetter { key, reason, record, attempts, first_ms, last_ms, trace } = letter;
    json!({
        "key": key.to_string(), "reason": reason, "record": record, "attempts": attempts,
        "first_ms": first_ms, "last_ms": last_ms, "trace": trace,
    })
}
