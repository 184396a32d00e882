//! A hash beside a sorted set of its fields: entries that can be listed in the order of their keys.

use fides_core::Fault;
use redis::Script;

use crate::link::Link;

/// Entries that one script reads or removes.
const ENTRIES_MAX: usize = 256;

/// Reads and removes entries; writing them is the stores' own.
pub(crate) struct Index {
    list: Script,
    remove: Script,
}

/// The names of hash and sorted set.
pub(crate) type Keys = [String; 2];

impl Index {
    pub(crate) fn new() -> Self {
        Self { list: Script::new(include_str!("lua/list.lua")), remove: Script::new(include_str!("lua/remove.lua")) }
    }

    /// Entries between two bounds as ZRANGEBYLEX takes them, in key order, at most `limit`, in portions: what is written
    /// meanwhile may be missing or not.
    pub(crate) async fn list(
        &self,
        link: &Link,
        keys: &Keys,
        mut from: Vec<u8>,
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Fault> {
        let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        while entries.len() < limit {
            let most = ENTRIES_MAX.min(limit - entries.len());
            let portion: Vec<(Vec<u8>, Vec<u8>)> = link.run(self.list.key(keys).arg(&from).arg(to).arg(most)).await?;
            let all = portion.len() < most;
            entries.extend(portion);
            match entries.last() {
                Some((last, _)) if !all => from = [b"(", last.as_slice()].concat(),
                _ => break,
            }
        }
        Ok(entries)
    }

    /// Removes entries, whether they are there or not.
    pub(crate) async fn remove(&self, link: &Link, keys: &Keys, fields: &[&[u8]]) -> Result<(), Fault> {
        for portion in fields.chunks(ENTRIES_MAX) {
            let () = link.run(self.remove.key(keys).arg(portion)).await?;
        }
        Ok(())
    }
}
