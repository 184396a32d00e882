use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use fides_core::Limits;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::Meter;
use crate::reply::{Health, Reply};
use crate::stack::Call;

/// The rate never falls below this, or nothing would ever be learned again.
const RATE_MIN: f64 = 1.0;
/// Share of the way back that one success gives.
const RAISE: f64 = 0.05;
/// What a throttled answer leaves of the rate.
const LOWER: f64 = 0.5;

/// Paces calls by their weight: a token bucket that goes into debt, so that a batch may be larger than the bucket.
/// Additive increase, multiplicative decrease: Throttled halves the rate, successes bring it back to its ceiling.
///
/// Waiters queue in order and hold nothing while they wait, so that cancelling one costs the others nothing.
pub(crate) struct RateLimit {
    name: Arc<str>,
    meter: Arc<dyn Meter>,
    /// Held by the first waiter while it waits.
    turn: Mutex<()>,
    bucket: std::sync::Mutex<Bucket>,
}

struct Bucket {
    /// As configured; `None` is as fast as the other side goes.
    ceiling: Option<f64>,
    lowered: Option<Lowered>,
    /// A lowered rate is a guess: no call waits longer for it (L10), only for the ceiling.
    patience: Duration,
    /// When the debt is paid.
    free_at: Instant,
    second: Measured,
}

/// A rate below the ceiling, in records per second.
#[derive(Clone, Copy)]
struct Lowered {
    rate: f64,
    /// Where it came from, and where it is lifted again.
    from: f64,
}

/// What went through, second by second: where a rate without a ceiling is lowered from.
struct Measured {
    since: Instant,
    records: f64,
    last: f64,
}

impl RateLimit {
    pub fn new(name: &Arc<str>, rate: Option<u32>, limits: &Limits, meter: Arc<dyn Meter>) -> Self {
        let now = Instant::now();
        let bucket = Bucket {
            ceiling: rate.map(|rate| f64::from(rate).max(RATE_MIN)),
            lowered: None,
            patience: Duration::from_millis(limits.retry_cap_ms),
            free_at: now,
            second: Measured { since: now, records: 0.0, last: 0.0 },
        };
        Self { name: Arc::clone(name), meter, turn: Mutex::new(()), bucket: bucket.into() }
    }

    pub async fn call<R: Reply>(&self, call: Call, next: impl Future<Output = R>) -> R {
        if call.weight > 0 {
            self.take(call.weight).await;
        }
        let reply = next.await;
        match reply.health() {
            Health::Throttled(after) => {
                self.meter.throttled(&self.name, after);
                self.bucket().lower();
            }
            Health::Well if call.weight > 0 => self.bucket().raise(),
            Health::Well | Health::Sick => {}
        }
        reply
    }

    /// Waits for its turn and until earlier debts are paid.
    async fn take(&self, weight: usize) {
        let _turn = self.turn.lock().await;
        loop {
            let free_at = self.bucket().free_at;
            if free_at <= Instant::now() {
                break;
            }
            tokio::time::sleep_until(free_at).await;
        }
        self.bucket().spend(weight);
    }

    fn bucket(&self) -> std::sync::MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Bucket {
    fn rate(&self) -> Option<f64> {
        self.lowered.map(|lowered| lowered.rate).or(self.ceiling)
    }

    // Records per second are a rate, not a datum: a float may round it.
    #[expect(clippy::cast_precision_loss)]
    fn spend(&mut self, weight: usize) {
        let now = Instant::now();
        self.second.count(now, weight as f64);
        let at = |rate: f64| Duration::from_secs_f64(weight as f64 / rate);
        let due = self.ceiling.map_or(Duration::ZERO, at);
        let guessed = self.lowered.map_or(Duration::ZERO, |lowered| at(lowered.rate).min(self.patience));
        self.free_at = now + due.max(guessed);
    }

    fn lower(&mut self) {
        let from = self.lowered.map_or_else(|| self.ceiling.unwrap_or_else(|| self.second.rate()), |it| it.from);
        let rate = self.rate().unwrap_or(from) * LOWER;
        self.lowered = Some(Lowered { rate: rate.max(RATE_MIN), from: from.max(RATE_MIN) });
    }

    fn raise(&mut self) {
        if let Some(lowered) = &mut self.lowered {
            lowered.rate += lowered.from * RAISE;
            if lowered.rate >= lowered.from {
                self.lowered = None;
            }
        }
    }
}

impl Measured {
    fn count(&mut self, now: Instant, records: f64) {
        let elapsed = now.duration_since(self.since).as_secs_f64();
        if elapsed >= 1.0 {
            self.last = self.records / elapsed;
            (self.since, self.records) = (now, 0.0);
        }
        self.records += records;
    }

    /// The faster of the second before and this one so far.
    fn rate(&self) -> f64 {
        self.last.max(self.records / self.since.elapsed().as_secs_f64().max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoMeter;
    use fides_core::{Fault, FaultKind};

    fn limit(rate: Option<u32>) -> RateLimit {
        let meter: Arc<dyn Meter> = Arc::new(NoMeter);
        RateLimit::new(&"shop".into(), rate, &Limits::default(), meter)
    }

    async fn call(limit: &RateLimit, weight: usize, answer: Result<(), Fault>) {
        let call = Call { operation: "apply", weight, timeout: Duration::from_secs(1) };
        let _answer = limit.call(call, async move { answer }).await;
    }

    fn throttled() -> Result<(), Fault> {
        Err(Fault::new(FaultKind::Throttled { after: Duration::ZERO }, "scripted"))
    }

    /// Milliseconds that calls of 100 take.
    async fn pace(limit: &RateLimit, calls: u32) -> u128 {
        call(limit, 100, Ok(())).await;
        let started = Instant::now();
        for _ in 0..calls {
            call(limit, 100, Err(Fault::permanent("neither raises nor lowers anything"))).await;
        }
        started.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_holds_for_many_callers_and_a_cancelled_one_costs_nothing() {
        let limit = Arc::new(limit(Some(1_000)));
        let started = Instant::now();
        let callers: Vec<_> = (0..11)
            .map(|_| {
                let limit = Arc::clone(&limit);
                tokio::spawn(async move { call(&limit, 100, Ok(())).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
        callers[5].abort();
        for caller in callers {
            let _cancelled = caller.await;
        }
        assert_eq!(started.elapsed().as_millis(), 900);
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_halves_the_rate_and_successes_bring_it_back_to_the_ceiling() {
        let limit = limit(Some(1_000));
        assert_eq!(pace(&limit, 10).await, 1_000);
        call(&limit, 100, throttled()).await;
        call(&limit, 100, throttled()).await;
        let rate = || limit.bucket().rate();
        assert_eq!(rate(), Some(250.0));
        for _ in 0..5 {
            call(&limit, 1, Ok(())).await;
        }
        assert_eq!(rate(), Some(500.0));
        for _ in 0..20 {
            call(&limit, 1, Ok(())).await;
        }
        assert_eq!(rate(), Some(1_000.0));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_ceiling_it_is_lowered_from_what_was_measured_and_lifted_again() {
        let limit = limit(None);
        for _ in 0..20 {
            call(&limit, 100, Ok(())).await;
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(limit.bucket().rate(), None);
        call(&limit, 100, throttled()).await;
        let lowered = limit.bucket().rate().unwrap();
        assert!((400.0..=600.0).contains(&lowered), "{lowered}");
        for _ in 0..20 {
            call(&limit, 1, Ok(())).await;
        }
        assert_eq!(limit.bucket().rate(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_guessed_rate_never_holds_a_large_batch_for_long() {
        let limit = limit(None);
        call(&limit, 1, throttled()).await;
        let started = Instant::now();
        call(&limit, 10_000, Ok(())).await;
        call(&limit, 1, Ok(())).await;
        let cap = Duration::from_millis(Limits::default().retry_cap_ms);
        assert!(started.elapsed() > Duration::from_secs(5) && started.elapsed() <= cap * 2, "{:?}", started.elapsed());
    }
}
