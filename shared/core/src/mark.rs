use crate::{Fingerprint, Version};

/// What the target is known to hold for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// The newest version that was decided for the key.
    pub version: Version,
    /// The host record behind that state. `None` means: not known, send again (a deleted record, or an attempt whose
    /// outcome nobody knows, L5).
    pub fingerprint: Option<Fingerprint>,
    /// What became of it.
    pub held: Held,
}

/// What the target holds for a marked key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Held {
    /// The document of this version.
    Present,
    /// Nothing: deleted, or excluded by the mapping's `when` (then the fingerprint says for which record).
    Absent,
    /// This version is a dead letter; the target may hold an older one. Imports do not send it again.
    Dead,
}

impl Mark {
    /// The mark of a document that the target holds.
    pub fn present(version: Version, fingerprint: Fingerprint) -> Self {
        Self { version, fingerprint: Some(fingerprint), held: Held::Present }
    }

    /// The mark of a deleted record.
    pub fn tombstone(version: Version) -> Self {
        Self { version, fingerprint: None, held: Held::Absent }
    }

    /// Whether the target may hold a document under this key.
    pub fn may_exist(&self) -> bool {
        self.held != Held::Absent
    }
}
