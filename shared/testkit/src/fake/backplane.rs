use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fides_core::port::{AdminQueue, Backplane, DeadLetter};
use fides_core::{Fault, Key, Lane, Mark, PipelineId};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::admin::{Commands, FakeAdmin};
use super::dead_letters::FakeDead;
use super::hash_store::{FakeHashes, Marks};
use super::lock;
use super::queue::{FakeQueue, Stored};
use super::state_store::{FakeState, Small};

/// What survives a crash: the durable half of a [`Backplane`].
///
/// [`Disk::open`] gives the handles of one process. A process is crashed by dropping its task, which returns unsettled
/// deliveries in order; [`Disk::crash`] also cuts off whatever of it still lives.
#[derive(Clone)]
pub struct Disk(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub started: Instant,
    pub lane_depth_max: usize,
    pub bucket_marks_max: usize,
    /// How many states of the store are kept for [`Disk::lose_last`].
    pub remembered: usize,
    pub state: Mutex<Durable>,
    /// Told of every change of a lane.
    pub lanes_changed: Notify,
}

/// Everything durable, behind one lock.
pub(super) struct Durable {
    pub generation: u64,
    pub lanes: BTreeMap<Lane, LaneState>,
    pub consumers: u64,
    pub dead: BTreeMap<PipelineId, BTreeMap<Key, DeadLetter>>,
    pub commands: Commands,
    pub store: Arc<Store>,
    pub past: VecDeque<Arc<Store>>,
}

/// One lane of the queue.
#[derive(Default)]
pub(super) struct LaneState {
    pub ready: VecDeque<Stored>,
    pub unsettled: BTreeMap<u64, Stored>,
    pub owner: Option<u64>,
    pub tags: u64,
}

/// What Redis would hold, and could lose.
#[derive(Clone, Default)]
pub(super) struct Store {
    pub incarnation: Option<String>,
    pub marks: BTreeMap<PipelineId, Marks>,
    pub small: Small,
}

/// What hash and state store held once.
pub struct StoreBackup(Arc<Store>);

impl Disk {
    /// An empty disk whose lanes hold at most `lane_depth_max` messages.
    pub fn new(lane_depth_max: usize) -> Self {
        Self::with(lane_depth_max, 4, 0)
    }

    /// An empty disk: `bucket_marks_max` marks in a bucket (few, so that splits and summaries matter), and the last
    /// `remembered` states of the hash and state store kept, to be lost.
    pub fn with(lane_depth_max: usize, bucket_marks_max: usize, remembered: usize) -> Self {
        Self(Arc::new(Shared {
            started: Instant::now(),
            lane_depth_max,
            bucket_marks_max: bucket_marks_max.max(2),
            remembered,
            state: Mutex::new(Durable {
                generation: 0,
                lanes: BTreeMap::new(),
                consumers: 0,
                dead: BTreeMap::new(),
                commands: Commands::default(),
                store: Arc::default(),
                past: VecDeque::new(),
            }),
            lanes_changed: Notify::new(),
        }))
    }

    /// Handles for one process. Several processes may be open at once.
    pub fn open(&self) -> Backplane {
        let disk = Process { disk: Arc::clone(&self.0), generation: lock(&self.0.state).generation };
        Backplane {
            queue: Arc::new(FakeQueue(disk.clone())),
            hashes: Arc::new(FakeHashes::new(disk.clone())),
            state: Arc::new(FakeState(disk.clone())),
            dead: Arc::new(FakeDead(disk)),
        }
    }

    /// The queue of commands, for one process.
    pub fn admin(&self) -> Arc<dyn AdminQueue> {
        Arc::new(FakeAdmin(Process { disk: Arc::clone(&self.0), generation: lock(&self.0.state).generation }))
    }

    /// A copy of the hash and state store.
    pub fn back_up(&self) -> StoreBackup {
        StoreBackup(lock(&self.0.state).store.clone())
    }

    /// Puts the copy in their place: they have no way to notice.
    pub fn restore(&self, backup: &StoreBackup) {
        let mut state = lock(&self.0.state);
        state.store = backup.0.clone();
        state.past.clear();
    }

    /// Cuts off every open process: unsettled deliveries return in order, and old handles get faults.
    pub fn crash(&self) {
        let mut state = lock(&self.0.state);
        state.generation += 1;
        for lane in state.lanes.values_mut() {
            lane.give_back();
        }
        state.commands.give_back();
        self.0.lanes_changed.notify_waiters();
    }

    /// Cuts off the consumer of one lane, as a broker does that lost its connection: its deliveries return, the next
    /// one takes over, and the old one, which does not know yet, gets faults from now on (L6).
    pub fn displace(&self, lane: &Lane) {
        if let Some(lane) = lock(&self.0.state).lanes.get_mut(lane) {
            lane.give_back();
        }
        self.0.lanes_changed.notify_waiters();
    }

    /// Loses every message, as a broker does whose disk is gone.
    pub fn lose_queues(&self) {
        for lane in lock(&self.0.state).lanes.values_mut() {
            lane.ready.clear();
            lane.unsettled.clear();
            lane.owner = None;
        }
        self.0.lanes_changed.notify_waiters();
    }

    /// Puts bytes behind a lane's messages, as a newer release may.
    pub fn enqueue(&self, lane: &Lane, bytes: impl Into<Bytes>) {
        let stored = Stored { bytes: bytes.into(), delivered: false, sent_ms: self.0.now_ms() };
        lock(&self.0.state).lanes.entry(lane.clone()).or_default().ready.push_back(stored);
        self.0.lanes_changed.notify_waiters();
    }

    /// Takes the message at the head of a lane, if it is in nobody's hand, as a newer release does that consumes it.
    pub fn dequeue(&self, lane: &Lane) -> Option<Bytes> {
        lock(&self.0.state).lanes.get_mut(lane)?.ready.pop_front().map(|stored| stored.bytes)
    }

    /// Takes back up to the last `count` writes of the hash and state store, which must be remembered; how many it
    /// took. `noticed` also removes the name of the incarnation, by which the loss is seen (L11).
    pub fn lose_last(&self, count: usize, noticed: bool) -> usize {
        let mut state = lock(&self.0.state);
        let count = count.min(state.past.len());
        let kept = state.past.len() - count;
        let lost: Vec<Arc<Store>> = state.past.drain(kept..).collect();
        if let Some(first) = lost.into_iter().next() {
            state.store = first;
        }
        if noticed {
            Arc::make_mut(&mut state.store).incarnation = None;
        }
        count
    }

    /// Empties the hash and state store (L11). Lanes and dead letters stay.
    pub fn lose_everything(&self) {
        let mut state = lock(&self.0.state);
        state.store = Arc::default();
        state.past.clear();
    }

    /// Plants a bug: puts marks whatever version is stored (L4).
    pub fn overwrite_marks(&self, pipeline: &PipelineId, marks: &[(Key, Mark)]) {
        let mut state = lock(&self.0.state);
        let store = Arc::make_mut(&mut state.store);
        let held = store.marks.entry(pipeline.clone()).or_default();
        for (key, mark) in marks {
            held.touch(key, self.0.bucket_marks_max, |held| {
                held.insert(key.clone(), *mark);
            });
        }
    }

    /// Messages in all lanes, unsettled ones included.
    pub fn queued(&self) -> usize {
        lock(&self.0.state).lanes.values().map(LaneState::depth).sum()
    }
}

impl Shared {
    fn now_ms(&self) -> u64 {
        1_700_000_000_000 + u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl LaneState {
    pub fn depth(&self) -> usize {
        self.ready.len() + self.unsettled.len()
    }

    /// Returns what is unsettled to the head, in order, and frees the lane.
    pub fn give_back(&mut self) {
        self.owner = None;
        while let Some((_, mut message)) = self.unsettled.pop_last() {
            message.delivered = true;
            self.ready.push_front(message);
        }
    }
}

/// One process's way to the disk.
#[derive(Clone)]
pub(super) struct Process {
    pub disk: Arc<Shared>,
    pub generation: u64,
}

impl Process {
    /// Does something on the disk, unless this process has crashed.
    pub fn with<T>(&self, work: impl FnOnce(&mut Durable) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut state = lock(&self.disk.state);
        if state.generation != self.generation {
            return Err(Fault::unavailable("backplane: this process has crashed"));
        }
        work(&mut state)
    }

    /// Reads the hash and state store.
    pub fn read<T>(&self, work: impl FnOnce(&Store) -> T) -> Result<T, Fault> {
        self.with(|state| Ok(work(&state.store)))
    }

    /// Writes the hash and state store, and remembers what it was.
    pub fn write<T>(&self, work: impl FnOnce(&mut Store) -> T) -> Result<T, Fault> {
        self.with(|state| {
            if self.disk.remembered > 0 {
                if state.past.len() == self.disk.remembered {
                    state.past.pop_front();
                }
                state.past.push_back(Arc::clone(&state.store));
            }
            Ok(work(Arc::make_mut(&mut state.store)))
        })
    }

    /// Milliseconds since 1970 on the paused clock.
    pub fn now_ms(&self) -> u64 {
        self.disk.now_ms()
    }
}
