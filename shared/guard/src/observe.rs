use std::future::Future;
use std::sync::Arc;

use tokio::time::Instant;

use crate::reply::Reply;
use crate::stack::Call;
use crate::{Called, Meter};

/// Tells the meter of every call. One that is cancelled is not told: nobody knows what became of it.
pub(crate) struct Observe {
    name: Arc<str>,
    meter: Arc<dyn Meter>,
}

impl Observe {
    pub fn new(name: &Arc<str>, meter: Arc<dyn Meter>) -> Self {
        Self { name: Arc::clone(name), meter }
    }

    pub async fn call<R: Reply>(&self, call: Call, next: impl Future<Output = R>) -> R {
        let started = Instant::now();
        let reply = next.await;
        self.meter.called(&Called {
            name: &self.name,
            operation: call.operation,
            tally: reply.tally(),
            fault: reply.fault(),
            latency: started.elapsed(),
        });
        reply
    }
}
