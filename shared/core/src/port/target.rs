use std::sync::Arc;

use async_trait::async_trait;

use super::Snapshot;
use crate::{Change, Fault, Lane, Namespace, Selection, Shape, Table};

/// The store that is kept in step.
#[async_trait]
pub trait Target: Send + Sync {
    /// How a displaced writer's late write is made harmless (L6).
    fn fencing(&self) -> Fencing;

    /// What the store says of a namespace; `None` when there is no such namespace.
    async fn describe(&self, namespace: &Namespace) -> Result<Option<Table>, Fault>;

    /// Everything that stands in the way of writing documents of `shape`: missing tables, columns and rights, columns that
    /// nobody fills or may fill, keys that would not be read back. Changes nothing. Where it finds nothing,
    /// [`Target::prepare`] with the same arguments succeeds; a fault says only that the store could not be asked.
    async fn inspect(&self, sink: &Sink, shape: &Shape, create: bool) -> Result<Vec<Obstacle>, Fault>;

    /// Makes sure that documents of `shape` can be written: creates the namespace when `create` and it is missing, and
    /// whatever fencing needs. What [`Target::inspect`] finds is one Permanent fault that names all of it.
    async fn prepare(&self, sink: &Sink, shape: &Shape, create: bool) -> Result<(), Fault>;

    /// Makes `token` the only one that may write `lane` from now on (L6): once this returns, no write of an earlier
    /// token lands any more. Tokens ascend; an older one is refused with a Permanent fault.
    async fn claim(&self, sink: &Sink, lane: &Lane, token: u64) -> Result<(), Fault>;

    /// The token that was last accepted for `lane`; `None` when the lane was never claimed, the namespace is not there yet,
    /// or was made anew since. Kept with the documents, so that it tells of a pipeline whose own state was lost, and of a
    /// target that was (L11): where it tells less than was claimed, everything is compared anew, whatever the fencing is.
    async fn claimed(&self, sink: &Sink, lane: &Lane) -> Result<Option<u64>, Fault>;

    /// Writes changes durably, in batches as large as the store likes; one outcome per change, aligned. Keys are
    /// distinct. [`crate::Op::Reject`] never arrives here. Applying a change again is harmless.
    async fn apply(&self, write: &Write<'_>, changes: &[Change]) -> Vec<Outcome>;

    /// Opens a state of the namespace as documents: the selection's columns are the shape's fields.
    async fn snapshot(&self, sink: &Sink, selection: &Selection) -> Result<Arc<dyn Snapshot>, Fault>;
}

/// Where a pipeline writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// The pipeline, for fencing rows.
    pub pipeline: crate::PipelineId,
    /// The target namespace.
    pub namespace: Namespace,
    /// A column that holds the version, for conditional writes; 16 bytes as 32 hex digits.
    pub version_field: Option<String>,
}

/// One write: to where, in which shape, as whom.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// Where to.
    pub sink: &'a Sink,
    /// Fields of the documents.
    pub shape: &'a Shape,
    /// The lane whose changes these are.
    pub lane: &'a Lane,
    /// The token that [`Target::claim`] accepted.
    pub token: u64,
}

/// What became of one change.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Durable.
    Applied,
    /// The target holds a newer version.
    Stale,
    /// Nobody knows (timeout, connection lost during a commit): the mark's fingerprint must go (L5).
    Unknown(Fault),
    /// Not written, for certain.
    Failed(Fault),
}

/// How a target keeps a displaced writer out (L6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fencing {
    /// A row with the lane's token is checked inside the write's transaction.
    LaneToken,
    /// Every write is conditional on the version.
    Conditional,
    /// A new owner waits out the lease and the longest write.
    WaitOut,
}

/// Something that stands in the way of writing a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What was found and what is needed; the namespace is known to whoever asked.
    pub what: String,
    /// What the user can do.
    pub advice: Option<String>,
}

impl Obstacle {
    /// An obstacle that says by itself what is needed.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), advice: None }
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    /// All obstacles of a namespace as one Permanent fault; nothing when there is none.
    pub fn refuse(namespace: &Namespace, obstacles: &[Self]) -> Result<(), Fault> {
        if obstacles.is_empty() {
            return Ok(());
        }
        let what: Vec<&str> = obstacles.iter().map(|obstacle| obstacle.what.as_str()).collect();
        let fault = Fault::permanent(format!("table {namespace}: {}", what.join("; ")));
        let mut advice: Vec<&str> = obstacles.iter().filter_map(|obstacle| obstacle.advice.as_deref()).collect();
        advice.dedup();
        Err(if advice.is_empty() { fault } else { fault.advise(advice.join("; ")) })
    }
}
