use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Became dead letters.
    pub dead: AtomicU64,
    /// Pages read again because a run was resumed or a call was repeated.
    pub resumed: AtomicU64,
    /// Messages that were delivered before.
    pub redelivered: AtomicU64,
    /// Lanes that this process works on.
    pub lanes: AtomicU64,
    /// Why each paused lane is paused.
    paused: Mutex<BTreeMap<u16, String>>,
    phase: Mutex<&'static str>,
}

/// The numbers of a [`Progress`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// See [`Progress::read`].
    pub read: u64,
    /// See [`Progress::unchanged`].
    pub unchanged: u64,
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

    /// Why a lane is paused, if one is.
    pub fn paused(&self) -> Option<String> {
        self.paused.lock().ok().and_then(|paused| paused.values().next().cloned())
    }

    /// How many lanes are paused.
    pub fn paused_lanes(&self) -> usize {
        self.paused.lock().map_or(0, |paused| paused.len())
    }

    /// Says that a lane is paused, or (`None`) that it goes on.
    pub fn pause(&self, lane: u16, reason: Option<String>) {
        if let Ok(mut paused) = self.paused.lock() {
            match reason {
                Some(reason) => paused.insert(lane, reason),
                None => paused.remove(&lane),
            };
        }
    }

    pub(crate) fn own_lanes(&self, lanes: usize) {
        self.lanes.store(lanes as u64, Ordering::Relaxed);
    }

    /// Adds what was compared and published.
    pub(crate) fn count(&self, counts: &Counts) {
        let add = |counter: &AtomicU64, records: u64| counter.fetch_add(records, Ordering::Relaxed);
        add(&self.read, counts.read);
        add(&self.unchanged, counts.unchanged);
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
        self.still_dead += other.still_dead;
        self.published += other.published;
        self.deletions += other.deletions;
    }
}
