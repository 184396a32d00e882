use std::collections::BTreeMap;
use std::ops::Bound;

use async_trait::async_trait;
use fides_core::port::{Entry, Expect, Lease, StateStore};
use fides_core::{Fault, PipelineId};

use super::backplane::Process;

/// Small durable state.
#[derive(Clone, Default)]
pub(super) struct Small {
    entries: BTreeMap<String, Entry>,
    leases: BTreeMap<String, Held>,
    positions: BTreeMap<PipelineId, u64>,
    /// Shared by all entries, so that one that was removed and put again has another revision.
    revisions: u64,
}

#[derive(Clone)]
struct Held {
    holder: Option<String>,
    until_ms: u64,
    token: u64,
}

pub(super) struct FakeState(pub Process);

#[async_trait]
impl StateStore for FakeState {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Fault> {
        self.0.read(|store| store.small.entries.get(key).cloned())
    }

    async fn put(&self, key: &str, value: &[u8], expect: Expect) -> Result<Option<u64>, Fault> {
        self.0.write(|store| {
            let small = &mut store.small;
            let found = small.entries.get(key).map(|entry| entry.revision);
            let holds = match expect {
                Expect::Absent => found.is_none(),
                Expect::Revision(revision) => found == Some(revision),
                Expect::Any => true,
            };
            holds.then(|| {
                small.revisions += 1;
                small.entries.insert(key.to_owned(), Entry { revision: small.revisions, value: value.to_vec() });
                small.revisions
            })
        })
    }

    async fn remove(&self, key: &str) -> Result<(), Fault> {
        self.0.write(|store| {
            store.small.entries.remove(key);
        })
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Entry)>, Fault> {
        let start = match after.filter(|after| *after >= prefix) {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix),
        };
        self.0.read(|store| {
            let entries = store.small.entries.range::<str, _>((start, Bound::Unbounded));
            let entries = entries.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
            entries.map(|(key, entry)| (key.clone(), entry.clone())).collect()
        })
    }

    async fn lease(&self, key: &str, holder: &str, ttl_ms: u64) -> Result<Option<Lease>, Fault> {
        let now_ms = self.0.now_ms();
        self.0.write(|store| {
            let new = || Held { holder: None, until_ms: 0, token: 0 };
            let held = store.small.leases.entry(key.to_owned()).or_insert_with(new);
            let live = held.holder.as_deref().filter(|_| held.until_ms > now_ms);
            match live {
                Some(other) if other != holder => return None,
                Some(_) => {}
                None => {
                    held.token += 1;
                    held.holder = Some(holder.to_owned());
                }
            }
            held.until_ms = now_ms.saturating_add(ttl_ms);
            Some(Lease { token: held.token })
        })
    }

    async fn release(&self, key: &str, holder: &str) -> Result<(), Fault> {
        self.0.write(|store| {
            let held = store.small.leases.get_mut(key);
            if let Some(held) = held.filter(|held| held.holder.as_deref() == Some(holder)) {
                held.holder = None;
            }
        })
    }

    async fn next_position(&self, pipeline: &PipelineId) -> Result<u64, Fault> {
        self.0.write(|store| {
            let position = store.small.positions.entry(pipeline.clone()).or_default();
            *position += 1;
            *position
        })
    }

    async fn now_ms(&self) -> Result<u64, Fault> {
        self.0.with(|_| Ok(self.0.now_ms()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Disk;
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn puts_are_compare_and_set_and_a_revision_is_never_used_twice() {
        let state = Disk::new(1).open().state;
        let first = state.put("a/1", b"x", Expect::Absent).await.unwrap().unwrap();
        assert_eq!(state.put("a/1", b"y", Expect::Absent).await.unwrap(), None);
        state.remove("a/1").await.unwrap();
        let second = state.put("a/1", b"x", Expect::Absent).await.unwrap().unwrap();
        assert!(second > first);
        assert_eq!(state.put("a/1", b"y", Expect::Revision(first)).await.unwrap(), None);
        assert!(state.put("a/1", b"y", Expect::Revision(second)).await.unwrap().is_some());
        for key in ["a/2", "a/3", "b/1"] {
            state.put(key, b"", Expect::Any).await.unwrap();
        }
        let keys = |found: Vec<(String, Entry)>| found.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys(state.list("a/", Some("a/1"), 9).await.unwrap()), ["a/2", "a/3"]);
        assert_eq!(keys(state.list("a/", None, 1).await.unwrap()), ["a/1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_by_the_stores_clock_and_its_token_rises() {
        let state = Disk::new(1).open().state;
        let first = state.lease("l", "a", 100).await.unwrap().unwrap();
        assert_eq!(state.lease("l", "a", 100).await.unwrap(), Some(first));
        assert_eq!(state.lease("l", "b", 100).await.unwrap(), None);
        tokio::time::advance(Duration::from_millis(101)).await;
        let second = state.lease("l", "b", 100).await.unwrap().unwrap();
        assert!(second.token > first.token);
        state.release("l", "a").await.unwrap();
        assert_eq!(state.lease("l", "a", 100).await.unwrap(), None);
        state.release("l", "b").await.unwrap();
        assert!(state.lease("l", "b", 100).await.unwrap().unwrap().token > second.token);
    }

    #[tokio::test]
    async fn positions_rise() {
        let state = Disk::new(1).open().state;
        let pipeline = PipelineId::new("p");
        let first = state.next_position(&pipeline).await.unwrap();
        assert!(state.next_position(&pipeline).await.unwrap() > first);
    }
}
