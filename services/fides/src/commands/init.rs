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
  fides init shop.sqlite | less")]
pub struct Args {
    /// The host: a SQLite file, or a postgres:// or mysql:// url.
    #[arg(value_name = "SQLITE-FILE|URL")]
    host: String,
    /// Write to a new file instead of stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub async fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    global.log_alone();
    let host = fides_runtime::named_host(&args.host).map_err(Failure::usage)?;
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
