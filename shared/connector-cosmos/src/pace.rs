//! Request units: counted, and kept within what may be used.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What requests cost, and when the next one may be sent. Shared by everything that uses one account.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Request units of a second; without a bound when absent.
    per_second: Option<f64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free_at: Instant,
    spent: Spent,
}

/// What was used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    pub requests: u64,
    pub units: f64,
    pub throttled: u64,
}

impl Pace {
    pub fn new(per_second: Option<u32>) -> Self {
        let state = State { free_at: Instant::now(), spent: Spent::default() };
        Self { per_second: per_second.map(f64::from), state: Mutex::new(state) }
    }

    /// When the next request may be sent.
    pub fn free_at(&self) -> Instant {
        self.state().free_at
    }

    /// Counts an answer. Its cost is known only now, so that a request may go into debt, which the next ones wait for.
    pub fn spend(&self, units: f64) {
        let mut state = self.state();
        state.spent.requests += 1;
        state.spent.units += units;
        if let Some(per_second) = self.per_second {
            let due = Duration::try_from_secs_f64(units / per_second).unwrap_or_default();
            state.free_at = state.free_at.max(Instant::now()) + due;
        }
    }

    /// The account asked to be left alone: no request is sent before.
    pub fn rest(&self, after: Duration) {
        let mut state = self.state();
        state.spent.throttled += 1;
        state.free_at = state.free_at.max(Instant::now() + after);
    }

    /// All that was used until now.
    pub fn spent(&self) -> Spent {
        self.state().spent
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_debt_is_waited_for() {
        let pace = Pace::new(Some(400));
        let start = Instant::now();
        for _ in 0..100 {
            tokio::time::sleep_until(pace.free_at()).await;
            pace.spend(8.0);
        }
        let took = start.elapsed().as_millis();
        assert!((1_950..=2_050).contains(&took), "800 units at 400 a second took {took} ms");
        assert_eq!(pace.spent().requests, 100);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_account_asks_for_holds_for_all() {
        let pace = Pace::new(None);
        let start = Instant::now();
        pace.rest(Duration::from_millis(70));
        pace.rest(Duration::from_millis(20));
        pace.spend(1.0);
        assert_eq!(pace.free_at() - start, Duration::from_millis(70));
    }
}
