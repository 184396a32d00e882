//! The server's program: see `--help`.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use fides_cosmos_server::server::Server;
use tokio::net::TcpListener;

const USAGE: &str = "\
usage: fides-cosmos-server [--listen ADDRESS:PORT] [--key KEY | --no-auth]

Microsoft's in-memory emulator of Cosmos DB behind HTTP, for tests. Prints `listening ADDRESS:PORT` when it
takes connections, and keeps everything in memory.

  --listen ADDRESS:PORT  where to; port 0 is any free one (127.0.0.1:0)
  --key KEY              the account's key, base64 (the environment's FIDES_TEST_COSMOS_KEY)
  --no-auth              takes requests without a signature";

struct Settings {
    listen: SocketAddr,
    key: Option<String>,
}

/// What the command line asks for; `None` asks for help.
fn settings(mut arguments: impl Iterator<Item = String>) -> Result<Option<Settings>, String> {
    let mut listen = "127.0.0.1:0".to_owned();
    let mut key = std::env::var("FIDES_TEST_COSMOS_KEY").ok();
    let mut open = false;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--listen" => listen = value()?,
            "--key" => key = Some(value()?),
            "--no-auth" => open = true,
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("unknown argument {other}")),
        }
    }
    let listen: SocketAddr = listen.parse().map_err(|error| format!("--listen {listen}: {error}"))?;
    if !listen.ip().is_loopback() {
        return Err(format!("--listen {listen}: a server for tests listens on loopback only"));
    }
    match (key, open) {
        (_, true) => Ok(Some(Settings { listen, key: None })),
        (None, false) => Err("one of --key and --no-auth is missing".to_owned()),
        (key, false) => Ok(Some(Settings { listen, key })),
    }
}

async fn run(settings: Settings) -> Result<(), Box<dyn Error + Send + Sync>> {
    let listener = TcpListener::bind(settings.listen).await?;
    let address = listener.local_addr()?;
    let server = Arc::new(Server::new(address, settings.key)?);
    let mut out = std::io::stdout();
    writeln!(out, "listening {address}")?;
    out.flush()?;
    server.serve(listener).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match settings(std::env::args().skip(1)) {
        Ok(Some(settings)) => settings,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(reason) => {
            eprintln!("error: {reason}\n\n{USAGE}");
            return ExitCode::from(64);
        }
    };
    match run(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
