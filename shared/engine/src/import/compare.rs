//! One page of the host against the buckets of the same keys (DESIGN §9).

use std::collections::VecDeque;

use fides_core::bucket::Digest;
use fides_core::decide::{Comparison, compare};
use fides_core::port::{BucketInfo, HashStore};
use fides_core::{Fault, Key, KeyRange, Mark, Page, PipelineId};

/// Buckets whose marks are read at a time: about 16,000 marks.
const BUCKETS_MAX: usize = 32;

/// What is left to do for a part of a page.
#[derive(Debug, Default)]
pub struct Work {
    /// Positions of records to send.
    pub changed: Vec<usize>,
    /// Their marks, aligned.
    pub known: Vec<Option<Mark>>,
    /// Records that need not be sent.
    pub unchanged: usize,
    /// Of those, how many were skipped by a summary.
    pub summarised: usize,
    /// Records that equal a dead letter.
    pub dead: usize,
    /// Marked keys that the listing did not meet.
    pub unmet: Vec<(Key, Mark)>,
    /// Summaries that this comparison proves, to be stored by compare-and-set on the write counter.
    pub summaries: Vec<(BucketInfo, u128)>,
}

/// A bucket and its rows on a page.
type Part = (BucketInfo, std::ops::Range<usize>);

/// A run of rows on a page, with the keys that it covers.
#[derive(Clone, Debug)]
struct Segment {
    /// Rows `from..to`.
    rows: std::ops::Range<usize>,
    /// Every key that those rows prove present or absent.
    keys: KeyRange,
    /// How many buckets it is made of.
    buckets: usize,
}

/// The key right after `key`, in byte order.
fn successor(key: &Key) -> Key {
    let mut bytes = key.as_bytes().to_vec();
    bytes.push(0);
    Key::from_bytes(bytes)
}

/// The keys that a page proves: from after `after` (or the range's start) to its last key (or the range's end).
pub(super) fn covered(range: &KeyRange, after: Option<&Key>, page: &Page) -> KeyRange {
    KeyRange {
        lower: after.map(successor).or_else(|| range.lower.clone()),
        upper: page.next.as_ref().map(successor).or_else(|| range.upper.clone()),
    }
}

/// A comparison of a page with the marks of the keys it covers, in parts: a page that ends a listing may cover far more
/// marks than it has records. Buckets whose summary equals the digest of the page's records are passed without reading
/// their marks.
pub struct Comparing<'a> {
    hashes: &'a dyn HashStore,
    pipeline: &'a PipelineId,
    page: &'a Page,
    /// What summaries told.
    told: Option<Work>,
    pending: VecDeque<(Segment, Vec<Part>)>,
}

impl<'a> Comparing<'a> {
    /// Compares `page`, which is what `range` holds after `after`.
    ///
    /// The write counters are read here, *before* the marks, so that a summary is only stored if no mark of its bucket
    /// moved since (the store compares them again).
    pub async fn begin(
        hashes: &'a dyn HashStore,
        pipeline: &'a PipelineId,
        range: &KeyRange,
        after: Option<&Key>,
        page: &'a Page,
    ) -> Result<Self, Fault> {
        let covered = covered(range, after, page);
        let buckets = hashes.buckets(pipeline, &covered).await?;
        let mut told = Work::default();
        let mut pending: VecDeque<(Segment, Vec<Part>)> = VecDeque::new();
        if buckets.is_empty() {
            pending.push_back((Segment { rows: 0..page.len(), keys: covered.clone(), buckets: 0 }, Vec::new()));
        }
        let mut row = 0;
        for bucket in buckets {
            let end = bucket.range.upper.as_ref().map_or(page.len(), |upper| row + rows_below(page, row, upper));
            let rows = row..end;
            row = end;
            let whole = within(&bucket.range, &covered);
            if whole && bucket.summary.is_some_and(|summary| summary == digest(page, rows.clone())) {
                told.unchanged += rows.len();
                told.summarised += rows.len();
                continue;
            }
            let keys = intersection(&bucket.range, &covered);
            let part = whole.then_some((bucket, rows.clone()));
            let joins = |segment: &Segment| segment.keys.upper == keys.lower && segment.buckets < BUCKETS_MAX;
            if let Some((segment, parts)) = pending.back_mut().filter(|(segment, _)| joins(segment)) {
                segment.rows.end = rows.end;
                segment.keys.upper = keys.upper;
                segment.buckets += 1;
                parts.extend(part);
            } else {
                pending.push_back((Segment { rows, keys, buckets: 1 }, part.into_iter().collect()));
            }
        }
        Ok(Self { hashes, pipeline, page, told: Some(told), pending })
    }

    /// The next part, in key order; `None` when the whole page is compared.
    pub async fn next(&mut self) -> Result<Option<Work>, Fault> {
        if let Some(told) = self.told.take() {
            return Ok(Some(told));
        }
        let Some((segment, parts)) = self.pending.pop_front() else { return Ok(None) };
        let page = self.page;
        let marks = self.hashes.range(self.pipeline, &segment.keys).await?;
        let found = compare(page, segment.rows.start, segment.rows.end, &marks);
        let clean = parts.into_iter().filter(|(bucket, rows)| clean(&found, bucket, rows));
        let proven = |(bucket, rows)| {
            let digest = digest(page, rows);
            (bucket, digest)
        };
        Ok(Some(Work {
            summaries: clean.map(proven).collect(),
            changed: found.changed,
            known: found.known,
            unchanged: found.unchanged,
            summarised: 0,
            dead: found.dead,
            unmet: found.unmet,
        }))
    }
}

/// Whether every record of a bucket equalled its mark and none was missing: only then may its summary be stored.
fn clean(found: &Comparison, bucket: &BucketInfo, rows: &std::ops::Range<usize>) -> bool {
    found.dead == 0
        && !rows.is_empty()
        && !found.changed.iter().any(|at| rows.contains(at))
        && !found.unmet.iter().any(|(key, _)| bucket.range.contains(key.as_bytes()))
}

fn digest(page: &Page, rows: std::ops::Range<usize>) -> u128 {
    let mut digest = Digest::default();
    for at in rows {
        digest.add(page.keys.get(at), page.fingerprints[at]);
    }
    digest.finish()
}

/// How many rows from `row` on lie below `upper`.
fn rows_below(page: &Page, row: usize, upper: &Key) -> usize {
    let (mut low, mut high) = (row, page.len());
    while low < high {
        let middle = low.midpoint(high);
        if page.keys.get(middle) < upper.as_bytes() {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low - row
}

fn within(inner: &KeyRange, outer: &KeyRange) -> bool {
    lower_max(inner, outer) == inner.lower.as_ref() && upper_min(inner, outer) == inner.upper.as_ref()
}

fn intersection(a: &KeyRange, b: &KeyRange) -> KeyRange {
    KeyRange { lower: lower_max(a, b).cloned(), upper: upper_min(a, b).cloned() }
}

fn lower_max<'a>(a: &'a KeyRange, b: &'a KeyRange) -> Option<&'a Key> {
    a.lower.as_ref().max(b.lower.as_ref())
}

fn upper_min<'a>(a: &'a KeyRange, b: &'a KeyRange) -> Option<&'a Key> {
    match (&a.upper, &b.upper) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.as_ref().or(b.as_ref()),
    }
}
