//! Merging a tail into its base, and splitting what has become too large.

use fides_core::{Fault, Key, Mark, PipelineId, bucket};

use super::read::Bucket;
use super::value::Header;
use super::{Buckets, member};
use crate::portions;

/// A lower bound, and the marks from there.
type Piece<'a> = (&'a [u8], &'a [(Key, Mark)]);

/// Bytes that may have come to a tail while its bucket was split: each piece gets all of them.
const SINCE_BYTES_MAX: usize = 1 << 16;

impl Buckets {
    /// Merges the buckets that hold `keys` (sorted), each once. Where another client was first nothing happens: what it
    /// left is merged when it has grown again.
    pub(super) async fn compact(&self, pipeline: &PipelineId, keys: &[&Key]) -> Result<(), Fault> {
        let groups = self.directories.groups(pipeline, std::iter::once(0..keys.len()), usize::MAX, |at| keys[at]);
        portions::all(groups.into_iter().map(|group| self.compact_one(pipeline, keys[group.start])).collect()).await?;
        Ok(())
    }

    async fn compact_one(&self, pipeline: &PipelineId, key: &Key) -> Result<(), Fault> {
        let Some(found) = self.bucket_of(pipeline, key).await? else { return Ok(()) };
        let (header, _) = Header::read(&found.base)?;
        if found.tail.is_empty() {
            return Ok(());
        }
        let marks = found.marks()?;
        let pieces = self.pieces(&found, &marks);
        self.run(pipeline, &self.scripts.store, |call| {
            call.arg(member(&found.lower)).arg(&header.generation[..]).arg(found.tail.len()).arg(SINCE_BYTES_MAX);
            for (lower, marks) in &pieces {
                let present = marks.iter().filter(|(_, mark)| mark.may_exist()).count() as u32;
                call.arg(member(lower)).arg(&present.to_be_bytes()[..]).arg(bucket::encode(marks));
            }
        })
        .await?;
        self.directories.learn(pipeline, pieces.into_iter().map(|(lower, _)| lower.to_vec()));
        Ok(())
    }

    /// The bucket as it is, or when it is too large in pieces of about half the bound, with their lower bounds.
    fn pieces<'a>(&self, found: &'a Bucket, marks: &'a [(Key, Mark)]) -> Vec<Piece<'a>> {
        if marks.len() <= self.marks_max {
            return vec![(&found.lower, marks)];
        }
        let count = marks.len().div_ceil(self.marks_max.div_ceil(2));
        let bound = |at: usize| marks.len() * at / count;
        let piece = |at: usize| {
            let piece = &marks[bound(at)..bound(at + 1)];
            (if at == 0 { found.lower.as_slice() } else { piece[0].0.as_bytes() }, piece)
        };
        (0..count).map(piece).collect()
    }
}
