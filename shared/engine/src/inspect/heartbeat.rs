//! What the processes that do the work tell of themselves in the state store, so that others see it there: what only they know
//! (which breaker is open, why a lane waits, how much was written) and no run keeps.

use std::collections::BTreeMap;

use fides_core::Fault;
use fides_core::port::{Expect, StateStore};
use serde::{Deserialize, Serialize};

use crate::{Progress, persisted};

const PREFIX: &str = "process/";
/// A process that has been silent for so long is gone, or cut off.
pub const SILENCE_MS_MAX: u64 = 30_000;
/// What was told longer ago is removed.
const KEPT_MS: u64 = 3_600_000;
/// Entries that are read at a time.
const LIST_MAX: usize = 256;
/// Characters of a lane's reason that are kept (L10).
const REASON_CHARS_MAX: usize = 500;

/// A process, as it told of itself last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// What it is: `fides`, `fides-importer`.
    pub service: String,
    /// Tells it from others of its kind.
    pub instance: String,
    /// When it told this, in milliseconds since 1970 on the store's clock.
    pub at_ms: u64,
    /// The worst state of the circuit breakers before each part.
    pub breakers: BTreeMap<String, Breaker>,
    /// What it does for each pipeline.
    pub pipelines: BTreeMap<String, Work>,
}

/// The state of a circuit breaker; the worse, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Breaker {
    /// Calls go through.
    Closed,
    /// One call is let through, to see.
    HalfOpen,
    /// No call is made.
    Open,
}

/// What a process does for one pipeline. Numbers are of records, and count from its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// What its run is doing, for people.
    pub phase: String,
    /// See [`Progress::read`].
    pub read: u64,
    /// See [`Progress::published`].
    pub published: u64,
    /// See [`Progress::written`].
    pub written: u64,
    /// See [`Progress::dead`].
    pub dead: u64,
    /// See [`Progress::followed`].
    pub followed: u64,
    /// See [`Progress::lanes`].
    pub lanes: u64,
    /// See [`Progress::in_hand`].
    pub in_hand: BTreeMap<u16, u64>,
    /// Lanes that have met a fault and not worked since, and why.
    pub waiting: BTreeMap<u16, String>,
}

impl Work {
    /// What a progress says now.
    pub fn of(progress: &Progress) -> Self {
        let shortened = |(lane, reason): (u16, String)| (lane, reason.chars().take(REASON_CHARS_MAX).collect());
        Self {
            phase: progress.phase().to_owned(),
            read: Progress::get(&progress.read),
            published: Progress::get(&progress.published),
            written: Progress::get(&progress.written),
            dead: Progress::get(&progress.dead),
            followed: Progress::get(&progress.followed),
            lanes: Progress::get(&progress.lanes),
            in_hand: progress.in_hand(),
            waiting: progress.troubles().into_iter().map(shortened).collect(),
        }
    }
}

fn key(instance: &str) -> String {
    format!("{PREFIX}{instance}")
}

/// Tells of a process, now by the store's clock. Whoever reads it takes it for gone after [`SILENCE_MS_MAX`].
pub async fn beat(state: &dyn StateStore, mut heartbeat: Heartbeat) -> Result<(), Fault> {
    heartbeat.at_ms = state.now_ms().await?;
    persisted::store(state, &key(&heartbeat.instance), &heartbeat, Expect::Any).await.map(drop)
}

/// Says that a process has ended.
pub async fn depart(state: &dyn StateStore, instance: &str) -> Result<(), Fault> {
    state.remove(&key(instance)).await
}

/// The processes that have told of themselves lately, in the order of their names.
pub async fn heartbeats(state: &dyn StateStore) -> Result<Vec<Heartbeat>, Fault> {
    let now_ms = state.now_ms().await?;
    let mut found: Vec<Heartbeat> = all(state).await?.into_iter().filter_map(|(_, heartbeat)| heartbeat).collect();
    found.retain(|heartbeat| heartbeat.at_ms.saturating_add(SILENCE_MS_MAX) >= now_ms);
    found.sort_by(|one, other| (&one.service, &one.instance).cmp(&(&other.service, &other.instance)));
    Ok(found)
}

/// Removes what processes left that ended without a word.
pub async fn forget_departed(state: &dyn StateStore) -> Result<(), Fault> {
    let now_ms = state.now_ms().await?;
    for (key, heartbeat) in all(state).await? {
        if heartbeat.is_some_and(|heartbeat| heartbeat.at_ms.saturating_add(KEPT_MS) < now_ms) {
            state.remove(&key).await?;
        }
    }
    Ok(())
}

/// Every entry; `None` for one that only a newer release can read.
async fn all(state: &dyn StateStore) -> Result<Vec<(String, Option<Heartbeat>)>, Fault> {
    let mut found: Vec<(String, Option<Heartbeat>)> = Vec::new();
    loop {
        let after = found.last().map(|(key, _)| key.as_str());
        let listed = state.list(PREFIX, after, LIST_MAX).await?;
        let end = listed.len() < LIST_MAX;
        found.extend(listed.into_iter().map(|(key, entry)| {
            let heartbeat = persisted::decode(&key, &entry.value).ok();
            (key, heartbeat)
        }));
        if end {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use fides_testkit::fake::Disk;

    use super::*;

    fn heartbeat(instance: &str) -> Heartbeat {
        let work = Work { written: 7, waiting: BTreeMap::from([(2, "refused".to_owned())]), ..Work::default() };
        Heartbeat {
            service: "fides".into(),
            instance: instance.into(),
            at_ms: 0,
            breakers: BTreeMap::from([("target copy".to_owned(), Breaker::HalfOpen)]),
            pipelines: BTreeMap::from([("items".to_owned(), work)]),
        }
    }

    #[tokio::test]
    async fn who_works_is_seen_until_it_departs_or_falls_silent() {
        let state = Disk::new(1).open().state;
        beat(&*state, heartbeat("b")).await.unwrap();
        beat(&*state, heartbeat("a")).await.unwrap();
        let found = heartbeats(&*state).await.unwrap();
        assert_eq!(found.iter().map(|found| found.instance.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(found[0], Heartbeat { at_ms: found[0].at_ms, ..heartbeat("a") });

        depart(&*state, "a").await.unwrap();
        let now_ms = state.now_ms().await.unwrap();
        for (instance, silent_ms) in [("silent", SILENCE_MS_MAX + 1_000), ("old", KEPT_MS + 1_000)] {
            let silent = Heartbeat { at_ms: now_ms.saturating_sub(silent_ms), ..heartbeat(instance) };
            persisted::store(&*state, &key(instance), &silent, Expect::Any).await.unwrap();
        }
        let seen = async || heartbeats(&*state).await.unwrap().into_iter().map(|it| it.instance).collect::<Vec<_>>();
        assert_eq!(seen().await, ["b"]);
        forget_departed(&*state).await.unwrap();
        let left = state.list(PREFIX, None, 10).await.unwrap();
        assert_eq!(left.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["process/b", "process/silent"]);
    }

    #[tokio::test]
    async fn what_a_newer_release_tells_is_passed_over() {
        let state = Disk::new(1).open().state;
        state.put("process/new", b"\x02{}", Expect::Any).await.unwrap();
        beat(&*state, heartbeat("a")).await.unwrap();
        assert_eq!(heartbeats(&*state).await.unwrap().len(), 1);
        forget_departed(&*state).await.unwrap();
        assert!(state.get("process/new").await.unwrap().is_some(), "it is not ours");
    }
}
