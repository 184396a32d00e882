use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use fides_core::port::{Fencing, Outcome};
use fides_core::{Change, Fault, Limits};

use crate::Meter;
use crate::breaker::Breaker;
use crate::observe::Observe;
use crate::rate_limit::RateLimit;
use crate::retry::Retry;
use crate::timeout::Timeout;

/// One call, as its layers see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// The port's method.
    pub operation: &'static str,
    /// What it costs of the rate: the records of a write, 0 for a read that is not paced.
    pub weight: usize,
    /// How long one attempt may take.
    pub timeout: Duration,
}

/// The layers before one host or target, shared by everything that calls it.
pub(crate) struct Stack {
    observe: Observe,
    retry: Retry,
    breaker: Breaker,
    rate_limit: RateLimit,
    timeout: Timeout,
}

impl Stack {
    pub fn new(name: &str, rate: Option<u32>, limits: &Limits, meter: Arc<dyn Meter>) -> Self {
        let name: Arc<str> = name.into();
        let tell = || Arc::clone(&meter);
        Self {
            observe: Observe::new(&name, tell()),
            retry: Retry::new(&name, limits, tell()),
            breaker: Breaker::new(&name, limits, tell()),
            rate_limit: RateLimit::new(&name, rate, limits, meter),
            timeout: Timeout::new(&name),
        }
    }

    /// Observe(Retry(Breaker(RateLimit(Timeout(adapter))))). `adapter` makes one attempt each time it is called.
    pub async fn call<T, F, A>(&self, call: Call, adapter: F) -> Result<T, Fault>
    where
        F: Fn() -> A,
        A: Future<Output = Result<T, Fault>>,
    {
        let Self { observe, retry, breaker, rate_limit, timeout } = self;
        let attempt = || breaker.call(call, rate_limit.call(call, timeout.call(call, adapter())));
        observe.call(call, retry.call(call, attempt)).await
    }

    /// Observe(Retry(adapter)), for a call that may wait as long as it takes for the other side to have room.
    pub async fn wait<T, F, A>(&self, call: Call, adapter: F) -> Result<T, Fault>
    where
        F: Fn() -> A,
        A: Future<Output = Result<T, Fault>>,
    {
        self.observe.call(call, self.retry.call(call, adapter)).await
    }

    /// [`Stack::call`] for a write, of which each attempt makes only what the ones before left open.
    pub async fn apply<'a, F, A>(&self, call: Call, fencing: Fencing, changes: &'a [Change], adapter: F) -> Vec<Outcome>
    where
        F: Fn(Cow<'a, [Change]>) -> A,
        A: Future<Output = Vec<Outcome>>,
    {
        let Self { observe, retry, breaker, rate_limit, timeout } = self;
        let attempt = |changes: Cow<'a, [Change]>| {
            let call = Call { weight: changes.len(), ..call };
            breaker.call(call, rate_limit.call(call, timeout.call(call, adapter(changes))))
        };
        observe.call(call, retry.apply(call, fencing, changes, attempt)).await
    }
}
