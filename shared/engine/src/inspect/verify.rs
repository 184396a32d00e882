//! The proof: both sides compared record by record, field by field.

use std::collections::BTreeMap;

use fides_core::{Fault, Key, Page, Shape, Value};
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;

use super::walk::{Found, Side, merge};
use crate::soft::Flag;
use crate::{Mapping, Pipeline, Progress};

/// Differing keys that are remembered; more are counted only.
const REMEMBERED_MAX: usize = 10_000;
/// A value in a difference is shown up to this many characters.
const SHOWN_CHARS_MAX: usize = 200;

/// What a comparison of host and target found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Records of the host.
    pub host_records: u64,
    /// Of those, records that the mapping leaves out.
    pub excluded: u64,
    /// Documents of the target.
    pub target_records: u64,
    /// Documents that are what the mapping makes of the host's record.
    pub equal: u64,
    /// Records without a document.
    pub missing: u64,
    /// Documents without a record.
    pub extra: u64,
    /// Documents that differ.
    pub different: u64,
    /// Records that cannot be mapped; the target cannot be judged for them.
    pub unmappable: u64,
    /// Differences that were gone when they were looked at again.
    pub in_flight: u64,
    /// The differences, in key order, as many as are remembered.
    pub differences: Vec<Difference>,
}

impl VerifyReport {
    /// Whether both sides are the same.
    pub fn is_equal(&self) -> bool {
        self.missing + self.extra + self.different + self.unmappable == 0
    }

    fn add(&mut self, other: VerifyReport) {
        self.host_records += other.host_records;
        self.excluded += other.excluded;
        self.target_records += other.target_records;
        self.equal += other.equal;
        self.missing += other.missing;
        self.extra += other.extra;
        self.different += other.different;
        self.unmappable += other.unmappable;
        let room = REMEMBERED_MAX.saturating_sub(self.differences.len());
        self.differences.extend(other.differences.into_iter().take(room));
    }

    fn note(&mut self, kind: DifferenceKind, key: &[u8], fields: Vec<FieldDifference>, reason: Option<String>) {
        match kind {
            DifferenceKind::Missing => self.missing += 1,
            DifferenceKind::Extra => self.extra += 1,
            DifferenceKind::Different => self.different += 1,
            DifferenceKind::Unmappable => self.unmappable += 1,
        }
        if self.differences.len() < REMEMBERED_MAX {
            let encoded = Key::from_bytes(key);
            self.differences.push(Difference { key: encoded.to_string(), kind, fields, reason, encoded });
        }
    }
}

/// One key on which the sides disagree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The key, for people.
    pub key: String,
    /// How they disagree.
    pub kind: DifferenceKind,
    /// Which fields, if both sides have the record.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldDifference>,
    /// Why a record cannot be mapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip)]
    encoded: Key,
}

impl Difference {
    /// The key itself.
    pub fn key(&self) -> &Key {
        &self.encoded
    }
}

/// How the sides disagree on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DifferenceKind {
    /// The host has it, the target has not.
    Missing,
    /// The target has it, the host has not, or its mapping leaves it out.
    Extra,
    /// Both have it, with other values.
    Different,
    /// The host's record cannot be mapped.
    Unmappable,
}

/// One field that differs, both sides as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldDifference {
    /// Its name.
    pub field: String,
    /// What the mapping makes of the host's record.
    pub expected: String,
    /// What the target holds.
    pub found: String,
}

/// Compares the whole host with the whole target. What differs is looked at again in newer snapshots, so that changes in
/// flight are not taken for differences. Writes nothing. Memory: a page of each side per range.
pub async fn verify(pipeline: &Pipeline, progress: &Progress) -> Result<VerifyReport, Fault> {
    progress.enter("comparing both sides");
    let (host, target) = futures::try_join!(pipeline.peek_host(), pipeline.open_target())?;
    let ranges = host.plan(pipeline.limits.host_partitions.max(1)).await?;
    let reports: BTreeMap<usize, VerifyReport> =
        futures::stream::iter(ranges.into_iter().enumerate().map(|(at, range)| {
            let (host, target) = (Side::new(host.clone(), &range), Side::new(target.clone(), &range));
            async move { Ok::<_, Fault>((at, verify_range(pipeline, progress, host, target).await?)) }
        }))
        .buffer_unordered(pipeline.limits.host_partitions.max(1))
        .try_collect()
        .await?;
    drop((host, target));
    let mut report = VerifyReport::default();
    for part in reports.into_values() {
        report.add(part);
    }
    look_again(pipeline, &mut report).await?;
    Ok(report)
}

async fn verify_range(
    pipeline: &Pipeline,
    progress: &Progress,
    mut host: Side,
    mut target: Side,
) -> Result<VerifyReport, Fault> {
    let mut report = VerifyReport::default();
    let mut mapping = Mapping::new(&*pipeline.mapper, &pipeline.selection, &pipeline.limits);
    let flag = Flag::of(pipeline);
    merge(&mut host, &mut target, |expected, found| {
        Progress::add(&progress.read, usize::from(expected.is_some()));
        let found = standing(flag.as_ref(), expected, found);
        judge(&mut report, pipeline.shape(), &mut mapping, expected, found);
    })
    .await?;
    Ok(report)
}

/// What the target holds under a key, but for a document that says itself that its record is gone.
fn standing<'a>(flag: Option<&Flag<'_>>, expected: Option<Found<'_>>, found: Option<Found<'a>>) -> Option<Found<'a>> {
    found.filter(|(page, at)| expected.is_some() || flag.is_none_or(|flag| !flag.is_set(page, *at)))
}

/// Judges one key.
fn judge(
    report: &mut VerifyReport,
    shape: &Shape,
    mapping: &mut Mapping<'_>,
    expected: Option<Found<'_>>,
    found: Option<Found<'_>>,
) {
    report.host_records += u64::from(expected.is_some());
    report.target_records += u64::from(found.is_some());
    let key = |(page, at): Found<'_>| page.keys.get(at).to_vec();
    let mapped = match expected.map(|(page, at)| mapping.map(page, at)) {
        Some(Err(fault)) => {
            let key = expected.map(key).unwrap_or_default();
            return report.note(DifferenceKind::Unmappable, &key, Vec::new(), Some(fault.to_string()));
        }
        Some(Ok(document)) => {
            report.excluded += u64::from(document.is_none());
            document
        }
        None => None,
    };
    match (mapped, found) {
        (None, None) => {}
        (Some(_), None) => {
            report.note(DifferenceKind::Missing, &expected.map(key).unwrap_or_default(), Vec::new(), None);
        }
        (None, Some(found)) => report.note(DifferenceKind::Extra, &key(found), Vec::new(), None),
        (Some(document), Some((page, at))) => match fields_that_differ(shape, &document, page, at) {
            Ok(fields) if fields.is_empty() => report.equal += 1,
            Ok(fields) => report.note(DifferenceKind::Different, page.keys.get(at), fields, None),
            Err(fault) => {
                report.note(DifferenceKind::Different, page.keys.get(at), Vec::new(), Some(fault.to_string()));
            }
        },
    }
}

fn fields_that_differ(shape: &Shape, document: &[u8], page: &Page, at: usize) -> Result<Vec<FieldDifference>, Fault> {
    if page.rows.get(at) == document {
        return Ok(Vec::new());
    }
    let expected = fides_core::decode_row(document)?;
    let found = page.values(at)?;
    let absent = Value::Absent;
    Ok(shape
        .fields
        .iter()
        .enumerate()
        .map(|(at, field)| (field, expected.get(at).unwrap_or(&absent), found.get(at).unwrap_or(&absent)))
        .filter(|(_, expected, found)| expected != found && !fides_format::same(expected, found))
        .map(|(field, expected, found)| FieldDifference {
            field: field.name.clone(),
            expected: shown(expected),
            found: shown(found),
        })
        .collect())
}

fn shown(value: &Value<'_>) -> String {
    let text = fides_format::to_json(value);
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Fetches every remembered difference again from both sides and keeps those that are still there.
async fn look_again(pipeline: &Pipeline, report: &mut VerifyReport) -> Result<(), Fault> {
    if report.differences.is_empty() {
        return Ok(());
    }
    let before = std::mem::take(&mut report.differences);
    for difference in &before {
        match difference.kind {
            DifferenceKind::Missing => report.missing -= 1,
            DifferenceKind::Extra => report.extra -= 1,
            DifferenceKind::Different => report.different -= 1,
            DifferenceKind::Unmappable => report.unmappable -= 1,
        }
    }
    let (host, target) = futures::try_join!(pipeline.peek_host(), pipeline.open_target())?;
    let mut again = VerifyReport::default();
    let flag = Flag::of(pipeline);
    let mut mapping = Mapping::new(&*pipeline.mapper, &pipeline.selection, &pipeline.limits);
    for portion in before.chunks(pipeline.limits.batch_records_max.max(1)) {
        let keys: Vec<Key> = portion.iter().map(|difference| difference.encoded.clone()).collect();
        let (left, right) = futures::try_join!(host.fetch(&keys), target.fetch(&keys))?;
        for key in &keys {
            let find = |page: &Page| page.find(key.as_bytes());
            let (expected, found) = (find(&left).map(|at| (&left, at)), find(&right).map(|at| (&right, at)));
            let found = standing(flag.as_ref(), expected, found);
            judge(&mut again, pipeline.shape(), &mut mapping, expected, found);
        }
    }
    report.in_flight = before.len() as u64 - again.differences.len() as u64;
    report.equal += again.equal;
    report.missing += again.missing;
    report.extra += again.extra;
    report.different += again.different;
    report.unmappable += again.unmappable;
    report.differences = again.differences;
    Ok(())
}
