//! Reading: base and tail of a bucket in one step, merged here.

use fides_core::port::BucketInfo;
use fides_core::{Fault, Key, KeyRange, Mark, PipelineId};
use redis::Value;

use super::value::{self, Header};
use super::{Buckets, HEADERS_MAX, READS_MAX, ROUTE_ATTEMPTS_MAX};
use crate::portions;

/// A bucket as it is stored.
pub(super) struct Bucket {
    pub lower: Vec<u8>,
    /// Where the next bucket begins.
    pub upper: Option<Vec<u8>>,
    /// As far as it was asked for.
    pub base: Vec<u8>,
    pub tail: Vec<u8>,
    /// What it takes, where that was asked for.
    bytes: u64,
}

impl Bucket {
    pub(super) fn marks(&self) -> Result<Vec<(Key, Mark)>, Fault> {
        let upper = self.upper.as_deref();
        let inside = |key: &[u8]| self.lower.as_slice() <= key && upper.is_none_or(|upper| key < upper);
        value::marks(&self.base, &self.tail, inside)
    }

    fn range(&self) -> KeyRange {
        let lower = (!self.lower.is_empty()).then(|| Key::from_bytes(self.lower.as_slice()));
        KeyRange { lower, upper: self.upper.as_deref().map(Key::from_bytes) }
    }
}

/// What a script says of a group of keys.
pub(super) enum Answer {
    /// It does not lie in one bucket.
    Misrouted,
    /// The pipeline has no bucket yet.
    Nothing,
    /// Its bucket.
    Stored(Bucket),
}

/// What a walk reads of each bucket.
#[derive(Clone, Copy)]
enum What {
    Lowers,
    Headers,
    Marks,
    Sizes,
}

impl What {
    /// Its name in the script, and how many buckets one script reads.
    fn script(self) -> (&'static str, usize) {
        match self {
            Self::Lowers => ("lowers", 4 * HEADERS_MAX),
            Self::Headers => ("headers", HEADERS_MAX),
            Self::Marks => ("marks", READS_MAX),
            Self::Sizes => ("sizes", READS_MAX),
        }
    }
}

impl Buckets {
    /// The marks of keys, aligned.
    pub(super) async fn marks_of(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<Vec<Option<Mark>>, Fault> {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by_key(|&at| &keys[at]);
        let key = |at: usize| &keys[order[at]];
        let mut marks = vec![None; keys.len()];
        let mut pending: Vec<_> = std::iter::once(0..keys.len()).collect();
        for _ in 0..ROUTE_ATTEMPTS_MAX {
            let groups = self.directories.groups(pipeline, pending.drain(..), usize::MAX, key);
            let spans: Vec<_> = groups.iter().map(|group| (key(group.start), key(group.end - 1))).collect();
            let answers =
                portions::all(spans.chunks(READS_MAX).map(|spans| self.read(pipeline, spans)).collect()).await?;
            for (group, answer) in groups.into_iter().zip(answers.into_iter().flatten()) {
                let held = match answer {
                    Answer::Misrouted => {
                        pending.push(group);
                        continue;
                    }
                    Answer::Nothing => continue,
                    Answer::Stored(Bucket { base, tail, .. }) => {
                        let wanted: Vec<&Key> = group.clone().map(key).collect();
                        value::find(&base, &tail, &wanted)?
                    }
                };
                for &at in &order[group] {
                    let found = held.binary_search_by(|(stored, _)| stored.cmp(&keys[at]));
                    marks[at] = found.ok().map(|found| held[found].1);
                }
            }
            if pending.is_empty() {
                return Ok(marks);
            }
            let spans: Vec<_> = pending.iter().map(|group| (key(group.start), key(group.end - 1))).collect();
            self.learn(pipeline, &spans).await?;
        }
        Err(restless(pipeline))
    }

    /// What is stored for groups of keys, by their smallest and largest.
    pub(super) async fn read(&self, pipeline: &PipelineId, groups: &[(&Key, &Key)]) -> Result<Vec<Answer>, Fault> {
        let answers = self
            .run(pipeline, &self.scripts.read, |call| {
                for (smallest, largest) in groups {
                    call.arg(smallest.as_bytes()).arg(largest.as_bytes());
                }
            })
            .await?;
        if answers.is_empty() {
            return Ok(groups.iter().map(|_| Answer::Nothing).collect());
        }
        if answers.len() != 4 * groups.len() {
            return Err(self.link.strange("an answer has another length"));
        }
        let mut found = Vec::with_capacity(groups.len());
        let mut answers = answers.into_iter();
        while let (Some(lower), Some(upper), Some(base), Some(tail)) =
            (answers.next(), answers.next(), answers.next(), answers.next())
        {
            found.push(match (lower, base, tail) {
                (Value::BulkString(lower), Value::BulkString(base), Value::BulkString(tail)) => {
                    let upper = if let Value::BulkString(upper) = upper { Some(bound(upper)) } else { None };
                    Answer::Stored(Bucket { lower: bound(lower), upper, base, tail, bytes: 0 })
                }
                _ => Answer::Misrouted,
            });
        }
        Ok(found)
    }

    /// Learns the bounds between the smallest and the largest key of groups that lie in more than one bucket.
    pub(super) async fn learn(&self, pipeline: &PipelineId, groups: &[(&Key, &Key)]) -> Result<(), Fault> {
        let spans = groups.iter().map(|(smallest, largest)| {
            // Up to and with the largest key: the smallest key that is larger has one more byte.
            let end = Key::from_bytes([largest.as_bytes(), &[0]].concat());
            KeyRange { lower: Some((*smallest).clone()), upper: Some(end) }
        });
        portions::all(spans.map(|span| self.learn_span(pipeline, span)).collect()).await?;
        Ok(())
    }

    async fn learn_span(&self, pipeline: &PipelineId, span: KeyRange) -> Result<(), Fault> {
        let mut lowers = Vec::new();
        self.walk(pipeline, &span, What::Lowers, |bucket| {
            lowers.push(bucket.lower);
            Ok(())
        })
        .await?;
        self.directories.learn(pipeline, lowers);
        Ok(())
    }

    pub(super) async fn marks_in(&self, pipeline: &PipelineId, range: &KeyRange) -> Result<Vec<(Key, Mark)>, Fault> {
        let mut marks = Vec::new();
        self.walk(pipeline, range, What::Marks, |bucket| {
            marks.extend(bucket.marks()?.into_iter().filter(|(key, _)| range.contains(key.as_bytes())));
            Ok(())
        })
        .await?;
        Ok(marks)
    }

    pub(super) async fn infos_in(&self, pipeline: &PipelineId, range: &KeyRange) -> Result<Vec<BucketInfo>, Fault> {
        let mut infos = Vec::new();
        self.walk(pipeline, range, What::Headers, |bucket| {
            let (header, _) = Header::read(&bucket.base)?;
            infos.push(BucketInfo { range: bucket.range(), writes: header.writes, summary: header.summary });
            Ok(())
        })
        .await?;
        Ok(infos)
    }

    /// Marks that may exist, and bytes. The header of a base has their number; where patches came since, they are counted.
    pub(super) async fn sizes(&self, pipeline: &PipelineId) -> Result<(u64, u64), Fault> {
        let (mut present, mut bytes) = (0, 0);
        self.walk(pipeline, &KeyRange::ALL, What::Sizes, |bucket| {
            bytes += bucket.bytes;
            let (header, _) = Header::read(&bucket.base)?;
            present += if header.tail_bytes == 0 {
                u64::from(header.present)
            } else {
                bucket.marks()?.iter().filter(|(_, mark)| mark.may_exist()).count() as u64
            };
            Ok(())
        })
        .await?;
        Ok((present, bytes))
    }

    /// Visits the buckets that overlap a range, in key order, portion by portion. Each portion is one state of the store;
    /// a bucket that is split between two of them is met once.
    async fn walk(
        &self,
        pipeline: &PipelineId,
        range: &KeyRange,
        what: What,
        mut visit: impl FnMut(Bucket) -> Result<(), Fault> + Send,
    ) -> Result<(), Fault> {
        let end = range.upper.as_ref().map_or(b"+".to_vec(), |upper| [b"(.", upper.as_bytes()].concat());
        let mut from = range.lower.as_ref().map_or(Vec::new(), |lower| lower.as_bytes().to_vec());
        loop {
            let (buckets, next) = self.portion(pipeline, &from, &end, what.script()).await?;
            buckets.into_iter().try_for_each(&mut visit)?;
            match next {
                Some(next) if range.upper.as_ref().is_none_or(|upper| next.as_slice() < upper.as_bytes()) => {
                    from = next;
                }
                _ => return Ok(()),
            }
        }
    }

    /// The buckets from the one that holds `from`, and where the next one begins.
    async fn portion(
        &self,
        pipeline: &PipelineId,
        from: &[u8],
        end: &[u8],
        (what, most): (&str, usize),
    ) -> Result<(Vec<Bucket>, Option<Vec<u8>>), Fault> {
        let answer = self
            .run(pipeline, &self.scripts.walk, |call| {
                call.arg(from).arg(end).arg(most).arg(what);
            })
            .await?;
        Self::parse(answer).ok_or_else(|| self.link.strange("an answer has another form"))
    }

    fn parse(answer: Vec<Value>) -> Option<(Vec<Bucket>, Option<Vec<u8>>)> {
        let mut answer = answer.into_iter();
        let next = match answer.next()? {
            Value::BulkString(next) => Some(bound(next)),
            _ => None,
        };
        let mut buckets: Vec<Bucket> = Vec::with_capacity(answer.len() / 4);
        while let Some(found) = answer.next() {
            let (Value::BulkString(found), Value::BulkString(base), Value::BulkString(tail), Value::Int(bytes)) =
                (found, answer.next()?, answer.next()?, answer.next()?)
            else {
                return None;
            };
            let lower = bound(found);
            if let Some(before) = buckets.last_mut() {
                before.upper = Some(lower.clone());
            }
            buckets.push(Bucket { lower, upper: None, base, tail, bytes: bytes.cast_unsigned() });
        }
        if let Some(last) = buckets.last_mut() {
            last.upper.clone_from(&next);
        }
        Some((buckets, next))
    }
}

/// A member of the directory as a lower bound.
fn bound(mut member: Vec<u8>) -> Vec<u8> {
    member.drain(..member.len().min(1));
    member
}

/// The fault of a call that other clients never let through.
pub(super) fn restless(pipeline: &PipelineId) -> Fault {
    Fault::transient(format!("the buckets of pipeline {pipeline} change faster than they can be found"))
}
