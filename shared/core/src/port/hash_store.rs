use async_trait::async_trait;

use crate::{Fault, Key, KeyRange, Mark, PipelineId};

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

    /// Stores the summary of the bucket that starts at `lower`, if `writes` is still its write counter.
    /// Only after a comparison in which *every* record of the bucket equalled its mark, and none was missing.
    async fn summarise(&self, pipeline: &PipelineId, summaries: &[(BucketInfo, u128)]) -> Result<(), Fault>;

    /// How many marks may exist at the target, and how many bytes the pipeline's marks take.
    async fn size(&self, pipeline: &PipelineId) -> Result<(u64, u64), Fault>;

    /// Names this incarnation of the store; `None` when it is new (L11). `create` gives it a name.
    async fn incarnation(&self) -> Result<Option<String>, Fault>;

    /// Names a new incarnation, if it has no name yet.
    async fn create_incarnation(&self, name: &str) -> Result<(), Fault>;
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
