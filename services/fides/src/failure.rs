//! Why a command ended early, as people are told.

use std::io::{ErrorKind, Write};

use fides_core::Fault;
use fides_runtime::StartError;
use fides_runtime::config::ConfigErrors;

use crate::exit::Exit;

/// What ended a command, and the exit status that says so.
#[derive(Debug)]
pub struct Failure {
    /// The exit status.
    pub exit: Exit,
    /// `None` when there is nobody to tell: the reader of stdout went away.
    what: Option<String>,
    advice: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: Some(what.into()), advice: None }
    }

    /// Adds what the user can do.
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Data that a command was given does not fit: a key without a letter, say.
    pub fn data(what: impl Into<String>) -> Self {
        Self::new(Exit::BadData, what)
    }

    /// Something on the command line makes no sense.
    pub fn usage(fault: Fault) -> Self {
        Self { exit: Exit::Usage, ..fault.into() }
    }

    /// Writing to stdout failed. A reader that had enough (`fides status | head -1`) is no failure of ours.
    pub fn stdout(error: &std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self { exit: Exit::Ok, what: None, advice: None },
            _ => Self::new(Exit::Unavailable, format!("the result cannot be written: {error}")),
        }
    }

    /// What happened and what can be done, in one text.
    pub fn text(&self) -> String {
        let parts = [self.what.as_deref(), self.advice.as_deref()];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// Tells stderr: `fides: …`, with the advice on the next line.
    pub fn tell(&self) {
        let Some(what) = &self.what else { return };
        let mut text = format!("{} {what}\n", console::style("fides:").red().bold().for_stderr());
        if let Some(advice) = &self.advice {
            text.push_str("       ");
            text.push_str(advice);
            text.push('\n');
        }
        // Without stderr nobody can be told; the exit status still says it.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let what = match &fault.source {
            Some(source) => format!("{}: {source}", fault.what),
            None => fault.what,
        };
        Self { exit: Exit::of(fault.kind), what: Some(what), advice: fault.advice }
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::new(Exit::Usage, format!("the configuration cannot be used\n{errors}"))
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::new(Exit::of_start(error.exit_code()), format!("the pipelines cannot start\n{error}"))
    }
}
