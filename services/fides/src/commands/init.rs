use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::present;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fides init shop.sqlite --out fides.yaml
  fides init \"$HOST_URL\"                     # postgres://…: keep the password out of the shell's history
  fides init shop.sqlite | less
  fides init --events                          # SQLite hosts with `events: log`: triggers that tell of changes
  fides init --remove-events                   # and away with them")]
pub struct Args {
    /// The host: a SQLite file, or a postgres:// or mysql:// url.
    #[arg(value_name = "SQLITE-FILE|URL", required_unless_present_any = ["events", "remove_events"])]
    host: Option<String>,
    /// Write to a new file instead of stdout.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["events", "remove_events"])]
    out: Option<PathBuf>,
    /// Make triggers and an outbox in the SQLite hosts whose log the configuration follows. Harmless when repeated.
    #[arg(long, conflicts_with_all = ["host", "remove_events"])]
    events: bool,
    /// Remove triggers and outbox from every SQLite host of the configuration.
    #[arg(long, conflicts_with = "host")]
    remove_events: bool,
}

pub async fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let Some(host) = &args.host else {
        return if args.events { install(global).await } else { remove(global).await };
    };
    global.log_alone();
    let host = fides_runtime::named_host(host).map_err(Failure::usage)?;
    let folder = args.out.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let yaml = fides_runtime::init(&host, folder).await?;
    let Some(path) = &args.out else {
        present::out(&yaml)?;
        return Ok(Exit::Ok);
    };
    write_new(path, &yaml)?;
    present::note(&format!("wrote {}; next: fides --config {0} check --connect", path.display()));
    Ok(Exit::Ok)
}

/// Makes what tells of changes in SQLite hosts.
async fn install(global: &Global) -> Result<Exit, Failure> {
    let config = global.load()?;
    global.log_if_asked(&config);
    let done = fides_runtime::install_outboxes(&config).await?;
    if done.is_empty() {
        return Err(Failure::new(Exit::Usage, "no pipeline follows the log of a SQLite host")
            .advise("set `events: log` in a pipeline; other hosts keep a log of their own, or send events"));
    }
    for host in done {
        let (file, pipelines) = (host.path.display(), present::count(host.pipelines as u64, "pipeline"));
        let made = host.made.join(", ");
        let told = if made.is_empty() { "everything was there".to_owned() } else { format!("now tells of {made}") };
        present::out(format!("{file}: {told}; followed by {pipelines}\n"))?;
    }
    Ok(Exit::Ok)
}

/// Removes it again.
async fn remove(global: &Global) -> Result<Exit, Failure> {
    let config = global.load()?;
    global.log_if_asked(&config);
    let done = fides_runtime::remove_outboxes(&config).await?;
    if done.is_empty() {
        present::out("there was nothing to remove\n")?;
    }
    for path in done {
        present::out(format!("{}: triggers and outbox are removed\n", path.display()))?;
    }
    Ok(Exit::Ok)
}

/// A configuration that exists is somebody's work: it is not overwritten.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let written =
        OpenOptions::new().write(true).create_new(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::new(Exit::Usage, format!("{} exists already", path.display()))
            .advise("name another file with --out"),
        _ => Failure::new(Exit::Unavailable, format!("{} cannot be written: {error}", path.display())),
    })
}
