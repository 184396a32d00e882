use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fides_core::Limits;
use tokio::time::Instant;

use crate::publishing::Recent;

/// What a run has done so far, counted in records. Shared by all tasks of a run; reading it costs nothing.
#[derive(Debug, Default)]
pub struct Progress {
    /// Estimated records of the host.
    pub estimate: AtomicU64,
    /// Read from the host.
    pub read: AtomicU64,
    /// Equal to their marks, therefore not sent.
    pub unchanged: AtomicU64,
    /// Of the unchanged ones, those whose bucket's summary said so.
    pub summarised: AtomicU64,
    /// Of the unchanged ones, those whose documents an edited mapping leaves as they are.
    pub relabelled: AtomicU64,
    /// Equal to a dead letter, therefore not sent again.
    pub still_dead: AtomicU64,
    /// Sent to the lanes, deletions included.
    pub published: AtomicU64,
    /// Of the published, deletions.
    pub deletions: AtomicU64,
    /// Written to the target.
    pub written: AtomicU64,
    /// Dropped by a consumer, because the mark is newer.
    pub stale: AtomicU64,
    /// Not written, because the target holds a newer version.
    pub newer: AtomicU64,
    /// Became dead letters.
    pub dead: AtomicU64,
    /// Pages read again because a run was resumed or a call was repeated.
    pub resumed: AtomicU64,
    /// Changes that the host told: by its log, or by hints.
    pub followed: AtomicU64,
    /// Records of the host that were compared with the target by schedule.
    pub verified: AtomicU64,
    /// Of those and of the target's, keys on which the sides disagreed without Fides knowing.
    pub drifted: AtomicU64,
    /// Messages that were delivered before.
    pub redelivered: AtomicU64,
    /// Lanes that this process holds and consumes now.
    pub lanes: AtomicU64,
    /// Bytes of its log that the host keeps because this process, which follows it, has not released them.
    pub log_lag: AtomicU64,
    /// Clean-ups and repairs that would have deleted too much.
    pub refused: AtomicU64,
    /// When what the lanes have in hand was sent.
    in_hand: Mutex<BTreeMap<u16, u64>>,
    troubled: Mutex<BTreeMap<u16, Trouble>>,
    /// What came to an end lately, and whether well.
    recent: Mutex<Recent>,
    phase: Mutex<&'static str>,
    /// Who holds all of it, and what can be done.
    held: Mutex<Option<String>>,
    /// The run that is counted.
    run: Mutex<String>,
    /// What earlier processes had done of it.
    earlier: Mutex<Counts>,
    /// Reading the host failed.
    host_failed: AtomicBool,
}

/// A lane that has not worked since a fault.
#[derive(Debug)]
struct Trouble {
    /// The first fault since it last worked.
    since: Instant,
    /// The latest one.
    latest: Instant,
    reason: String,
    /// Whether it waits now; otherwise it is being tried again.
    waits: bool,
}

/// A lane that counts as this process's own.
pub(crate) struct OwnLane<'a>(&'a Progress);

impl Drop for OwnLane<'_> {
    fn drop(&mut self) {
        self.0.lanes.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The numbers of a [`Progress`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// See [`Progress::read`].
    pub read: u64,
    /// See [`Progress::unchanged`].
    pub unchanged: u64,
    /// See [`Progress::relabelled`].
    #[serde(default)]
    pub relabelled: u64,
    /// See [`Progress::still_dead`].
    pub still_dead: u64,
    /// See [`Progress::published`].
    pub published: u64,
    /// See [`Progress::deletions`].
    pub deletions: u64,
}

impl Progress {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, records: usize) {
        counter.fetch_add(records as u64, Ordering::Relaxed);
    }

    /// Reads a counter.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// Counts records that came to an end, and returns what came to an end lately.
    pub(crate) fn count_ended(&self, dead: u64, written: u64, limits: &Limits) -> Recent {
        let Ok(mut recent) = self.recent.lock() else { return Recent::default() };
        recent.count(dead, written, limits);
        *recent
    }

    /// Counts anew: somebody has looked after the dead letters.
    pub(crate) fn forgive_dead(&self) {
        if let Ok(mut recent) = self.recent.lock() {
            *recent = Recent::default();
        }
    }

    /// What the run is doing, for people.
    pub fn phase(&self) -> &'static str {
        self.phase.lock().map(|phase| *phase).unwrap_or_default()
    }

    /// Says what the run is doing.
    pub fn enter(&self, phase: &'static str) {
        if let Ok(mut current) = self.phase.lock() {
            *current = phase;
        }
    }

    /// Who has paused the pipeline, and what can be done.
    pub fn held(&self) -> Option<String> {
        self.held.lock().ok()?.clone()
    }

    /// Says that the pipeline is paused, or is not any more.
    pub(crate) fn hold(&self, why: Option<String>) {
        if let Ok(mut held) = self.held.lock() {
            *held = why;
        }
    }

    /// Why a lane is paused, if one is: a person has paused all of them, or else of several the one that has not worked for
    /// longest.
    pub fn paused(&self) -> Option<String> {
        if let Some(held) = self.held() {
            return Some(held);
        }
        let troubled = self.troubled.lock().ok()?;
        let waiting = troubled.values().filter(|trouble| trouble.waits);
        waiting.min_by_key(|trouble| trouble.since).map(|trouble| trouble.reason.clone())
    }

    /// How many lanes have met a fault and not worked since.
    pub fn paused_lanes(&self) -> usize {
        self.troubled.lock().map_or(0, |troubled| troubled.len())
    }

    /// The lanes that have met a fault and not worked since, and why.
    pub fn troubles(&self) -> BTreeMap<u16, String> {
        let Ok(troubled) = self.troubled.lock() else { return BTreeMap::new() };
        troubled.iter().map(|(lane, trouble)| (*lane, trouble.reason.clone())).collect()
    }

    /// From its first fault to its latest: how long a lane has tried in vain, of several the longest, and why. A lane that
    /// is tried again and fails again has not worked in between.
    pub fn stuck(&self) -> Option<(Duration, String)> {
        let troubled = self.troubled.lock().ok()?;
        let lasted = troubled.values().map(|trouble| (trouble.latest - trouble.since, &trouble.reason));
        lasted.max_by_key(|(lasted, _)| *lasted).map(|(lasted, reason)| (lasted, reason.clone()))
    }

    /// Says that a lane met a fault and waits.
    pub fn pause(&self, lane: u16, reason: String) {
        let Ok(mut troubled) = self.troubled.lock() else { return };
        let now = Instant::now();
        let since = troubled.get(&lane).map_or(now, |trouble| trouble.since);
        troubled.insert(lane, Trouble { since, latest: now, reason, waits: true });
    }

    /// Says when the oldest of what a lane has in hand was sent, in milliseconds since 1970; that it has nothing in hand, where
    /// there is no such time. What returns to the queue after a fault stays in hand until the lane works or is given up.
    pub fn took(&self, lane: u16, sent_ms: Option<u64>) {
        let Ok(mut in_hand) = self.in_hand.lock() else { return };
        match sent_ms {
            Some(sent_ms) => {
                in_hand.insert(lane, sent_ms);
            }
            None => {
                in_hand.remove(&lane);
            }
        }
    }

    /// When the oldest was sent of what each lane has in hand, in milliseconds since 1970. Lanes that have nothing are left out.
    pub fn in_hand(&self) -> BTreeMap<u16, u64> {
        self.in_hand.lock().map(|in_hand| in_hand.clone()).unwrap_or_default()
    }

    /// Says that a lane is tried again. Whether it works is not known yet.
    pub fn retry(&self, lane: u16) {
        if let Ok(mut troubled) = self.troubled.lock()
            && let Some(trouble) = troubled.get_mut(&lane)
        {
            trouble.waits = false;
        }
    }

    /// Says that a lane works.
    pub fn resume(&self, lane: u16) {
        if let Ok(mut troubled) = self.troubled.lock() {
            troubled.remove(&lane);
        }
    }

    /// Counts a lane as this process's own until the guard is dropped: its lease is held, and its consumer runs.
    pub(crate) fn own_lane(&self) -> OwnLane<'_> {
        Self::add(&self.lanes, 1);
        OwnLane(self)
    }

    /// Whether it was reading the host that failed since this was last asked, and not the backplane, say.
    pub fn take_host_failed(&self) -> bool {
        self.host_failed.swap(false, Ordering::Relaxed)
    }

    /// Says that reading the host failed.
    pub(crate) fn host_failed(&self) {
        self.host_failed.store(true, Ordering::Relaxed);
    }

    /// Says which run is counted from now on; whether it is another one than before. What an interrupted run had done is
    /// counted once, also where this process had done it.
    pub(crate) fn follow(&self, run: &str) -> bool {
        let Ok(mut current) = self.run.lock() else { return false };
        let is_other = *current != run;
        if is_other {
            run.clone_into(&mut current);
        }
        is_other
    }

    /// What earlier processes had done of the run that is counted.
    pub fn earlier(&self) -> Counts {
        self.earlier.lock().map(|earlier| *earlier).unwrap_or_default()
    }

    /// Adds what an earlier process compared and published.
    pub(crate) fn count_earlier(&self, counts: &Counts) {
        if let Ok(mut earlier) = self.earlier.lock() {
            earlier.add(counts);
        }
        self.count(counts);
    }

    /// Adds what was compared and published.
    pub(crate) fn count(&self, counts: &Counts) {
        let add = |counter: &AtomicU64, records: u64| counter.fetch_add(records, Ordering::Relaxed);
        add(&self.read, counts.read);
        add(&self.unchanged, counts.unchanged);
        add(&self.relabelled, counts.relabelled);
        add(&self.still_dead, counts.still_dead);
        add(&self.published, counts.published);
        add(&self.deletions, counts.deletions);
    }
}

impl Counts {
    /// Adds other counts.
    pub fn add(&mut self, other: &Counts) {
        self.read += other.read;
        self.unchanged += other.unchanged;
        self.relabelled += other.relabelled;
        self.still_dead += other.still_dead;
        self.published += other.published;
        self.deletions += other.deletions;
    }
}
