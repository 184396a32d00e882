//! Writing: patches are appended to the tails of buckets.

use std::ops::Range;

use fides_core::{Fault, PipelineId, bucket};
use redis::FromRedisValue;

use super::value::Patch;
use super::{Buckets, HEADERS_MAX, ROUTE_ATTEMPTS_MAX};
use crate::portions;

/// Entries that are appended before what has grown is merged.
const ENTRIES_MAX: usize = 16_384;

/// What a script says of a group.
#[derive(Clone, Copy)]
enum Answer {
    /// It does not lie in one bucket.
    Misrouted,
    /// It was appended; the bytes of tail and base are now these.
    Appended { tail: u64, base: u64 },
}

impl Buckets {
    /// Appends a patch to every bucket that it touches.
    pub(super) async fn append(&self, pipeline: &PipelineId, patch: &Patch) -> Result<(), Fault> {
        for from in (0..patch.len()).step_by(ENTRIES_MAX) {
            self.append_part(pipeline, patch, from..patch.len().min(from + ENTRIES_MAX)).await?;
        }
        Ok(())
    }

    async fn append_part(&self, pipeline: &PipelineId, patch: &Patch, part: Range<usize>) -> Result<(), Fault> {
        let mut pending = vec![part];
        for _ in 0..ROUTE_ATTEMPTS_MAX {
            let groups = self.directories.groups(pipeline, pending.drain(..), self.marks_max, |at| patch.key(at));
            let portions = groups.chunks(HEADERS_MAX).map(|portion| self.append_groups(pipeline, patch, portion));
            let answers = portions::all(portions.collect()).await?;
            let mut grown = Vec::new();
            for (group, answer) in groups.into_iter().zip(answers.into_iter().flatten()) {
                match answer {
                    Answer::Misrouted => pending.push(group),
                    Answer::Appended { tail, base } if self.outgrown(tail, base) => grown.push(patch.key(group.start)),
                    Answer::Appended { .. } => {}
                }
            }
            self.compact(pipeline, &grown).await?;
            if pending.is_empty() {
                return Ok(());
            }
            let spans: Vec<_> =
                pending.iter().map(|group| (patch.key(group.start), patch.key(group.end - 1))).collect();
            self.learn(pipeline, &spans).await?;
        }
        Err(super::read::restless(pipeline))
    }

    async fn append_groups(
        &self,
        pipeline: &PipelineId,
        patch: &Patch,
        groups: &[Range<usize>],
    ) -> Result<Vec<Answer>, Fault> {
        // What has no marks cannot be distrusted or relabelled: only an advance makes the first bucket.
        let create = matches!(patch, Patch::Advance(_));
        let answers = self
            .run(pipeline, &self.scripts.append, |call| {
                call.arg(create).arg(bucket::encode(&[]));
                for group in groups {
                    call.arg(patch.key(group.start).as_bytes())
                        .arg(patch.key(group.end - 1).as_bytes())
                        .arg(patch.encode(group.clone()));
                }
            })
            .await?;
        if answers.is_empty() && !create {
            return Ok(vec![Answer::Appended { tail: 0, base: 0 }; groups.len()]);
        }
        let answers: Vec<i64> = FromRedisValue::from_redis_value(redis::Value::Array(answers))
            .map_err(|error| self.link.failed(error.into()))?;
        if answers.len() != 2 * groups.len() {
            return Err(self.link.strange("an answer has another length"));
        }
        let answer = |pair: &[i64]| match pair {
            [tail, base] if *tail >= 0 => Answer::Appended { tail: tail.cast_unsigned(), base: base.cast_unsigned() },
            _ => Answer::Misrouted,
        };
        Ok(answers.chunks(2).map(answer).collect())
    }

    /// Whether a tail is long enough to be worth a merge: 2 KiB and a quarter of the base.
    pub(super) fn outgrown(&self, tail: u64, base: u64) -> bool {
        tail > (2 * self.marks_max as u64).max(base / 4)
    }
}
