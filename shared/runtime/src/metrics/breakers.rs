//! The states of breakers. OpenTelemetry keeps one value for each part; here are all, so that the worst can be shown.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use fides_engine::inspect::Breaker;
use fides_guard::BreakerState;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

/// The breakers of all meters that somebody holds.
#[derive(Default)]
pub(super) struct Breakers(Mutex<Vec<Weak<States>>>);

/// The breakers that tell one meter, by part.
#[derive(Default)]
pub(super) struct States(Mutex<BTreeMap<String, u64>>);

impl Breakers {
    /// Breakers whose states are read whenever somebody asks.
    pub fn observed(meter: &Meter) -> Arc<Self> {
        let breakers = Arc::new(Self::default());
        let observed = Arc::clone(&breakers);
        meter
            .u64_observable_gauge("fides.breaker.state")
            .with_unit("{state}")
            .with_description("State of the circuit breaker before a part: 0 closed, 1 half-open, 2 open.")
            .with_callback(move |observer| {
                for (part, state) in observed.worst() {
                    observer.observe(state, &[KeyValue::new("part", part)]);
                }
            })
            .build();
        breakers
    }

    /// The states of one more meter, which count until they are dropped.
    pub fn join(&self) -> Arc<States> {
        let states = Arc::new(States::default());
        let mut all = held(&self.0);
        all.retain(|states| states.strong_count() > 0);
        all.push(Arc::downgrade(&states));
        states
    }

    /// The worst state of each part's breakers.
    pub fn told(&self) -> BTreeMap<String, Breaker> {
        let named = |state| match state {
            0 => Breaker::Closed,
            1 => Breaker::HalfOpen,
            _ => Breaker::Open,
        };
        self.worst().into_iter().map(|(part, state)| (part, named(state))).collect()
    }

    fn worst(&self) -> BTreeMap<String, u64> {
        let mut worst = BTreeMap::new();
        for states in held(&self.0).iter().filter_map(Weak::upgrade) {
            for (part, state) in &*held(&states.0) {
                let worst = worst.entry(part.clone()).or_insert(*state);
                *worst = (*worst).max(*state);
            }
        }
        worst
    }
}

impl States {
    /// A part was called: its breaker, if it has said nothing yet, is closed.
    pub fn met(&self, part: &str) {
        let mut states = held(&self.0);
        if !states.contains_key(part) {
            states.insert(part.to_owned(), number(BreakerState::Closed));
        }
    }

    /// The breaker before a part changed its state.
    pub fn turned(&self, part: &str, state: BreakerState) {
        held(&self.0).insert(part.to_owned(), number(state));
    }
}

/// The worse, the higher.
fn number(state: BreakerState) -> u64 {
    match state {
        BreakerState::Closed => 0,
        BreakerState::HalfOpen => 1,
        BreakerState::Open => 2,
    }
}

/// What the mutex guards. No code panics while it holds one of these, so a poisoned one is whole.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
