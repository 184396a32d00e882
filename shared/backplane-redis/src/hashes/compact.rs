//! Merging tails into their bases, and splitting what has become too large.

use fides_core::{Fault, Key, Mark, PipelineId, bucket};

use super::read::{Answer, Bucket};
use super::value::Header;
use super::{Buckets, READS_MAX, member};
use crate::portions;

/// Bytes that may have come to a tail while its bucket was split: each piece gets all of them.
const SINCE_BYTES_MAX: usize = 1 << 16;
/// Buckets that one script stores; the pieces of one bucket are stored together in any case.
const STORES_MAX: usize = 64;

/// A lower bound, and the marks from there.
type Piece<'a> = (&'a [u8], &'a [(Key, Mark)]);

/// A bucket as it was read, and its marks.
struct Merged {
    bucket: Bucket,
    generation: [u8; 8],
    marks: Vec<(Key, Mark)>,
}

impl Merged {
    /// The bucket as it is, or when it has more than `most` marks in pieces of about half of that.
    fn pieces(&self, most: usize) -> Vec<Piece<'_>> {
        let marks = self.marks.as_slice();
        let count = if marks.len() <= most { 1 } else { marks.len().div_ceil(most.div_ceil(2)) };
        let bound = |at: usize| marks.len() * at / count;
        let piece = |at: usize| {
            let piece = &marks[bound(at)..bound(at + 1)];
            (if at == 0 { self.bucket.lower.as_slice() } else { piece[0].0.as_bytes() }, piece)
        };
        (0..count).map(piece).collect()
    }
}

impl Buckets {
    /// Merges the buckets that hold `keys` (sorted), each once. Where another client was first nothing happens: what it
    /// left is merged when it has grown again.
    pub(super) async fn compact(&self, pipeline: &PipelineId, keys: &[&Key]) -> Result<(), Fault> {
        let groups = self.directories.groups(pipeline, std::iter::once(0..keys.len()), usize::MAX, |at| keys[at]);
        let firsts: Vec<_> = groups.into_iter().map(|group| (keys[group.start], keys[group.start])).collect();
        portions::all(firsts.chunks(READS_MAX).map(|firsts| self.compact_portion(pipeline, firsts)).collect()).await?;
        Ok(())
    }

    async fn compact_portion(&self, pipeline: &PipelineId, firsts: &[(&Key, &Key)]) -> Result<(), Fault> {
        let mut merged: Vec<Merged> = Vec::with_capacity(firsts.len());
        for answer in self.read(pipeline, firsts).await? {
            let Answer::Stored(bucket) = answer else { continue };
            let (header, _) = Header::read(&bucket.base)?;
            // Two keys may turn out to be in one bucket, and another client may have been here.
            if header.tail_bytes > 0 && merged.last().is_none_or(|last| last.bucket.lower != bucket.lower) {
                merged.push(Merged { generation: header.generation, marks: bucket.marks()?, bucket });
            }
        }
        let mut from = 0;
        while from < merged.len() {
            let mut pieces = Vec::new();
            let mut stored = 0;
            while from < merged.len() && stored < STORES_MAX {
                let of = merged[from].pieces(self.marks_max);
                stored += of.len();
                pieces.push((&merged[from], of));
                from += 1;
            }
            self.store(pipeline, &pieces).await?;
        }
        Ok(())
    }

    async fn store(&self, pipeline: &PipelineId, buckets: &[(&Merged, Vec<Piece<'_>>)]) -> Result<(), Fault> {
        self.run(pipeline, &self.scripts.store, |call| {
            call.arg(SINCE_BYTES_MAX);
            for (merged, pieces) in buckets {
                let (lower, tail) = (&merged.bucket.lower, &merged.bucket.tail);
                call.arg(member(lower)).arg(&merged.generation[..]).arg(tail.len()).arg(pieces.len());
                for (lower, marks) in pieces {
                    let present = marks.iter().filter(|(_, mark)| mark.may_exist()).count() as u32;
                    call.arg(member(lower)).arg(&present.to_be_bytes()[..]).arg(bucket::encode(marks));
                }
            }
        })
        .await?;
        let lowers = buckets.iter().flat_map(|(_, pieces)| pieces.iter().map(|(lower, _)| lower.to_vec()));
        self.directories.learn(pipeline, lowers);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fides_core::port::HashStore;
    use fides_core::{Fingerprint, KeyRange, Value, Version};

    use super::*;
    use crate::link::Link;
    use crate::names::Names;
    use crate::settings::Settings;

    /// Another client splits a bucket that was read as a whole.
    #[tokio::test]
    async fn a_split_drops_the_summary_and_lets_no_earlier_one_in() {
        let url = std::env::var("FIDES_TEST_REDIS_URL").expect(
            "FIDES_TEST_REDIS_URL is not set: run this with `tests/parts/redis cargo test -p fides-backplane-redis`",
        );
        let link = Arc::new(Link::open(&Settings::new(url.into())).await.unwrap());
        let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let names = Names::new(&format!("test-split-{}", seconds.as_nanos())).unwrap();
        let [large, small] = [1_000, 8].map(|marks_max| Buckets::new(link.clone(), names.clone(), marks_max));
        let pipeline = PipelineId::new("p");
        let mark = |id: i64| {
            (
                Key::encode(&[Value::I64(id)]).unwrap(),
                Mark::present(Version::scan(1, 1), Fingerprint(id.unsigned_abs().into())),
            )
        };
        let marks: Vec<_> = (0..60).map(mark).collect();
        large.advance(&pipeline, &marks).await.unwrap();
        let whole = large.buckets(&pipeline, &KeyRange::ALL).await.unwrap();
        let summaries: Vec<_> = whole.iter().cloned().map(|bucket| (bucket, 7)).collect();
        large.summarise(&pipeline, &summaries).await.unwrap();
        assert_eq!(large.buckets(&pipeline, &KeyRange::ALL).await.unwrap()[0].summary, Some(7));

        small.compact(&pipeline, &[&marks[0].0]).await.unwrap();
        let pieces = async || large.buckets(&pipeline, &KeyRange::ALL).await.unwrap();
        assert_eq!((whole.len(), pieces().await.len()), (1, 15));
        assert!(pieces().await.iter().all(|piece| piece.summary.is_none()), "it spoke of a larger range");
        large.summarise(&pipeline, &summaries).await.unwrap();
        assert!(pieces().await.iter().all(|piece| piece.summary.is_none()), "a piece is another bucket");
        assert_eq!(large.range(&pipeline, &KeyRange::ALL).await.unwrap(), marks);
    }
}
