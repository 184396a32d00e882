use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{Log, LogFormat};

/// Sends logs to standard error: pretty on a terminal, JSON elsewhere, unless the configuration says which. `RUST_LOG`
/// overrides the level. Called once.
pub fn install(log: &Log) {
    // lapin logs the bodies of returned messages, which are records; its faults reach us as faults.
    // Who asked for what is told at every level.
    let default = EnvFilter::new(format!("{},lapin=off,tokio_cron_scheduler=warn,fides::audit=info", log.level));
    let filter = EnvFilter::try_from_default_env().unwrap_or(default);
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Pretty => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = if json { builder.json().flatten_event(true).try_init() } else { builder.compact().try_init() };
    if installed.is_err() {
        tracing::debug!("logging was installed before");
    }
}
