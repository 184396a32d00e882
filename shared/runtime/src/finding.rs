use std::fmt;

use fides_core::port::{Concern, Fencing, Obstacle};
use fides_core::{Fault, FaultKind, Namespace};
use serde::Serialize;

use crate::config::{self, Config, Place};

/// Something that a user should mend (an error) or know (a warning), with its place in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whether it stops the pipeline.
    pub severity: Severity,
    /// Place in the configuration: `pipelines.orders.from`.
    pub path: String,
    /// Where that was written: a line of the file, or a variable.
    pub place: Option<Place>,
    /// What was found, and what was expected.
    pub message: String,
    /// What can be done.
    pub advice: Option<String>,
    /// Whether waiting may mend it: something cannot be reached.
    #[serde(skip)]
    pub unavailable: bool,
}

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It stops the pipeline.
    Error,
    /// It is worth knowing.
    Warning,
    /// It is as it should be, and was asked for.
    Note,
}

impl Finding {
    /// An error from a fault at a place.
    pub(crate) fn fault(path: impl Into<String>, fault: &Fault) -> Self {
        let unavailable = !matches!(fault.kind, FaultKind::Permanent | FaultKind::Deferred);
        let message = match &fault.source {
            Some(source) => format!("{}: {source}", fault.what),
            None => fault.what.clone(),
        };
        Self { advice: fault.advice.clone(), unavailable, ..Self::error(path, message) }
    }

    /// What a target says that stands in the way of writing a namespace.
    pub(crate) fn obstacle(path: &str, namespace: &Namespace, obstacle: Obstacle) -> Self {
        let message = format!("table {namespace} of the target: {}", obstacle.what);
        Self { advice: obstacle.advice, ..Self::error(path, message) }
    }

    /// What a host told of its log.
    pub(crate) fn concern(path: &str, concern: Concern) -> Self {
        let found = if concern.stops { Self::error(path, concern.what) } else { Self::warning(path, concern.what) };
        Self { advice: concern.mend, ..found }
    }

    /// The same; where a store cannot be reached, at the place of the store instead of the one that asked for it.
    pub(crate) fn of_store(self, section: &str, name: &str) -> Self {
        if self.unavailable { Self { path: format!("{section}.{name}"), ..self } } else { self }
    }

    /// An error.
    pub(crate) fn error(path: impl Into<String>, message: impl Into<String>) -> Self {
        let (severity, path, message) = (Severity::Error, path.into(), message.into());
        Self { severity, path, place: None, message, advice: None, unavailable: false }
    }

    /// A warning.
    pub(crate) fn warning(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(path, message) }
    }

    /// How a target keeps out what a displaced writer still sends (L6).
    pub(crate) fn fencing(target: &str, fencing: Fencing) -> Self {
        let how = match fencing {
            Fencing::LaneToken => "every write checks its lane's token in its own transaction",
            Fencing::Conditional => "every write is conditional on the version that the target holds",
            Fencing::WaitOut => "a new writer waits until the lease and the longest write of the one before have ended",
        };
        let note = Self::error(format!("targets.{target}"), format!("late writers are fenced off: {how} (L6)"));
        Self { severity: Severity::Note, ..note }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        write!(f, "{severity}: ")?;
        if let Some(place) = &self.place {
            write!(f, "{place}  ")?;
        }
        write!(f, "{}\n    {}", self.path, self.message)?;
        if let Some(advice) = &self.advice {
            write!(f, "\n    {advice}")?;
        }
        Ok(())
    }
}

/// Why the pipelines could not be started: everything that is wrong, at once.
#[derive(Clone, Debug)]
pub struct StartError {
    /// Every problem.
    pub findings: Vec<Finding>,
}

impl StartError {
    /// 69 when waiting may mend it all (something cannot be reached), else 64: the configuration does not fit the stores.
    pub fn exit_code(&self) -> u8 {
        if self.findings.iter().all(|finding| finding.unavailable) { 69 } else { config::EXIT_CODE }
    }
}

/// The findings, each once and with its place in the configuration.
pub(crate) fn located(config: &Config, findings: Vec<Finding>) -> Vec<Finding> {
    let mut located: Vec<Finding> = Vec::with_capacity(findings.len());
    for finding in findings {
        let place = finding.place.or_else(|| config.places.find(&finding.path).cloned());
        let finding = Finding { place, ..finding };
        if !located.contains(&finding) {
            located.push(finding);
        }
    }
    located
}

impl From<Finding> for StartError {
    fn from(finding: Finding) -> Self {
        Self { findings: vec![finding] }
    }
}

impl From<Vec<Finding>> for StartError {
    fn from(findings: Vec<Finding>) -> Self {
        Self { findings }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, finding) in self.findings.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}

impl std::error::Error for StartError {}
