//! The command line. Each command's arguments are beside its code, in `commands`.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use fides_runtime::config::{self, Config, Log, LogFormat};
use fides_runtime::{Stream, Telemetry};
use tracing::Level;

use crate::commands::{
    approve, asked, check, dashboard, dead, demo, explain, init, order, plan, rebuild, reimport, schema, status, sync,
    verify,
};
use crate::exit::{self, Exit};
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  fides demo                                   see it work on real data, in a few seconds
  fides init shop.sqlite --out fides.yaml      write a configuration for a host
  fides check --connect                        is it right, and are both sides there?
  fides plan cities                            what would happen; writes nothing
  fides sync --once                            bring the targets in step now
  fides sync                                   keep them in step
  fides verify cities                          prove it
  fides reimport cities --full                 send everything again, beside a running sync or without one";

/// Keeps a target store in step with a host store that it does not own.
#[derive(Debug, Parser)]
#[command(name = "fides", version, arg_required_else_help = true, after_help = format!("{EXAMPLES}\n\n{}", exit::TABLE))]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Debug, Args)]
pub struct Global {
    /// The configuration.
    #[arg(short, long, global = true, value_name = "FILE", default_value = "fides.yaml", env = "FIDES_CONFIG")]
    pub config: PathBuf,
    /// Log to stderr from this level on. Without it only a `sync` that stays logs, at the level of the configuration.
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<LogLevel>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show it on real data: a first import, edits on the host, a delta, a proof.
    Demo(demo::Args),
    /// Write a commented configuration for a host.
    Init(init::Args),
    /// Check the configuration, and with --connect also hosts and targets. Changes nothing.
    Check(check::Args),
    /// Say what an import would do, with samples. Writes nothing.
    Plan(plan::Args),
    /// Bring targets in step with their hosts, once or for good.
    Sync(sync::Args),
    /// Say where every pipeline stands; also beside a running sync.
    Status(status::Args),
    /// Serve the status page: where everything stands, dead letters, imports on demand.
    Dashboard(dashboard::Args),
    /// Compare host and target record by record, and with --repair mend what differs.
    Verify(verify::Args),
    /// Learn anew from both sides what the target holds, without sending it.
    RebuildHashes(rebuild::Args),
    /// Tell one record's story: host, mapping, target, mark, queue, dead letter.
    Explain(explain::Args),
    /// Records that could not be delivered: list, show, replay, drop.
    Dead(dead::Args),
    /// Import now: whole pipelines, or single keys or ranges of keys.
    Reimport(reimport::Args),
    /// Stop working on pipelines until they are resumed. What is queued stays queued.
    #[command(after_help = order::PAUSE)]
    Pause(order::Args),
    /// Go on with paused pipelines.
    #[command(after_help = order::RESUME)]
    Resume(order::Args),
    /// Search targets for what hosts no longer have, and delete it.
    #[command(after_help = order::CLEANUP)]
    Cleanup(order::Args),
    /// Compare both sides, and send what differs again.
    #[command(after_help = order::REPAIR)]
    Repair(order::Args),
    /// Let a refused clean-up delete, once and up to a ceiling.
    Approve(approve::Args),
    /// End what is under way for pipelines, and what waits. Deletes nothing.
    #[command(after_help = order::CANCEL)]
    Cancel(order::Args),
    /// What was asked of pipelines, by whom, and what became of it.
    Commands(asked::Args),
    /// Print the JSON Schema of the configuration, for editors.
    Schema(schema::Args),
}

impl Global {
    /// Reads the configuration.
    pub fn load(&self) -> Result<Config, Failure> {
        load(&self.config)
    }

    /// Commands that end by themselves say what happened; their log is for those who ask for it.
    pub fn log_if_asked(&self, config: &Config) {
        if self.log_level.is_some() {
            self.log(config);
        }
    }

    /// The same for commands without a configuration.
    pub fn log_alone(&self) {
        if let Some(level) = self.log_level {
            let log = Log { format: LogFormat::Auto, level: level.into() };
            fides_runtime::install_logging("fides", &log, Stream::Err);
        }
    }

    /// Tells all that a process that stays tells.
    pub fn tell(&self, config: &Config) -> Result<Telemetry, Failure> {
        let mut config = config.clone();
        config.log = self.leveled(&config);
        Telemetry::install("fides", &config, Stream::Err).map_err(|fault| Failure::new(Exit::Usage, fault.to_string()))
    }

    /// Logs as the configuration says, or at the level that was asked for.
    fn log(&self, config: &Config) {
        fides_runtime::install_logging("fides", &self.leveled(config), Stream::Err);
    }

    fn leveled(&self, config: &Config) -> Log {
        let level = self.log_level.map_or(config.log.level, Level::from);
        Log { level, ..config.log }
    }
}

/// Reads a configuration; where there is none, says how to get one.
pub fn load(path: &Path) -> Result<Config, Failure> {
    if !path.exists() {
        let what = format!("there is no configuration {}", path.display());
        let advice = "name one with --config FILE or FIDES_CONFIG, or write one with `fides init`";
        return Err(Failure::new(Exit::Usage, what).advise(advice));
    }
    Ok(config::load(path)?)
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Level::ERROR,
            LogLevel::Warn => Level::WARN,
            LogLevel::Info => Level::INFO,
            LogLevel::Debug => Level::DEBUG,
            LogLevel::Trace => Level::TRACE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound_and_every_command_has_examples() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        for subcommand in command.get_subcommands().filter(|found| found.get_name() != "help") {
            let help = subcommand.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:"), "{}", subcommand.get_name());
        }
    }
}
