use std::future::Future;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use failsafe::backoff::{self, Constant};
use failsafe::failure_policy::{self, ConsecutiveFailures};
use failsafe::{Instrument, StateMachine};
use fides_core::{Fault, Limits};
use tokio::time::Instant;

use crate::reply::{Health, Reply};
use crate::stack::Call;
use crate::{BreakerState, Meter};

/// Refuses calls after `breaker_failures` failures in a row, for `breaker_open_ms`; then lets exactly one through as a
/// probe. A refusal is Unavailable: the caller stops consuming, and nothing is lost (DESIGN §7).
///
/// Failures are counted by `failsafe`, which lets everyone through when half-open and keeps the time by the system's
/// clock. So the probe's permit and the time to it (on tokio's clock) are kept here, and failsafe's own delay is zero.
pub(crate) struct Breaker {
    name: Arc<str>,
    open_for: Duration,
    machine: StateMachine<ConsecutiveFailures<Constant>, Observer>,
    observer: Observer,
    gate: Mutex<Gate>,
}

#[derive(Default)]
struct Gate {
    /// When the probe may start.
    open_until: Option<Instant>,
    probing: bool,
    /// What failed last.
    last: String,
    /// What mends it, where that is known.
    advice: Option<String>,
}

impl Breaker {
    pub fn new(name: &Arc<str>, limits: &Limits, meter: Arc<dyn Meter>) -> Self {
        let observer = Observer { name: Arc::clone(name), meter, state: Arc::default() };
        let policy = failure_policy::consecutive_failures(limits.breaker_failures, backoff::constant(Duration::ZERO));
        Self {
            name: Arc::clone(name),
            open_for: Duration::from_millis(limits.breaker_open_ms),
            machine: StateMachine::new(policy, observer.clone()),
            observer,
            gate: Mutex::default(),
        }
    }

    pub async fn call<R: Reply>(&self, call: Call, next: impl Future<Output = R>) -> R {
        let permit = match self.permit() {
            Ok(permit) => permit,
            Err(fault) => return R::refused(fault, call.weight),
        };
        let reply = next.await;
        permit.settle(&reply);
        reply
    }

    fn permit(&self) -> Result<Permit<'_>, Fault> {
        let mut gate = self.gate();
        let now = Instant::now();
        if let Some(until) = gate.open_until.filter(|until| now < *until) {
            return Err(self.refusal(&gate, &format!("the next probe comes in {:?}", until - now)));
        }
        if gate.probing || !self.machine.is_call_permitted() {
            return Err(self.refusal(&gate, "a probe is under way"));
        }
        let probe = self.observer.state() != BreakerState::Closed;
        gate.probing = probe;
        Ok(Permit { breaker: self, probe, settled: false })
    }

    fn refusal(&self, gate: &Gate, when: &str) -> Fault {
        let (name, last) = (&self.name, &gate.last);
        let patience = "nothing is lost: what waits is sent when it answers again";
        let advice = gate.advice.as_ref().map_or(patience.to_owned(), |advice| format!("{advice}; {patience}"));
        Fault::unavailable(format!("{name}: circuit breaker is open; {when}; the last failure was: {last}"))
            .advise(advice)
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to make one call. Dropped without an answer (a cancelled call), it says nothing of the other side, but
/// lets another caller probe.
struct Permit<'a> {
    breaker: &'a Breaker,
    probe: bool,
    settled: bool,
}

impl Permit<'_> {
    /// Counts the call, once. Refused records and throttling show that the other side answers. A call from before the
    /// breaker opened no longer counts: only the probe decides.
    fn settle(mut self, reply: &impl Reply) {
        self.settled = true;
        let Breaker { machine, observer, open_for, .. } = self.breaker;
        let mut gate = self.breaker.gate();
        if self.probe {
            gate.probing = false;
        } else if observer.state() != BreakerState::Closed {
            return;
        }
        match reply.health() {
            Health::Well | Health::Throttled(_) => machine.on_success(),
            Health::Sick => {
                gate.last = reply.fault().map(|fault| fault.what.clone()).unwrap_or_default();
                gate.advice = reply.fault().and_then(|fault| fault.advice.clone());
                machine.on_error();
            }
        }
        gate.open_until = (observer.state() == BreakerState::Open).then(|| Instant::now() + *open_for);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.probe && !self.settled {
            self.breaker.gate().probing = false;
        }
    }
}

/// Learns the state from failsafe.
#[derive(Clone)]
struct Observer {
    name: Arc<str>,
    meter: Arc<dyn Meter>,
    state: Arc<AtomicU8>,
}

impl Observer {
    fn state(&self) -> BreakerState {
        match self.state.load(Ordering::SeqCst) {
            0 => BreakerState::Closed,
            1 => BreakerState::HalfOpen,
            _ => BreakerState::Open,
        }
    }

    fn now(&self, state: BreakerState) {
        let before = self.state.swap(state as u8, Ordering::SeqCst);
        if before != state as u8 {
            self.meter.breaker(&self.name, state);
        }
    }
}

impl Instrument for Observer {
    fn on_call_rejected(&self) {}

    fn on_open(&self) {
        self.now(BreakerState::Open);
    }

    fn on_half_open(&self) {
        self.now(BreakerState::HalfOpen);
    }

    fn on_closed(&self) {
        self.now(BreakerState::Closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoMeter;
    use fides_core::FaultKind;
    use std::sync::atomic::AtomicUsize;
    use tokio::sync::Semaphore;

    const CALL: Call = Call { operation: "apply", weight: 1, timeout: Duration::from_secs(1) };

    fn breaker() -> Arc<Breaker> {
        let limits = Limits { breaker_failures: 3, breaker_open_ms: 5_000, ..Limits::default() };
        let meter: Arc<dyn Meter> = Arc::new(NoMeter);
        Arc::new(Breaker::new(&"shop".into(), &limits, meter))
    }

    async fn with(breaker: &Breaker, answer: Result<(), FaultKind>) -> Result<(), Fault> {
        let answer = answer.map_err(|kind| Fault::new(kind, "scripted"));
        breaker.call(CALL, async move { answer }).await
    }

    async fn sick(breaker: &Breaker, times: usize) {
        for _ in 0..times {
            assert_eq!(with(breaker, Err(FaultKind::Transient)).await.unwrap_err().what, "scripted");
        }
    }

    fn refused(answer: &Result<(), Fault>) -> bool {
        answer.as_ref().is_err_and(|fault| fault.kind == FaultKind::Unavailable && fault.what.contains("breaker"))
    }

    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_in_a_row_and_says_when_the_probe_comes() {
        let breaker = breaker();
        for kind in [FaultKind::Permanent, FaultKind::Deferred, FaultKind::Throttled { after: Duration::ZERO }] {
            sick(&breaker, 2).await;
            with(&breaker, Err(kind)).await.unwrap_err();
        }
        sick(&breaker, 3).await;
        tokio::time::advance(Duration::from_secs(2)).await;
        let fault = with(&breaker, Ok(())).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unavailable);
        assert!(fault.what.starts_with("shop:") && fault.what.contains("the next probe comes in 3s"), "{fault}");
        assert!(fault.what.ends_with("scripted"), "{fault}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_ten_callers_probes_and_its_answer_decides() {
        for (answer, closes) in [(Ok(()), true), (Err(FaultKind::Unavailable), false)] {
            let breaker = breaker();
            sick(&breaker, 3).await;
            tokio::time::advance(Duration::from_secs(5)).await;
            let (gate, made) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
            let callers: Vec<_> = (0..10)
                .map(|_| {
                    let (breaker, gate, made) = (Arc::clone(&breaker), Arc::clone(&gate), Arc::clone(&made));
                    tokio::spawn(async move {
                        let probe = async {
                            made.fetch_add(1, Ordering::SeqCst);
                            let _closed = gate.acquire().await;
                            answer.map_err(|kind| Fault::new(kind, "scripted"))
                        };
                        breaker.call(CALL, probe).await
                    })
                })
                .collect();
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(made.load(Ordering::SeqCst), 1);
            gate.close();
            let mut refusals = 0;
            for caller in callers {
                refusals += usize::from(refused(&caller.await.unwrap()));
            }
            assert_eq!(refusals, 9);
            assert_eq!(with(&breaker, Ok(())).await.is_ok(), closes);
            tokio::time::advance(Duration::from_secs(5)).await;
            with(&breaker, Ok(())).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_probe_lets_the_next_one_try() {
        let breaker = breaker();
        sick(&breaker, 3).await;
        tokio::time::advance(Duration::from_secs(5)).await;
        let never = breaker.call(CALL, std::future::pending::<Result<(), Fault>>());
        assert!(tokio::time::timeout(Duration::from_millis(1), never).await.is_err());
        with(&breaker, Ok(())).await.unwrap();
        assert_eq!(breaker.observer.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_from_before_it_opened_decides_nothing() {
        let held = |breaker: &Arc<Breaker>, answer: Result<(), Fault>| {
            let (breaker, gate) = (Arc::clone(breaker), Arc::new(Semaphore::new(0)));
            let held = Arc::clone(&gate);
            let work = async move {
                let _closed = held.acquire().await;
                answer
            };
            (gate, tokio::spawn(async move { breaker.call(CALL, work).await }))
        };
        let breaker = breaker();
        let (early_gate, early) = held(&breaker, Ok(()));
        tokio::task::yield_now().await;
        sick(&breaker, 3).await;
        tokio::time::advance(Duration::from_secs(5)).await;
        let (probe_gate, probe) = held(&breaker, Err(Fault::transient("scripted")));
        tokio::task::yield_now().await;
        early_gate.close();
        early.await.unwrap().unwrap();
        assert!(refused(&with(&breaker, Ok(())).await));
        probe_gate.close();
        probe.await.unwrap().unwrap_err();
        assert!(refused(&with(&breaker, Ok(())).await));
    }
}
