use async_trait::async_trait;

use crate::{Fault, PipelineId};

/// Small durable state: runs, cursors, fences, leases, versions.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// The entry under `key`.
    async fn get(&self, key: &str) -> Result<Option<Entry>, Fault>;

    /// Puts an entry if `expect` holds (compare-and-set); the new revision, or `None` when it did not hold.
    async fn put(&self, key: &str, value: &[u8], expect: Expect) -> Result<Option<u64>, Fault>;

    /// Removes an entry if there is one.
    async fn remove(&self, key: &str) -> Result<(), Fault>;

    /// Entries whose keys start with `prefix` and sort after `after`, in key order, at most `limit`.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Entry)>, Fault>;

    /// Takes or renews a lease for `ttl_ms` on the store's clock; `None` while someone else holds it. The token rises
    /// whenever the holder changes, and is never used twice, also after the lease ended.
    async fn lease(&self, key: &str, holder: &str, ttl_ms: u64) -> Result<Option<Lease>, Fault>;

    /// Gives a lease back early.
    async fn release(&self, key: &str, holder: &str) -> Result<(), Fault>;

    /// Draws the next position of a pipeline: greater than every one drawn before (DESIGN §5).
    async fn next_position(&self, pipeline: &PipelineId) -> Result<u64, Fault>;

    /// Milliseconds since 1970 on the store's clock.
    async fn now_ms(&self) -> Result<u64, Fault>;
}

/// A stored value and its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Rises with every put.
    pub revision: u64,
    /// The value.
    pub value: Vec<u8>,
}

/// Precondition of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No entry yet.
    Absent,
    /// The entry has this revision.
    Revision(u64),
    /// Whatever is there.
    Any,
}

/// A held lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Rises with every change of holder: a fencing token (L6).
    pub token: u64,
}
