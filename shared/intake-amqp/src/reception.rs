use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fides_core::Fault;

/// Whether the events of a queue are received, as its consumer knows it. Clones are the same.
#[derive(Clone, Debug)]
pub struct Reception(Arc<Mutex<Result<(), Fault>>>);

impl Default for Reception {
    /// Of a consumer that has not begun.
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Err(Fault::unavailable("events are not received yet")))))
    }
}

impl Reception {
    /// Why they are not. Asks nobody: it never waits.
    pub fn state(&self) -> Result<(), Fault> {
        self.held().clone()
    }

    pub(crate) fn became(&self, state: Result<(), Fault>) {
        *self.held() = state;
    }

    /// No code panics while it holds it, so a poisoned one is whole.
    fn held(&self) -> MutexGuard<'_, Result<(), Fault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
