use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use fides_core::decide::{Disposition, disposition};
use fides_core::port::{Fencing, Outcome};
use fides_core::{Change, Fault, FaultKind, Limits};

use crate::Meter;
use crate::stack::Call;

/// Tries again what may pass by itself: with full jitter after a Transient fault, after exactly the time that a
/// Throttled one names, at most `retry_attempts_max` times in all (L10). A time above `retry_cap_ms` is not waited for
/// here, where deliveries are held meanwhile: the caller gets the fault, gives them back, and waits. Everything else is the
/// caller's to decide.
pub(crate) struct Retry {
    name: Arc<str>,
    limits: Limits,
    meter: Arc<dyn Meter>,
}

impl Retry {
    pub fn new(name: &Arc<str>, limits: &Limits, meter: Arc<dyn Meter>) -> Self {
        Self { name: Arc::clone(name), limits: limits.clone(), meter }
    }

    pub async fn call<T, F, A>(&self, call: Call, attempt: F) -> Result<T, Fault>
    where
        F: Fn() -> A,
        A: Future<Output = Result<T, Fault>>,
    {
        let mut made = 0;
        loop {
            let fault = match attempt().await {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            made += 1;
            let Some(wait) = self.wait(fault.kind, made) else {
                return Err(fault);
            };
            self.pause(call, made, wait.draw()).await;
        }
    }

    /// Resubmits only the changes that are still open: failed in a way that may pass, or of unknown outcome, where the target
    /// itself refuses what is older.
    ///
    /// L6: elsewhere a write of unknown outcome may still be under way, and would land behind what was written after it.
    /// What keeps it out is the next owner's token, and no token changes here: the caller claims the lane anew.
    pub async fn apply<'a, F, A>(&self, call: Call, fencing: Fencing, changes: &'a [Change], attempt: F) -> Vec<Outcome>
    where
        F: Fn(Cow<'a, [Change]>) -> A,
        A: Future<Output = Vec<Outcome>>,
    {
        let mut outcomes = attempt(Cow::Borrowed(changes)).await;
        let mut made = 1;
        loop {
            let (open, wait) = self.open(&outcomes, fencing, made);
            if open.is_empty() {
                return outcomes;
            }
            self.pause(call, made, wait).await;
            let again = open.iter().map(|&at| changes[at].clone()).collect();
            for (at, outcome) in open.into_iter().zip(attempt(Cow::Owned(again)).await) {
                outcomes[at] = settled(&outcomes[at], outcome);
            }
            made += 1;
        }
    }

    /// Positions to submit again, and after how long: the longest that any of them asks for.
    fn open(&self, outcomes: &[Outcome], fencing: Fencing, made: u32) -> (Vec<usize>, Duration) {
        let mut open = Vec::new();
        let (mut within, mut exactly) = (Duration::ZERO, Duration::ZERO);
        for (at, outcome) in outcomes.iter().enumerate() {
            let fault = match outcome {
                Outcome::Failed(fault) => fault,
                Outcome::Unknown(fault) if fencing == Fencing::Conditional => fault,
                _ => continue,
            };
            match self.wait(fault.kind, made) {
                None => continue,
                Some(Wait::Within(limit)) => within = within.max(limit),
                Some(Wait::Exactly(after)) => exactly = exactly.max(after),
            }
            open.push(at);
        }
        let wait = Wait::Within(within).draw().max(exactly);
        (open, wait)
    }

    /// How long to wait after a fault of attempt `made`; `None` where trying again is not for this layer.
    fn wait(&self, kind: FaultKind, made: u32) -> Option<Wait> {
        match disposition(kind, made, &self.limits) {
            Disposition::Retry { within_ms } => Some(Wait::Within(Duration::from_millis(within_ms))),
            Disposition::Wait { ms } if made < self.limits.retry_attempts_max && ms <= self.limits.retry_cap_ms => {
                Some(Wait::Exactly(Duration::from_millis(ms)))
            }
            Disposition::Wait { .. } | Disposition::Pause | Disposition::Defer | Disposition::Dead => None,
        }
    }

    async fn pause(&self, call: Call, made: u32, wait: Duration) {
        self.meter.retrying(&self.name, call.operation, made, wait);
        tokio::time::sleep(wait).await;
    }
}

#[derive(Clone, Copy)]
enum Wait {
    /// Full jitter: anything up to this.
    Within(Duration),
    Exactly(Duration),
}

impl Wait {
    fn draw(self) -> Duration {
        match self {
            Wait::Within(limit) => limit.mul_f64(fastrand::f64()),
            Wait::Exactly(after) => after,
        }
    }
}

/// The outcome after another attempt. What was unknown stays so until an attempt succeeds: a later failure says nothing
/// of the earlier write, and the caller must clear the mark (L5).
fn settled(before: &Outcome, after: Outcome) -> Outcome {
    match (before, after) {
        (Outcome::Unknown(_), Outcome::Failed(fault)) => Outcome::Unknown(fault),
        (_, after) => after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits that are alike would bring all clients back at the same instant.
    #[test]
    fn a_wait_is_drawn_from_the_whole_range_below_its_limit() {
        fastrand::seed(7);
        let limit = Duration::from_secs(10);
        let drawn: Vec<Duration> = (0..1_000).map(|_| Wait::Within(limit).draw()).collect();
        assert!(drawn.iter().all(|wait| *wait <= limit));
        for tenth in 0..10 {
            let within = limit / 10 * tenth..limit / 10 * (tenth + 1);
            let count = drawn.iter().filter(|wait| within.contains(wait)).count();
            assert!((50..200).contains(&count), "{count} of 1,000 in {within:?}");
        }
        assert_eq!(Wait::Exactly(limit).draw(), limit);
    }
}
