//! State entries: a format number, then JSON. One place that reads and writes them, with the key named in every fault.

use fides_core::port::{Expect, StateStore};
use fides_core::{Fault, Formats};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Formats of an entry. 0 is bare JSON, which begins with no such small byte. Whoever changes what an entry means, or adds
/// what an older release must not drop when it writes the entry back, takes the next number: the older release then
/// pauses and says so.
const FORMATS: Formats = Formats::new(0, 1);

/// Reads an entry and its revision.
pub(crate) async fn load<T: DeserializeOwned>(state: &dyn StateStore, key: &str) -> Result<Option<(T, u64)>, Fault> {
    let Some(entry) = state.get(key).await? else { return Ok(None) };
    Ok(Some((decode(key, &entry.value)?, entry.revision)))
}

/// Reads the bytes of an entry.
pub(crate) fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, Fault> {
    let json = match value.split_first() {
        Some((&format, json)) if format < b' ' => {
            FORMATS.check(&format!("state entry {key}"), format)?;
            json
        }
        _ => value,
    };
    serde_json::from_slice(json).map_err(|error| {
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
    let mut bytes = vec![FORMATS.own()];
    serde_json::to_writer(&mut bytes, value)
        .map_err(|error| Fault::permanent(format!("state entry {key} cannot be written")).because(error))?;
    state.put(key, &bytes, expect).await
}

/// The fault of a compare-and-set that somebody else won.
pub(crate) fn lost_race(key: &str) -> Fault {
    Fault::transient(format!("state entry {key} was changed by another process at the same time"))
}

#[cfg(test)]
mod tests {
    use fides_core::FaultKind;
    use fides_testkit::fake::Disk;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Small {
        number: u32,
    }

    #[tokio::test]
    async fn an_entry_carries_its_format_and_that_of_the_release_before_is_read() {
        let state = Disk::new(1).open().state;
        store(&*state, "k", &Small { number: 7 }, Expect::Absent).await.unwrap();
        let entry = state.get("k").await.unwrap().unwrap();
        assert_eq!(entry.value, b"\x01{\"number\":7}");
        assert_eq!(load::<Small>(&*state, "k").await.unwrap().unwrap().0, Small { number: 7 });
        state.put("k", br#"{"number":8}"#, Expect::Any).await.unwrap();
        assert_eq!(load::<Small>(&*state, "k").await.unwrap().unwrap().0, Small { number: 8 });
    }

    /// A newer release may have entries that look the same to this one, and lose what it does not know.
    #[tokio::test]
    async fn an_entry_of_a_newer_release_is_not_guessed_at() {
        let state = Disk::new(1).open().state;
        state.put("k", b"\x02{\"number\":7,\"more\":true}", Expect::Any).await.unwrap();
        let fault = load::<Small>(&*state, "k").await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unavailable);
        assert!(fault.to_string().contains("state entry k has format 2; this release reads 0 to 1"), "{fault}");
    }
}
