//! How a process tells whether it lives, whether it can work, and what it has done: `/healthz`, `/readyz`, `/metrics`.
//!
//! *Alive* is about the runtime alone: it turns, or the process has to be replaced. *Ready* is about everything that the
//! process needs: a [`Part`] that waits for a broken broker is no reason to be restarted, and says so.

mod pulse;
mod respond;
mod serve;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pulse::Pulse;
pub use serve::serve;

/// What a part says before it has said anything.
const UNHEARD: &str = "it is starting";
/// Characters of a reason that are kept, so that an answer stays small (L10).
const REASON_CHARS_MAX: usize = 500;

/// What a process knows of its own health. Clones are the same health.
#[derive(Clone, Debug, Default)]
pub struct Health {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    parts: Mutex<BTreeMap<String, Part>>,
    pulse: Pulse,
}

/// Something that the process needs to work: a queue, a host, a target. Clones are the same part.
///
/// A part stays as it was told last, also when every handle to it is gone.
#[derive(Clone, Debug)]
pub struct Part {
    name: Arc<str>,
    /// Why it is not ready, if it is not.
    reason: Arc<Mutex<Option<String>>>,
}

/// A part that is not ready, and why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Waiting {
    /// Its name.
    pub part: String,
    /// What it waits for.
    #[serde(rename = "for")]
    pub reason: String,
}

impl Health {
    /// A health without parts, which is not ready: a process that has not said what it needs has not started.
    pub fn new() -> Self {
        Self::default()
    }

    /// The part of that name; when it is new, it is waiting.
    pub fn part(&self, name: impl Into<String>) -> Part {
        let mut parts = held(&self.inner.parts);
        let part =
            |name: &String| Part { name: name.as_str().into(), reason: Arc::new(Mutex::new(Some(UNHEARD.into()))) };
        parts.entry(name.into()).or_insert_with_key(part).clone()
    }

    /// What is not ready, by name; empty when the process is ready.
    pub fn waiting(&self) -> Vec<Waiting> {
        let parts = held(&self.inner.parts);
        if parts.is_empty() {
            return vec![Waiting { part: "process".into(), reason: UNHEARD.into() }];
        }
        let waiting = |part: &Part| Some(Waiting { part: part.name.to_string(), reason: held(&part.reason).clone()? });
        parts.values().filter_map(waiting).collect()
    }

    pub(crate) fn pulse(&self) -> &Pulse {
        &self.inner.pulse
    }
}

impl Part {
    /// It cannot work, for a reason that is shown to whoever asks: a [`Fault`](fides_core::Fault), which carries no
    /// secrets. Told as often as one likes; the log gets what changes.
    pub fn waiting(&self, reason: impl Display) {
        let reason = shortened(reason);
        let before = held(&self.reason).replace(reason.clone());
        if before.is_none() {
            tracing::warn!(part = &*self.name, reason, "not ready");
        } else if before.as_ref() != Some(&reason) {
            tracing::debug!(part = &*self.name, reason, "still not ready");
        }
    }

    /// It can work.
    pub fn ready(&self) {
        let before = held(&self.reason).take();
        if before.is_some() {
            tracing::info!(part = &*self.name, "ready");
        }
    }
}

/// What the mutex guards. No code panics while it holds one of these, so a poisoned one is whole.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The text, cut where it gets too long; no more of it is kept while it is written.
fn shortened(reason: impl Display) -> String {
    struct Short(String, usize);

    impl fmt::Write for Short {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for char in text.chars() {
                self.1 = self.1.checked_sub(1).ok_or(fmt::Error)?;
                self.0.push(char);
            }
            Ok(())
        }
    }

    let mut short = Short(String::new(), REASON_CHARS_MAX);
    if fmt::write(&mut short, format_args!("{reason}")).is_err() {
        short.0.push('…');
    }
    short.0
}
