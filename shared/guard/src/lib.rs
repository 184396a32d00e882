//! Retry, circuit breaker, rate limit, timeout and telemetry, as layers over a port.
//!
//! [`guard_target`], [`guard_host`] and [`guard_backplane`] put the same stack before every call that crosses a network (DESIGN §7); how it
//! is composed is written down once, in `stack.rs`. All waiting is done on tokio's clock, so that a paused clock governs
//! it, and every call is cancel-safe as far as the port behind it is.

mod backplane;
mod breaker;
mod host;
mod meter;
mod observe;
mod rate_limit;
mod reply;
mod retry;
mod stack;
mod target;
mod timeout;

#[cfg(test)]
mod tests;

pub use backplane::{guard_admin_queue, guard_backplane};
pub use host::guard_host;
pub use meter::{BreakerState, Called, Meter, NoMeter, TracingMeter};
pub use reply::Tally;
pub use target::guard_target;
