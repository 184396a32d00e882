//! State entries as JSON: one place that reads and writes them, with the key named in every fault.

use fides_core::Fault;
use fides_core::port::{Expect, StateStore};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads an entry and its revision.
pub(crate) async fn load<T: DeserializeOwned>(state: &dyn StateStore, key: &str) -> Result<Option<(T, u64)>, Fault> {
    let Some(entry) = state.get(key).await? else { return Ok(None) };
    Ok(Some((decode(key, &entry.value)?, entry.revision)))
}

/// Reads the bytes of an entry.
pub(crate) fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(value).map_err(|error| {
        Fault::unavailable(format!("state entry {key} cannot be read by this release"))
            .because(error)
            .advise("it was written by a newer release, or the state store is damaged")
    })
}

/// Writes an entry if `expect` holds; the new revision, or `None` when it did not.
pub(crate) async fn store<T: Serialize>(
    state: &dyn StateStore,
    key: &str,
    value: &T,
    expect: Expect,
) -> Result<Option<u64>, Fault> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Fault::permanent(format!("state entry {key} cannot be written")).because(error))?;
    state.put(key, &bytes, expect).await
}

/// The fault of a compare-and-set that somebody else won.
pub(crate) fn lost_race(key: &str) -> Fault {
    Fault::transient(format!("state entry {key} was changed by another process at the same time"))
}
