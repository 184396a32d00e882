//! What is kept of a target's tables between writes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fides_core::port::{Outcome, Sink};
use fides_core::{Fault, FaultKind, Namespace, Shape};

type Found<L> = HashMap<(Namespace, Option<String>, Shape), Arc<L>>;

/// How documents of each shape lie in their table, once that was looked up.
pub struct Layouts<L>(Mutex<Found<L>>);

impl<L> Default for Layouts<L> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<L> Layouts<L> {
    /// The layout of a shape, if it is known.
    pub fn get(&self, sink: &Sink, shape: &Shape) -> Option<Arc<L>> {
        self.found().get(&key(sink, shape)).cloned()
    }

    /// Keeps a layout.
    pub fn keep(&self, sink: &Sink, shape: &Shape, layout: L) -> Arc<L> {
        let layout = Arc::new(layout);
        self.found().insert(key(sink, shape), layout.clone());
        layout
    }

    /// Forgets those of a table, which is not what they say.
    pub fn forget(&self, table: &Namespace) {
        self.found().retain(|(namespace, ..), _| namespace != table);
    }

    fn found(&self) -> MutexGuard<'_, Found<L>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(sink: &Sink, shape: &Shape) -> (Namespace, Option<String>, Shape) {
    (sink.namespace.clone(), sink.version_field.clone(), shape.clone())
}

/// The outcomes of a write to a table without a layout: it is not what it was when it was prepared. No record is to blame,
/// so none becomes a dead letter.
pub fn unwritten(fault: Fault, count: usize) -> Vec<Outcome> {
    let kind = if fault.kind == FaultKind::Permanent { FaultKind::Unavailable } else { fault.kind };
    vec![Outcome::Failed(Fault { kind, ..fault }); count]
}
