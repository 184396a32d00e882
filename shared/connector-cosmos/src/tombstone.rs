//! What a deletion leaves: a tombstone that expires.
//!
//! L6: a write of an earlier owner may still be on its way when its record is deleted. It is conditional: it creates what
//! must not be there, or replaces what must not have changed. The tombstone is there, and has changed. It expires by the
//! store's own clock, long after any request has ended.

use serde_json::{Map, Value as Json};

use crate::layout::{Address, GONE, Layout};

/// How long a tombstone is kept: much longer than a request or a connection lives.
pub(crate) const TOMBSTONE_SECONDS: u64 = 3_600;

/// The tombstone of an address. It has no encoded key, so that no scan meets it.
pub(crate) fn tombstone(layout: &Layout, address: &Address, version: &str) -> String {
    let mut document = Map::new();
    address.partition.put(&layout.paths, &mut document);
    for path in &layout.unique {
        // Nothing is a value, too: two tombstones without it would be equal.
        if !layout.paths.contains(path) {
            path.put(format!("{GONE}:{}", address.id).into(), &mut document);
        }
    }
    document.insert("id".to_owned(), address.id.clone().into());
    document.insert(GONE.to_owned(), true.into());
    document.insert(layout.version_field.clone(), version.into());
    document.insert("ttl".to_owned(), TOMBSTONE_SECONDS.into());
    Json::Object(document).to_string()
}
