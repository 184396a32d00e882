//! Spans, lines and measurements by OTLP (http/protobuf), each in batches on a thread of its own.
//!
//! Where the collector is away what does not fit into their bounded queues is dropped: telemetry never holds up work.

mod client;
mod lines;
mod spans;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use fides_core::Fault;
use opentelemetry::logs::LoggerProvider;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::PeriodicReader;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanExporter as _, SpanProcessor};
use secrecy::ExposeSecret;

use crate::config::{Backplane, Config, Otlp};
use client::Client;
pub(super) use lines::Lines;
pub(super) use spans::Spans;

/// Of the standard's variables, those that say where to, one for all and one for each signal.
const ENDPOINTS: [&str; 4] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
];
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";

/// What exports the three signals.
pub(super) struct Exporters {
    spans: Arc<BatchSpanProcessor>,
    lines: SdkLoggerProvider,
    scope: InstrumentationScope,
    messaging: &'static str,
    metrics: Option<PeriodicReader<MetricExporter>>,
}

impl Exporters {
    /// The exporters that the configuration or the environment asks for; `None` where neither does. Called within the
    /// runtime that is to send.
    pub fn of(config: &Config, resource: &Resource) -> Result<Option<Exporters>, Fault> {
        let told = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let is_disabled = told("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let is_asked_for = config.telemetry.otlp.is_some() || ENDPOINTS.iter().any(|name| told(name).is_some());
        if is_disabled || !is_asked_for {
            return Ok(None);
        }
        if let Some(other) = told(PROTOCOL).filter(|protocol| protocol != "http/protobuf") {
            return Err(Fault::permanent(format!(
                "{PROTOCOL} is {other:?}, expected http/protobuf: name the collector's endpoint for HTTP (port 4318)"
            )));
        }
        let otlp = config.telemetry.otlp.as_ref();
        let client: Arc<Client> = Arc::new(Client::new(otlp.and_then(|otlp| otlp.ca_file.as_deref()))?);
        let failed = |error| Fault::permanent("telemetry cannot be exported").because(error);

        let mut spans =
            configured(SpanExporter::builder().with_http(), otlp, &client, "traces").build().map_err(failed)?;
        spans.set_resource(resource);
        let lines = configured(LogExporter::builder().with_http(), otlp, &client, "logs").build().map_err(failed)?;
        let metrics = configured(MetricExporter::builder().with_http(), otlp, &client, "metrics");
        let metrics = PeriodicReader::builder(metrics.build().map_err(failed)?).build();
        Ok(Some(Exporters {
            spans: Arc::new(BatchSpanProcessor::builder(spans).build()),
            lines: SdkLoggerProvider::builder().with_resource(resource.clone()).with_batch_exporter(lines).build(),
            scope: InstrumentationScope::builder("fides").with_version(env!("CARGO_PKG_VERSION")).build(),
            messaging: match config.backplane {
                Backplane::Distributed { .. } => "rabbitmq",
                Backplane::Embedded { .. } => "fides",
            },
            metrics: Some(metrics),
        }))
    }

    /// The layer that exports spans.
    pub fn spans(&self) -> Spans {
        Spans::new(Arc::clone(&self.spans), self.scope.clone(), self.messaging)
    }

    /// The layer that exports lines.
    pub fn lines(&self) -> Lines {
        Lines::new(self.lines.logger_with_scope(self.scope.clone()))
    }

    /// What exports measurements; to be had once.
    pub fn take_metrics(&mut self) -> Option<PeriodicReader<MetricExporter>> {
        self.metrics.take()
    }

    /// Sends what is left, and ends. Blocks, for a few seconds where the collector does not answer; what cannot be sent is
    /// dropped.
    pub fn end(&self) {
        let _ = self.spans.shutdown();
        let _ = self.lines.shutdown();
    }
}

/// An exporter's builder with what the configuration says. Where it says nothing, the environment does.
fn configured<B: WithExportConfig + WithHttpConfig>(
    builder: B,
    otlp: Option<&Otlp>,
    client: &Arc<Client>,
    signal: &str,
) -> B {
    let client: Arc<dyn opentelemetry_http::HttpClient> = Arc::<Client>::clone(client);
    let builder = builder.with_shared_http_client(client).with_protocol(Protocol::HttpBinary);
    let Some(otlp) = otlp else { return builder };
    let base = otlp.endpoint.expose_secret().trim_end_matches('/');
    let headers: HashMap<String, String> =
        otlp.headers.iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned())).collect();
    builder.with_endpoint(format!("{base}/v1/{signal}")).with_headers(headers)
}

/// An attribute of Fides' own, or of OpenTelemetry's conventions: those have dots.
fn attribute_name(name: &'static str) -> opentelemetry::Key {
    if name.contains('.') { name.into() } else { format!("fides.{name}").into() }
}

impl From<&super::fields::Value> for opentelemetry::Value {
    fn from(value: &super::fields::Value) -> Self {
        use super::fields::Value;
        match value {
            Value::Bool(value) => (*value).into(),
            Value::I64(value) => (*value).into(),
            // The protocol has no larger ones.
            Value::U64(value) => i64::try_from(*value).unwrap_or(i64::MAX).into(),
            Value::F64(value) => (*value).into(),
            Value::Text(value) => value.clone().into(),
        }
    }
}

/// An attribute with the value of a field.
fn attribute(name: &'static str, value: &super::fields::Value) -> KeyValue {
    KeyValue::new(attribute_name(name), value)
}
