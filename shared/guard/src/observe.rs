use std::future::Future;
use std::sync::Arc;

use fides_core::SPANS;
use tokio::time::Instant;
use tracing::Instrument;
use tracing::field::Empty;

use crate::reply::Reply;
use crate::stack::Call;
use crate::{Called, Meter};

/// Tells the meter of every call, and makes it a span. One that is cancelled is not told: nobody knows what became of it.
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
        let span = tracing::info_span!(
            target: SPANS,
            "call",
            otel.name = format_args!("{} {}", call.operation, self.name),
            otel.kind = "client",
            part = &*self.name,
            operation = call.operation,
            done = Empty,
            "error.type" = Empty,
            error.message = Empty,
        );
        let reply = next.instrument(span.clone()).await;
        span.record("done", reply.tally().done);
        if let Some(fault) = reply.fault() {
            span.record("error.type", fault.kind.name());
            span.record("error.message", tracing::field::display(fault));
        }
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
