use std::sync::Arc;

use fides_core::{Fault, PipelineId};

/// Names of keys. What is in braces decides a key's place in a cluster, and is one thing for everything that a script
/// touches together.
#[derive(Clone)]
pub(crate) struct Names(Arc<str>);

impl Names {
    pub(crate) fn new(prefix: &str) -> Result<Self, Fault> {
        if prefix.is_empty() || prefix.contains(['{', '}']) {
            return Err(Fault::permanent(format!("'{prefix}' cannot begin the names of keys in Redis"))
                .advise("choose a prefix that is not empty and has no braces"));
        }
        Ok(Self(prefix.into()))
    }

    /// The name of the store's incarnation (L11).
    pub(crate) fn incarnation(&self) -> String {
        self.state("incarnation")
    }

    /// A key of the state store.
    pub(crate) fn state(&self, what: &str) -> String {
        format!("{}:{{fides}}:{what}", self.0)
    }

    /// A key of a pipeline.
    pub(crate) fn of(&self, pipeline: &PipelineId, what: &str) -> String {
        format!("{}:{{{pipeline}}}:{what}", self.0)
    }
}
