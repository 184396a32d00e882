//! From the events of `tracing` to the log records of OpenTelemetry: the same lines, by the same names.

use std::time::SystemTime;

use opentelemetry::logs::{AnyValue, LogRecord, Logger, Severity};
use opentelemetry::trace::{SpanId, TraceFlags, TraceId};
use opentelemetry_sdk::logs::SdkLogger;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::attribute_name;
use crate::telemetry::fields::{Fields, Value};
use crate::telemetry::identity::{self, Ids};

/// Exports every line that is written.
pub(in crate::telemetry) struct Lines {
    logger: SdkLogger,
}

impl Lines {
    pub fn new(logger: SdkLogger) -> Self {
        Self { logger }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let within = identity::of_event(&context, event);
        let ids = fields.trace.as_deref().and_then(Ids::parse).or(within.as_ref().map(|within| within.ids));
        let (severity, text) = severity(*event.metadata().level());

        let mut record = self.logger.create_log_record();
        record.set_timestamp(SystemTime::now());
        record.set_target(event.metadata().target());
        record.set_severity_number(severity);
        record.set_severity_text(text);
        if let Some(ids) = ids {
            let (trace, span) =
                (TraceId::from_bytes(ids.trace.to_be_bytes()), SpanId::from_bytes(ids.span.to_be_bytes()));
            record.set_trace_context(trace, span, Some(TraceFlags::SAMPLED));
        }
        if let Some(error) = fields.error.take() {
            record.add_attribute("exception.message", error);
        }
        if let Some(within) = within {
            for (name, value) in [("pipeline", within.pipeline), ("lane", within.lane)] {
                if let Some(value) = value.filter(|_| fields.get(name).is_none()) {
                    record.add_attribute(attribute_name(name), any(value));
                }
            }
        }
        for (name, value) in fields.others {
            record.add_attribute(attribute_name(name), any(value));
        }
        record.set_body(fields.message.into());
        self.logger.emit(record);
    }
}

fn severity(level: Level) -> (Severity, &'static str) {
    match level {
        Level::ERROR => (Severity::Error, "ERROR"),
        Level::WARN => (Severity::Warn, "WARN"),
        Level::INFO => (Severity::Info, "INFO"),
        Level::DEBUG => (Severity::Debug, "DEBUG"),
        Level::TRACE => (Severity::Trace, "TRACE"),
    }
}

fn any(value: Value) -> AnyValue {
    match value {
        Value::Bool(value) => value.into(),
        Value::I64(value) => value.into(),
        Value::U64(value) => i64::try_from(value).unwrap_or(i64::MAX).into(),
        Value::F64(value) => value.into(),
        Value::Text(value) => value.into(),
    }
}
