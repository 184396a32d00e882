use async_trait::async_trait;

use crate::{Fault, Fingerprint, Key, KeyRange, Mark, PipelineId};

/// The marks of every record (DESIGN §9), in buckets of neighbouring keys.
#[async_trait]
pub trait HashStore: Send + Sync {
    /// The marks of `keys`, aligned.
    async fn get(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<Vec<Option<Mark>>, Fault>;

    /// The marks of a range, in key order.
    async fn range(&self, pipeline: &PipelineId, range: &KeyRange) -> Result<Vec<(Key, Mark)>, Fault>;

    /// The buckets that overlap a range, in key order.
    async fn buckets(&self, pipeline: &PipelineId, range: &KeyRange) -> Result<Vec<BucketInfo>, Fault>;

    /// Advances marks, each only if it is newer than the stored one, or as new: a compare-and-set inside the store
    /// (L4). Counts a write in every bucket touched and drops its summary. Durable when it returns (L11).
    async fn advance(&self, pipeline: &PipelineId, marks: &[(Key, Mark)]) -> Result<(), Fault>;

    /// Forgets the fingerprints of `keys`, keeping their versions (L5); a key without a mark stays without.
    async fn distrust(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<(), Fault>;

    /// Gives marks another fingerprint, each only if it is still exactly the mark that is named: a compare-and-set inside the
    /// store, so that nothing that came in between is hidden (L4, L5). Version and what is held stay. Keys are distinct.
    /// Counts a write in every bucket touched and drops its summary. Durable when it returns. Repeating it is harmless.
    async fn relabel(&self, pipeline: &PipelineId, labels: &[Relabel]) -> Result<(), Fault>;

    /// Stores the summary of the bucket that starts at `lower`, if `writes` is still its write counter.
    /// Only after a comparison in which *every* record of the bucket equalled its mark, and none was missing.
    async fn summarise(&self, pipeline: &PipelineId, summaries: &[(BucketInfo, u128)]) -> Result<(), Fault>;

    /// How many marks may exist at the target, and how many bytes the pipeline's marks take.
    async fn size(&self, pipeline: &PipelineId) -> Result<(u64, u64), Fault>;

    /// Names this incarnation of the store; `None` when it is new (L11). `create` gives it a name. Where a store can lose its
    /// data under a process, its handle works with the incarnation that this has named last: once the store is another one
    /// every call about marks is an Unavailable fault, until somebody asks here again.
    async fn incarnation(&self) -> Result<Option<String>, Fault>;

    /// Names a new incarnation, if it has no name yet.
    async fn create_incarnation(&self, name: &str) -> Result<(), Fault>;
}

/// A mark that is to say the same of another fingerprint: the mapping was edited, and the document is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relabel {
    /// The record's key.
    pub key: Key,
    /// The mark as it was when it was compared.
    pub before: Mark,
    /// The fingerprint that takes the place of the mark's.
    pub fingerprint: Fingerprint,
}

impl Relabel {
    /// The mark that takes the place of the one before.
    pub fn after(&self) -> Mark {
        Mark { fingerprint: Some(self.fingerprint), ..self.before }
    }
}

/// A bucket without its marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketInfo {
    /// The keys that it holds.
    pub range: KeyRange,
    /// Counts every write.
    pub writes: u64,
    /// [`crate::bucket::Digest`] of the records that equalled the marks, if such a comparison was made since.
    pub summary: Option<u128>,
}
