use std::time::Duration;

use fides_core::Fault;

use crate::Tally;

/// What the guard tells about itself. Called on the caller's task: it must not block.
pub trait Meter: Send + Sync {
    /// A call ended, after all its attempts.
    fn called(&self, _call: &Called<'_>) {}

    /// An attempt failed and is made again after `wait`.
    fn retrying(&self, _name: &str, _operation: &'static str, _attempt: u32, _wait: Duration) {}

    /// The other side asked for patience.
    fn throttled(&self, _name: &str, _after: Duration) {}

    /// The breaker changed its state.
    fn breaker(&self, _name: &str, _state: BreakerState) {}
}

/// One call with all its attempts.
#[derive(Clone, Copy, Debug)]
pub struct Called<'a> {
    /// The host or target, as the configuration names it.
    pub name: &'a str,
    /// The port's method.
    pub operation: &'static str,
    /// What became of its records; a call that is not about single records counts as one.
    pub tally: Tally,
    /// The first fault that was left at the end.
    pub fault: Option<&'a Fault>,
    /// How long it took, waits included.
    pub latency: Duration,
}

/// Whether calls are let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// They are.
    Closed,
    /// One is, as a probe.
    HalfOpen,
    /// They are refused.
    Open,
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMeter;

impl Meter for NoMeter {}

/// Tells `tracing`: failures and states as warnings, the rest as details.
#[derive(Clone, Copy, Debug, Default)]
pub struct TracingMeter;

impl Meter for TracingMeter {
    fn called(&self, call: &Called<'_>) {
        let Called { name: part, operation, tally: Tally { done, stale, unknown, failed }, fault, latency } = *call;
        let latency_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        match fault {
            None => tracing::debug!(part, operation, done, stale, latency_ms, "call"),
            Some(fault) => {
                tracing::warn!(part, operation, done, stale, unknown, failed, latency_ms, %fault, "call failed");
            }
        }
    }

    fn retrying(&self, name: &str, operation: &'static str, attempt: u32, wait: Duration) {
        tracing::debug!(part = name, operation, attempt, ?wait, "trying again");
    }

    fn throttled(&self, name: &str, after: Duration) {
        tracing::info!(part = name, ?after, "throttled");
    }

    fn breaker(&self, name: &str, state: BreakerState) {
        match state {
            BreakerState::Open => tracing::warn!(part = name, "breaker open: calls are refused"),
            BreakerState::HalfOpen => tracing::info!(part = name, "breaker half-open: one probe"),
            BreakerState::Closed => tracing::info!(part = name, "breaker closed"),
        }
    }
}
