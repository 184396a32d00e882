use std::sync::Arc;
use std::time::Duration;

use fides_guard::{BreakerState, Called, Meter as GuardListener, TracingMeter};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

use super::breakers::States;

/// Bounds of call durations in seconds: from a read of a local file to a call's longest timeout.
const DURATION_BOUNDS: [f64; 15] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// What is counted of calls, for all guards.
pub(super) struct Instruments {
    records: Counter<u64>,
    duration: Histogram<f64>,
    retries: Counter<u64>,
    throttles: Counter<u64>,
}

impl Instruments {
    pub fn new(meter: &Meter) -> Self {
        Self {
            records: meter
                .u64_counter("fides.call.records")
                .with_unit("{record}")
                .with_description("Records of calls to hosts, targets and the backplane, by what became of them.")
                .build(),
            duration: meter
                .f64_histogram("fides.call.duration")
                .with_unit("s")
                .with_description(
                    "Durations of calls to hosts, targets and the backplane, with all attempts and waits.",
                )
                .with_boundaries(DURATION_BOUNDS.to_vec())
                .build(),
            retries: meter
                .u64_counter("fides.call.retries")
                .with_unit("{attempt}")
                .with_description("Attempts that were made again after a failure.")
                .build(),
            throttles: meter
                .u64_counter("fides.call.throttles")
                .with_unit("{answer}")
                .with_description("Answers by which a part asked for patience.")
                .build(),
        }
    }
}

/// Measures what a guard tells, and tells it to `tracing` as well.
pub(super) struct GuardMeter {
    calls: Arc<Instruments>,
    breakers: Arc<States>,
    tracing: TracingMeter,
}

impl GuardMeter {
    pub fn new(calls: Arc<Instruments>, breakers: Arc<States>) -> Self {
        Self { calls, breakers, tracing: TracingMeter }
    }
}

impl GuardListener for GuardMeter {
    fn called(&self, call: &Called<'_>) {
        self.tracing.called(call);
        self.breakers.met(call.name);
        let part = KeyValue::new("part", call.name.to_owned());
        let operation = KeyValue::new("operation", call.operation);
        let tally = call.tally;
        let outcomes =
            [("done", tally.done), ("stale", tally.stale), ("unknown", tally.unknown), ("failed", tally.failed)];
        for (outcome, records) in outcomes.into_iter().filter(|(_, records)| *records > 0) {
            let outcome = KeyValue::new("outcome", outcome);
            self.calls.records.add(records, &[part.clone(), operation.clone(), outcome]);
        }
        let seconds = call.latency.as_secs_f64();
        match call.fault {
            None => self.calls.duration.record(seconds, &[part, operation]),
            Some(fault) => {
                // L9: the kind is the adapter's; the attribute is of OpenTelemetry's conventions.
                let error = KeyValue::new("error.type", fault.kind.name());
                self.calls.duration.record(seconds, &[part, operation, error]);
            }
        }
    }

    fn retrying(&self, name: &str, operation: &'static str, attempt: u32, wait: Duration) {
        self.tracing.retrying(name, operation, attempt, wait);
        let attributes = [KeyValue::new("part", name.to_owned()), KeyValue::new("operation", operation)];
        self.calls.retries.add(1, &attributes);
    }

    fn throttled(&self, name: &str, after: Duration) {
        self.tracing.throttled(name, after);
        self.calls.throttles.add(1, &[KeyValue::new("part", name.to_owned())]);
    }

    fn breaker(&self, name: &str, state: BreakerState) {
        self.tracing.breaker(name, state);
        self.breakers.turned(name, state);
    }
}
