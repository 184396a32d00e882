//! What is wrong with a configuration: every mistake at once, each with its place.
//!
//! No text of a secret may reach this module: it prints what it is given.

use std::fmt;
use std::path::PathBuf;

/// The exit status of a process that refuses its configuration (`EX_USAGE` of `sysexits.h`).
pub const EXIT_CODE: u8 = 64;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The file as a whole, where no line can be told.
    File(PathBuf),
    /// A line and column of the file, both counted from one.
    Line {
        /// The file, as it was named by the caller.
        file: PathBuf,
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// An environment variable that overrides the file.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Line { file, line, column } => write!(f, "{}:{line}:{column}", file.display()),
            Self::Variable(name) => write!(f, "{name}"),
        }
    }
}

impl serde::Serialize for Place {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A place together with the path of the value in the configuration, as `pipelines.orders.host`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// Where it was written.
    pub place: Place,
    /// Its path in the configuration; empty for the root.
    pub path: String,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    /// Where it is.
    pub spot: Spot,
    /// What was found there; never the text of a secret.
    pub found: String,
    /// What would have been right.
    pub expected: String,
    /// The known word that is nearest to the one that was found.
    pub nearest: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spot { place, path } = &self.spot;
        let gap = if path.is_empty() { "" } else { "  " };
        write!(f, "{place}{gap}{path}\n    found {}, expected {}", self.found, self.expected)?;
        match &self.nearest {
            Some(word) => write!(f, "; did you mean {word:?}?"),
            None => Ok(()),
        }
    }
}

/// Every mistake of a configuration, in the order of the file. A process that meets it prints it and exits with
/// [`EXIT_CODE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    pub(super) fn new(mut errors: Vec<ConfigError>) -> Self {
        errors.sort();
        errors.dedup();
        Self(errors)
    }

    /// The mistakes, in the order of the file; those of environment variables last.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n" };
            write!(f, "{gap}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
