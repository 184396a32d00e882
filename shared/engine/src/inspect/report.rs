//! What a comparison of host and target found.

use fides_core::Key;
use serde::Serialize;

/// Differing keys that are remembered; more are settled and counted only.
const REMEMBERED_MAX: usize = 10_000;

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
    /// Of the differences, those that Fides knows of: the next import sends them, they are dead letters, or the pipeline
    /// never deletes. All others came from somewhere else.
    pub known: u64,
    /// The differences, in key order, as many as are remembered.
    pub differences: Vec<Difference>,
}

impl VerifyReport {
    /// Whether both sides are the same.
    pub fn is_equal(&self) -> bool {
        self.differing() == 0
    }

    /// On how many keys the sides disagree.
    pub fn differing(&self) -> u64 {
        self.missing + self.extra + self.different + self.unmappable
    }

    /// On how many of them without Fides knowing: nothing mends them unless somebody asks for it. An alert.
    pub fn drifted(&self) -> u64 {
        self.differing().saturating_sub(self.known)
    }

    pub(super) fn add(&mut self, other: VerifyReport) {
        self.host_records += other.host_records;
        self.excluded += other.excluded;
        self.target_records += other.target_records;
        self.equal += other.equal;
        self.missing += other.missing;
        self.extra += other.extra;
        self.different += other.different;
        self.unmappable += other.unmappable;
        self.in_flight += other.in_flight;
        self.known += other.known;
        let room = REMEMBERED_MAX.saturating_sub(self.differences.len());
        self.differences.extend(other.differences.into_iter().take(room));
    }

    /// Counts a difference; whether it is to be explained and remembered.
    pub(super) fn count(&mut self, kind: DifferenceKind, known: bool) -> bool {
        self.known += u64::from(known);
        match kind {
            DifferenceKind::Missing => self.missing += 1,
            DifferenceKind::Extra => self.extra += 1,
            DifferenceKind::Different => self.different += 1,
            DifferenceKind::Unmappable => self.unmappable += 1,
        }
        self.differences.len() < REMEMBERED_MAX
    }
}

/// One key on which the sides disagree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The key, for people.
    pub key: String,
    /// How they disagree.
    pub kind: DifferenceKind,
    /// Whether Fides knows of it: see [`VerifyReport::known`].
    pub known: bool,
    /// Which fields, if both sides have the record.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldDifference>,
    /// Why a record cannot be mapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip)]
    pub(super) encoded: Key,
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
