use fides_core::{Held, Mark};
use fides_engine::inspect::{Explanation, explain, parse_key};
use fides_runtime::Access;

use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::present::{self, Text};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fides explain cities 2657896
  fides explain names 2657896/Arab/زوريخ        a composite key, its parts joined by /
  fides explain names '[\"a/b\", 7]'              …or as JSON, where a part holds a /
  fides explain cities 2657896 --json | jq .verdict")]
pub struct Args {
    /// The pipeline.
    pipeline: String,
    /// The record's key.
    #[arg(allow_hyphen_values = true)]
    key: String,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

pub async fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let config = global.load()?;
    global.log_if_asked(&config);
    let (_app, pipeline) = super::open_one(&config, Access::Read, &args.pipeline).await?;
    let key = parse_key(&pipeline.selection, &args.key)?;
    let story = explain(&pipeline, &key).await?;
    if args.json {
        present::json(&story)?;
    } else {
        present::out(told(&args.pipeline, &story))?;
    }
    Ok(Exit::Ok)
}

fn told(pipeline: &str, story: &Explanation) -> Text {
    let mut text = Text::default();
    text.line(format_args!("{pipeline} {}: {}", story.key, present::strong(&story.verdict)));
    let mut line = |label: &str, value: &str| text.line(format_args!("  {label:<9} {value}"));
    line("host", story.host.as_deref().unwrap_or("no such record"));
    let document = story.document.as_deref().or(story.unmapped.as_deref());
    line("document", document.unwrap_or("none: there is no record"));
    line("target", story.target.as_deref().unwrap_or("no such document"));
    line("mark", &told_mark(story));
    line("lane", &format!("{}, {} waiting", story.lane, present::count(story.lane_depth, "message")));
    if let Some(letter) = &story.dead {
        line("dead", &format!("since {}: {}", present::instant(letter.first_ms), letter.reason));
    }
    text
}

fn told_mark(story: &Explanation) -> String {
    let Some(Mark { version, held, fingerprint }) = story.mark else {
        return "none: nothing was ever written under this key".to_owned();
    };
    let held = match held {
        Held::Present => "the target holds version",
        Held::Absent => "the target holds nothing since version",
        Held::Dead if story.dead.is_none() => "a dropped dead letter was version",
        Held::Dead => "a dead letter is version",
    };
    let equal = match fingerprint {
        _ if story.mark_is_current => "; the host's record is the same",
        None => "; the next import sends the record whatever it is",
        Some(_) if story.host.is_some() => "; the host's record is another",
        Some(_) => "",
    };
    format!("{held} {version}{equal}")
}
