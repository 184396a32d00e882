use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, pending};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fides_core::{Fault, FaultKind, Key};
use tokio::sync::Semaphore;

use super::lock;

/// What happens to one call.
#[derive(Clone, Debug)]
pub enum Act {
    /// Nothing special.
    Pass,
    /// It fails and did nothing.
    Reject(FaultKind),
    /// It fails although it was done: a publish perhaps in part, an apply perhaps not, saying Unknown.
    FailAfter(FaultKind),
    /// Some of an apply's changes fail, the others are written; any other call is rejected.
    Partial(FaultKind),
    /// It takes that long, and then is done.
    Slow(Duration),
    /// The target writes after that long, even if the caller has given up or crashed meanwhile: a late write (L6). A
    /// delay above the server's own deadline is a planted bug. Any other call is slow.
    Late(Duration),
    /// It waits for the gate.
    Hold(Gate),
    /// The process crashes before the call.
    CrashBefore,
    /// The process crashes after the call was done.
    CrashAfter,
}

/// Holds calls until it is opened, for good.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets everyone pass.
    pub fn open(&self) {
        self.0.close();
    }

    async fn pass(&self) {
        // A closed semaphore refuses at once: that is the open gate.
        let _closed = self.0.acquire().await;
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// How probable each [`Act`] is, per call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Of [`Act::Reject`] as Transient.
    pub transient: f64,
    /// Of [`Act::Reject`] as Throttled.
    pub throttled: f64,
    /// Of [`Act::Reject`] as Unavailable.
    pub unavailable: f64,
    /// Of [`Act::FailAfter`] as Transient.
    pub fail_after: f64,
    /// Of [`Act::Partial`] as Transient.
    pub partial: f64,
    /// Of [`Act::Slow`].
    pub slow: f64,
    /// Of [`Act::Late`].
    pub late: f64,
    /// Of [`Act::CrashBefore`] and [`Act::CrashAfter`], each half as probable.
    pub crash: f64,
    /// Longest delay of a slow or late call.
    pub delay_ms_max: u64,
    /// A write of a target that is late is so many times as late.
    pub late_factor: u32,
}

/// A seeded source of failures, shared by the ports of one process. Clones share their state.
#[derive(Clone)]
pub struct Faults(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    crashed: Semaphore,
}

struct State {
    rng: fastrand::Rng,
    rates: Rates,
    scripts: BTreeMap<String, VecDeque<Act>>,
    poison: BTreeSet<Key>,
    calls: BTreeMap<String, u64>,
}

impl Faults {
    /// Failures drawn from `seed`.
    pub fn new(seed: u64, rates: Rates) -> Self {
        let state = State {
            rng: fastrand::Rng::with_seed(seed),
            rates,
            scripts: BTreeMap::new(),
            poison: BTreeSet::new(),
            calls: BTreeMap::new(),
        };
        Self(Arc::new(Inner { state: Mutex::new(state), crashed: Semaphore::new(0) }))
    }

    /// No failures but scripted ones.
    pub fn none() -> Self {
        Self::new(0, Rates::default())
    }

    /// Draws by other rates from now on; `Rates::default()` is calm weather.
    pub fn set_rates(&self, rates: Rates) {
        lock(&self.0.state).rates = rates;
    }

    /// Decides the next calls of one operation (`target.apply`, `queue.settle`, …), before anything is drawn.
    pub fn script(&self, operation: &str, acts: impl IntoIterator<Item = Act>) {
        lock(&self.0.state).scripts.entry(operation.to_owned()).or_default().extend(acts);
    }

    /// Keys whose changes a target refuses for good.
    pub fn poison(&self, keys: impl IntoIterator<Item = Key>) {
        lock(&self.0.state).poison = keys.into_iter().collect();
    }

    /// How often an operation was called.
    pub fn calls(&self, operation: &str) -> u64 {
        lock(&self.0.state).calls.get(operation).copied().unwrap_or(0)
    }

    /// Returns once a port call decided that the process crashes: whoever runs the process then drops it, at that call.
    pub async fn crashed(&self) {
        // Closed by the crash.
        let _closed = self.0.crashed.acquire().await;
    }

    /// Whether the process has crashed.
    pub fn has_crashed(&self) -> bool {
        self.0.crashed.is_closed()
    }

    /// Crashes the process now: never returns.
    pub async fn crash<T>(&self) -> T {
        self.0.crashed.close();
        pending().await
    }

    /// Passes a call, or fails it as scripted or drawn.
    pub async fn call<T>(&self, operation: &str, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let act = self.act(operation).await;
        match &act {
            Act::Pass | Act::Slow(_) | Act::Late(_) | Act::Hold(_) => call.await,
            Act::Reject(kind) | Act::Partial(kind) => Err(injected(operation, *kind, "before it was done")),
            Act::FailAfter(kind) => {
                call.await?;
                Err(injected(operation, *kind, "after it was done"))
            }
            Act::CrashBefore => self.crash().await,
            Act::CrashAfter => {
                // The outcome dies with the process.
                let _lost = call.await;
                self.crash().await
            }
        }
    }

    /// What happens to the next call; delays other than late ones have passed when it returns.
    pub(super) async fn act(&self, operation: &str) -> Act {
        if self.has_crashed() {
            return Act::CrashBefore;
        }
        let act = self.draw(operation);
        match &act {
            Act::Slow(delay) => tokio::time::sleep(*delay).await,
            Act::Late(delay) if operation != "target.apply" => tokio::time::sleep(*delay).await,
            Act::Hold(gate) => gate.pass().await,
            _ => {}
        }
        act
    }

    fn draw(&self, operation: &str) -> Act {
        let state = &mut *lock(&self.0.state);
        *state.calls.entry(operation.to_owned()).or_default() += 1;
        if let Some(act) = state.scripts.get_mut(operation).and_then(VecDeque::pop_front) {
            return act;
        }
        let Rates {
            transient,
            throttled,
            unavailable,
            fail_after,
            partial,
            slow,
            late,
            crash,
            delay_ms_max,
            late_factor,
        } = state.rates;
        let delay = Duration::from_millis(state.rng.u64(0..=delay_ms_max));
        let choices = [
            (transient, Act::Reject(FaultKind::Transient)),
            (throttled, Act::Reject(FaultKind::Throttled { after: delay })),
            (unavailable, Act::Reject(FaultKind::Unavailable)),
            (fail_after, Act::FailAfter(FaultKind::Transient)),
            (partial, Act::Partial(FaultKind::Transient)),
            (slow, Act::Slow(delay)),
            (late, Act::Late(if operation == "target.apply" { delay * late_factor.max(1) } else { delay })),
            (crash / 2.0, Act::CrashBefore),
            (crash / 2.0, Act::CrashAfter),
        ];
        let mut drawn = state.rng.f64();
        for (rate, act) in choices {
            if drawn < rate {
                return act;
            }
            drawn -= rate;
        }
        Act::Pass
    }

    pub(super) fn coin(&self) -> bool {
        lock(&self.0.state).rng.bool()
    }

    pub(super) fn up_to(&self, count: usize) -> usize {
        lock(&self.0.state).rng.usize(0..=count)
    }

    pub(super) fn is_poison(&self, key: &Key) -> bool {
        lock(&self.0.state).poison.contains(key)
    }
}

pub(super) fn injected(operation: &str, kind: FaultKind, when: &str) -> Fault {
    Fault::new(kind, format!("{operation}: injected {kind:?}, {when}"))
}
