use fides_runtime::config::{self, ConfigErrors};
use fides_runtime::{Finding, Severity};
use serde_json::json;

use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::present::{self, Text};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fides check                                  only the file
  fides check --connect                        also hosts, targets, tables, columns and keys
  fides check --connect --json | jq '.[] | select(.severity == \"error\")'")]
pub struct Args {
    /// Ask the hosts and the targets too.
    #[arg(long)]
    connect: bool,
    /// Print the findings as a JSON array.
    #[arg(long)]
    json: bool,
}

pub async fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    if args.json
        && let Err(errors) = config::load(&global.config)
    {
        present::json(&findings_of(&errors))?;
        return Ok(Exit::Usage);
    }
    let config = global.load()?;
    global.log_if_asked(&config);
    let findings = fides_runtime::check(&config, args.connect).await;
    if args.json {
        present::json(&findings)?;
    } else {
        present::out(told(&findings, args.connect, config.pipelines.len()))?;
    }
    Ok(exit(&findings))
}

/// 64 when something has to be mended, 69 when all that is wrong is that something cannot be reached.
fn exit(findings: &[Finding]) -> Exit {
    let errors: Vec<&Finding> = findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    match errors.as_slice() {
        [] => Exit::Ok,
        errors if errors.iter().all(|finding| finding.unavailable) => Exit::Unavailable,
        _ => Exit::Usage,
    }
}

fn told(findings: &[Finding], connect: bool, pipelines: usize) -> Text {
    let mut text = Text::default();
    for finding in findings {
        text.line(finding);
    }
    if exit(findings) == Exit::Ok {
        let pipelines = present::count(pipelines as u64, "pipeline");
        text.line(if connect {
            format!("The configuration is right, and both sides of {pipelines} are there.")
        } else {
            format!("The configuration is right: {pipelines}. Ask the hosts and targets too with --connect.")
        });
    }
    text
}

/// The mistakes of a file in the form of findings.
fn findings_of(errors: &ConfigErrors) -> serde_json::Value {
    let finding = |error: &config::ConfigError| {
        json!({
            "severity": "error",
            "path": error.spot.path,
            "place": error.spot.place.to_string(),
            "message": format!("found {}, expected {}", error.found, error.expected),
            "advice": error.nearest.as_ref().map(|word| format!("did you mean {word:?}?")),
        })
    };
    errors.iter().map(finding).collect()
}
