use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What kind of failure an adapter met (L9). The adapter chooses; there is no blanket conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// May pass by itself: timeout, reset, deadlock, 500. Tried again with backoff; counts toward the breaker.
    Transient,
    /// The other side asked for patience; `after` is how long. Never trips the breaker.
    Throttled {
        /// How long the other side wants to be left alone.
        after: Duration,
    },
    /// The other side is not there, or refuses us: nothing is lost by waiting.
    Unavailable,
    /// Another change may resolve it: a unique or foreign-key violation.
    Deferred,
    /// This record, or this request, will never work as it is.
    Permanent,
}

impl FaultKind {
    /// Its name, where a machine reads it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Throttled { .. } => "throttled",
            Self::Unavailable => "unavailable",
            Self::Deferred => "deferred",
            Self::Permanent => "permanent",
        }
    }
}

/// A failure: its kind, what happened where, and what the user can do.
///
/// Secrets must not be put into any of its texts.
#[derive(Clone)]
pub struct Fault {
    /// Decides what happens next ([`crate::decide::disposition`]).
    pub kind: FaultKind,
    /// What happened, naming file, table, column or key.
    pub what: String,
    /// What the user can do, if anything.
    pub advice: Option<String>,
    /// The cause, for logs.
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Fault {
    /// A fault of the given kind.
    pub fn new(kind: FaultKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), advice: None, source: None }
    }

    /// [`FaultKind::Transient`]
    pub fn transient(what: impl Into<String>) -> Self {
        Self::new(FaultKind::Transient, what)
    }

    /// [`FaultKind::Unavailable`]
    pub fn unavailable(what: impl Into<String>) -> Self {
        Self::new(FaultKind::Unavailable, what)
    }

    /// [`FaultKind::Deferred`]
    pub fn deferred(what: impl Into<String>) -> Self {
        Self::new(FaultKind::Deferred, what)
    }

    /// [`FaultKind::Permanent`]
    pub fn permanent(what: impl Into<String>) -> Self {
        Self::new(FaultKind::Permanent, what)
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Puts a place before the text: "table shop.items: …".
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.what = format!("{place}: {}", self.what);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        if let Some(advice) = &self.advice {
            write!(f, " ({advice})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)
    }
}

impl std::error::Error for Fault {}
