use std::fmt;

/// Orders two states of one record (DESIGN §5): epoch, then position of the transaction, then place inside it.
///
/// - `epoch` rises when positions may have gone backward or lost their meaning.
/// - `position` is the host's commit position, or a number drawn from the state store before the state was read (L1).
/// - `sequence` orders changes inside one transaction; scans use 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Version {
    /// Generation of the positions.
    pub epoch: u32,
    /// Commit position or drawn number.
    pub position: u64,
    /// Place inside the transaction.
    pub sequence: u32,
}

impl Version {
    /// Length of [`Version::to_bytes`].
    pub const BYTES: usize = 16;

    /// A version with sequence 0, as scans carry it.
    pub const fn scan(epoch: u32, position: u64) -> Self {
        Self { epoch, position, sequence: 0 }
    }

    /// Sixteen bytes whose order is the order of versions.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.position.to_be_bytes());
        bytes[12..].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    /// The inverse of [`Version::to_bytes`].
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let value = u128::from_be_bytes(bytes);
        Self { epoch: (value >> 96) as u32, position: (value >> 32) as u64, sequence: value as u32 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.epoch, self.position, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_keep_the_order(a: (u32, u64, u32), b: (u32, u64, u32)) {
            let [a, b] = [a, b].map(|(epoch, position, sequence)| Version { epoch, position, sequence });
            prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
            prop_assert_eq!(a, Version::from_bytes(a.to_bytes()));
        }
    }
}
