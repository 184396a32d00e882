//! What a process tells while it works: log lines, spans of the batches that it moves, and by OTLP its measurements too.

mod ecs;
mod fields;
mod identity;
mod otlp;
#[cfg(test)]
pub(crate) mod tests;

use std::io::IsTerminal;

use fides_core::{Fault, SPANS};
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::EnvResourceDetector;
use tracing::Subscriber;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::config::{Config, Log, LogFormat};
use crate::metrics::Metrics;
use ecs::Ecs;
use identity::Identify;
use otlp::Exporters;

/// Where log lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, of a process that has nothing else to say there.
    Out,
    /// Standard error, of a command whose results are on standard output.
    Err,
}

impl Stream {
    fn is_terminal(self) -> bool {
        match self {
            Self::Out => std::io::stdout().is_terminal(),
            Self::Err => std::io::stderr().is_terminal(),
        }
    }
}

/// Sends the log lines of `service` to `stream`: for people on a terminal, in the terms of ECS elsewhere, unless the
/// configuration says which. `RUST_LOG` overrides the level. Called once.
pub fn install_logging(service: &'static str, log: &Log, stream: Stream) {
    let is_ecs = is_ecs(log.format, stream);
    // Without lines that name their trace nobody looks at spans.
    let filtered = tracing_subscriber::registry().with(filter(log, is_ecs)).with(is_ecs.then_some(Identify));
    if filtered.with(lines(service, is_ecs, stream)).try_init().is_err() {
        tracing::debug!("logging was installed before");
    }
}

/// What a process tells, until it ends.
pub struct Telemetry {
    exporters: Option<Exporters>,
    metrics: Metrics,
}

impl Telemetry {
    /// [`install_logging`], and the same lines, spans and measurements by OTLP where configuration or environment name a
    /// collector. Called once, within the runtime that works.
    pub fn install(service: &'static str, config: &Config, stream: Stream) -> Result<Telemetry, Fault> {
        let resource = resource(service);
        let mut exporters = Exporters::of(config, &resource)?;
        let metrics = Metrics::exported(resource, exporters.as_mut().and_then(Exporters::take_metrics))?;
        if let Some(exporters) = &exporters {
            let is_ecs = is_ecs(config.log.format, stream);
            let filtered = tracing_subscriber::registry().with(filter(&config.log, true)).with(Identify);
            let exported = filtered.with(exporters.spans()).with(exporters.lines());
            if exported.with(lines(service, is_ecs, stream)).try_init().is_err() {
                tracing::debug!("logging was installed before");
            }
        } else {
            install_logging(service, &config.log, stream);
        }
        Ok(Telemetry { exporters, metrics })
    }

    /// The measurements of this process.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Sends what is left. Blocks, for some seconds where a collector does not answer: called outside of the runtime, and
    /// before that ends.
    pub fn end(self) {
        if let Some(exporters) = &self.exporters {
            self.metrics.end();
            exporters.end();
        }
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").field("exported", &self.exporters.is_some()).finish_non_exhaustive()
    }
}

/// Who tells: replicas of a service are told apart by their instance.
pub(crate) fn resource(service: &'static str) -> Resource {
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.namespace", "fides"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", uuid::Uuid::now_v7().to_string()),
        ])
        .with_detector(Box::new(EnvResourceDetector::new()))
        .with_service_name(service)
        .build()
}

fn is_ecs(format: LogFormat, stream: Stream) -> bool {
    match format {
        LogFormat::Ecs => true,
        LogFormat::Pretty => false,
        LogFormat::Auto => !stream.is_terminal(),
    }
}

fn filter(log: &Log, spans: bool) -> EnvFilter {
    // lapin logs the bodies of returned messages, which are records; its faults reach us as faults.
    // Who asked for what is told at every level.
    let default = EnvFilter::new(format!("{},lapin=off,tokio_cron_scheduler=warn,fides::audit=info", log.level));
    let filter = EnvFilter::try_from_default_env().unwrap_or(default);
    // Spans are no lines: whether there are any has nothing to do with the level of lines.
    let spans = if spans { "info" } else { "off" };
    match format!("{SPANS}={spans}").parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    }
}

/// The layer that writes lines.
fn lines<S>(service: &'static str, is_ecs: bool, stream: Stream) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    match (is_ecs, stream) {
        (true, Stream::Out) => ecs(service, std::io::stdout).boxed(),
        (true, Stream::Err) => ecs(service, std::io::stderr).boxed(),
        // A line for people tells what it is about itself.
        (false, Stream::Out) => fmt::layer().compact().with_filter(filter_fn(|it| !it.is_span())).boxed(),
        (false, Stream::Err) => {
            fmt::layer().compact().with_writer(std::io::stderr).with_filter(filter_fn(|it| !it.is_span())).boxed()
        }
    }
}

fn ecs<S, W>(service: &'static str, writer: W) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // The fields of spans are no part of a line, and are not formatted.
    let nothing = fmt::format::debug_fn(|_, _, _| Ok(()));
    fmt::layer().fmt_fields(nothing).event_format(Ecs { service }).with_writer(writer)
}
