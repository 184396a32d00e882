//! Request units: counted, and kept within what may be used.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Requests that are sent again at the same time, at most.
const TURNS_MAX: usize = 32;
/// So many more for each that passed, and one fewer for each that was refused again: an account that refuses less than two
/// of three is used as much as it grants, and one that refuses more is asked by fewer, at last one at a time.
const TURNS_PER_PASSED: usize = 2;
/// How long an account may answer nothing but 429 before that is told.
const SHUT_AFTER: Duration = Duration::from_secs(5);

/// What requests cost, and when the next one may be sent. Shared by everything that uses one account.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Request units of a second; without a bound when absent.
    per_second: Option<f64>,
    state: Mutex<State>,
    /// For those that were answered 429, first come, first served.
    turns: Semaphore,
}

#[derive(Debug)]
struct State {
    free_at: Instant,
    /// When the first and the last answer 429 came since one that was none, or a time without any.
    throttled: Option<(Instant, Instant)>,
    /// Turns that there are, and that there should be.
    turns: usize,
    turns_wanted: usize,
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
        let (free_at, spent) = (Instant::now(), Spent::default());
        let state = State { free_at, throttled: None, turns: 1, turns_wanted: 1, spent };
        Self { per_second: per_second.map(f64::from), state: Mutex::new(state), turns: Semaphore::new(1) }
    }

    /// When the next request may be sent.
    pub fn free_at(&self) -> Instant {
        self.state().free_at
    }

    /// Whether the account has answered nothing but 429 for long.
    pub fn is_shut(&self) -> bool {
        self.state().throttled.is_some_and(|(since, last)| is_recent(last) && !is_recent(since))
    }

    /// Waits until a request that was answered 429 may be sent again, and for its turn; `None` when that is not before `end`,
    /// or the account is shut.
    pub async fn turn(&self, end: Instant) -> Option<Turn<'_>> {
        let permit = tokio::time::timeout_at(end, self.turns.acquire()).await.ok()?.ok()?;
        let turn = Turn { pace: self, permit: Some(permit) };
        self.rested(end).await.then_some(turn)
    }

    /// Waits until requests may be sent again; `false` when that is not before `end`, or the account is shut.
    pub async fn rested(&self, end: Instant) -> bool {
        loop {
            let free_at = self.free_at();
            if free_at.max(Instant::now()) >= end || self.is_shut() {
                return false;
            }
            if free_at <= Instant::now() {
                return true;
            }
            tokio::time::sleep_until(free_at).await;
        }
    }

    /// Counts an answer. Its cost is known only now, so that a request may go into debt, which the next ones wait for.
    pub fn spend(&self, units: f64) {
        let mut state = self.state();
        state.throttled = None;
        self.count(&mut state, units);
    }

    /// Counts an answer 429. The account asked to be left alone: no request is sent before.
    pub fn rest(&self, units: f64, after: Duration) {
        let mut state = self.state();
        state.spent.throttled += 1;
        let now = Instant::now();
        let since = state.throttled.filter(|(_, last)| is_recent(*last)).map_or(now, |(since, _)| since);
        state.throttled = Some((since, now));
        self.count(&mut state, units);
        state.free_at = state.free_at.max(Instant::now() + after);
    }

    fn count(&self, state: &mut State, units: f64) {
        state.spent.requests += 1;
        state.spent.units += units;
        if let Some(per_second) = self.per_second {
            let due = Duration::try_from_secs_f64(units / per_second).unwrap_or_default();
            state.free_at = state.free_at.max(Instant::now()) + due;
        }
    }

    /// All that was used until now.
    pub fn spent(&self) -> Spent {
        self.state().spent
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_recent(at: Instant) -> bool {
    at.elapsed() < SHUT_AFTER
}

/// The right to send a request again, until it is dropped.
pub(crate) struct Turn<'p> {
    pace: &'p Pace,
    permit: Option<SemaphorePermit<'p>>,
}

impl Turn<'_> {
    /// The request was answered 429 once more.
    pub fn refused(&self) {
        let mut state = self.pace.state();
        state.turns_wanted = (state.turns_wanted - 1).max(1);
    }

    /// It was answered otherwise.
    pub fn passed(&self) {
        let mut state = self.pace.state();
        state.turns_wanted = (state.turns_wanted + TURNS_PER_PASSED).min(TURNS_MAX);
        let more = state.turns_wanted.saturating_sub(state.turns);
        state.turns += more;
        self.pace.turns.add_permits(more);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.pace.state();
        if let Some(permit) = self.permit.take().filter(|_| state.turns > state.turns_wanted) {
            state.turns -= 1;
            permit.forget();
        }
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
        pace.rest(0.0, Duration::from_millis(70));
        pace.rest(0.0, Duration::from_millis(20));
        pace.spend(1.0);
        assert_eq!(pace.free_at() - start, Duration::from_millis(70));
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_were_refused_take_turns_and_no_longer_than_they_may() {
        let pace = Pace::new(None);
        let start = Instant::now();
        pace.rest(1.0, Duration::from_millis(70));
        let end = start + Duration::from_secs(1);
        let turn = pace.turn(end).await.unwrap();
        assert_eq!(start.elapsed().as_millis(), 70);
        assert!(pace.turn(end).await.is_none(), "nobody gave a turn back in time");
        assert_eq!(start.elapsed().as_millis(), 1_000);
        drop(turn);
        pace.rest(1.0, Duration::from_millis(70));
        assert!(pace.turn(start + Duration::from_millis(1_050)).await.is_none());
        assert_eq!(start.elapsed().as_millis(), 1_000, "what comes too late is not waited for");
    }

    /// The turns that there are when all requests of `rounds` rounds were answered: `refused` of `of`, in each round.
    async fn turns_after(pace: &Pace, rounds: usize, refused: usize, of: usize) -> usize {
        let end = Instant::now() + Duration::from_mins(1);
        for at in 0..rounds * of {
            let turn = pace.turn(end).await.unwrap();
            if at % of < refused { turn.refused() } else { turn.passed() }
        }
        pace.turns.available_permits()
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_as_many_turns_as_the_account_grants() {
        let pace = Pace::new(None);
        assert_eq!(
            turns_after(&pace, 2 * TURNS_MAX, 1, 2).await,
            TURNS_MAX,
            "half of them refused: no reason to be slow"
        );
        assert_eq!(
            turns_after(&pace, 2 * TURNS_MAX, 3, 4).await,
            1 + TURNS_PER_PASSED,
            "more would only be refused more"
        );
        assert_eq!(turns_after(&pace, TURNS_MAX, 1, 1).await, 1, "it has room for none");
        assert_eq!(turns_after(&pace, 1, 0, 1).await, 1 + TURNS_PER_PASSED);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_there_should_not_be_ends_with_its_request() {
        let pace = Pace::new(None);
        let end = Instant::now() + Duration::from_mins(1);
        assert_eq!(turns_after(&pace, TURNS_MAX, 0, 1).await, TURNS_MAX);
        let mut turns = Vec::new();
        for _ in 0..TURNS_MAX {
            turns.push(pace.turn(end).await.unwrap());
        }
        assert_eq!(pace.turns.available_permits(), 0);
        turns[..TURNS_MAX / 2].iter().for_each(Turn::refused);
        turns.clear();
        assert_eq!(pace.turns.available_permits(), TURNS_MAX / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_that_answers_nothing_but_429_is_shut_until_it_answers() {
        let pace = Pace::new(None);
        let end = Instant::now() + Duration::from_mins(1);
        let mut times = 0;
        while pace.turn(end).await.is_some() {
            times += 1;
            pace.rest(0.0, Duration::from_secs(1));
        }
        assert_eq!(times, 5, "one a second, for five seconds since the first");
        pace.spend(1.0);
        assert!(pace.turn(end).await.is_some());
        // One that was not asked for long did not refuse for long.
        pace.rest(0.0, Duration::from_millis(1));
        tokio::time::sleep(SHUT_AFTER).await;
        pace.rest(0.0, Duration::from_millis(1));
        assert!(pace.turn(end).await.is_some());
    }
}
