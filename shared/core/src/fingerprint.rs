use std::fmt;

/// 128-bit hash of a host record's canonical bytes, seeded with the mapping's revision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Fingerprint(pub u128);

/// Hashes the canonical bytes of one record (xxh3-128). `seed` is the mapping's revision, so that an edited mapping
/// changes every fingerprint.
pub fn fingerprint(row: &[u8], seed: u64) -> Fingerprint {
    Fingerprint(xxhash_rust::xxh3::xxh3_128_with_seed(row, seed))
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
