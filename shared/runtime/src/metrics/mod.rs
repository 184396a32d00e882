//! What a process measures about itself, by the API of OpenTelemetry, told in Prometheus' text format.
//!
//! `docs/metrics.md` names every metric; a test compares the page with what is exported. Nothing here is done per record:
//! the guard is told per call, and the counters of pipelines are read when somebody asks.

mod breakers;
mod guard;
mod heart;
mod pipelines;
mod process;
mod stock;

#[cfg(test)]
pub(crate) mod tests;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use fides_core::{Fault, PipelineId};
use fides_engine::{Pipeline, Progress};
use fides_guard::Meter;
use opentelemetry::metrics::{Counter, MeterProvider};
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use prometheus::{Registry, TextEncoder};

use crate::telemetry;
use breakers::Breakers;
use guard::{GuardMeter, Instruments};
use pipelines::Pipelines;
use stock::Stock;

/// The content type of [`Metrics::text`].
pub(crate) const TEXT_FORMAT: &str = prometheus::TEXT_FORMAT;

/// The measurements of this process. Clones are the same measurements.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    /// Its name, and what tells it from others of that name.
    service: String,
    instance: String,
    registry: Registry,
    /// Instruments are silent once their provider is gone.
    provider: SdkMeterProvider,
    calls: Arc<Instruments>,
    breakers: Arc<Breakers>,
    pipelines: Arc<Pipelines>,
    stock: Arc<Stock>,
    commands: Counter<u64>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Measurements of the service of that name (`fides`, `fides-importer`), with an empty registry of their own.
    pub fn new(service: &'static str) -> Result<Metrics, Fault> {
        Self::exported(telemetry::resource(service), None)
    }

    /// Measurements of `resource` that are also exported.
    pub(crate) fn exported(
        resource: Resource,
        reader: Option<PeriodicReader<MetricExporter>>,
    ) -> Result<Metrics, Fault> {
        let attribute = |name| resource.get(&Key::from_static_str(name)).map_or_else(String::new, |it| it.to_string());
        let (service, instance) = (attribute("service.name"), attribute("service.instance.id"));
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .map_err(|error| Fault::permanent("metrics cannot be exported").because(error))?;
        let builder = SdkMeterProvider::builder().with_resource(resource).with_reader(exporter);
        let provider = match reader {
            Some(reader) => builder.with_reader(reader).build(),
            None => builder.build(),
        };
        let meter = provider.meter("fides");
        process::observe(&meter);
        let inner = Inner {
            service,
            instance,
            registry,
            calls: Arc::new(Instruments::new(&meter)),
            breakers: Breakers::observed(&meter),
            pipelines: Pipelines::observed(&meter),
            stock: Stock::observed(&meter),
            commands: meter
                .u64_counter("fides.commands")
                .with_unit("{command}")
                .with_description("Commands that were answered, by what was asked and what was answered.")
                .build(),
            provider,
        };
        Ok(Metrics { inner: Arc::new(inner) })
    }

    /// A meter for a guard; what it is told goes to `tracing` too.
    ///
    /// Take one for every guard: a part that is guarded several times has several breakers, and only one that has a meter
    /// of its own is told apart. Of those the worst is shown, for as long as somebody holds its meter; so a meter that
    /// outlives its guard shows the last state of a breaker that is no more.
    pub fn meter(&self) -> Arc<dyn Meter> {
        Arc::new(GuardMeter::new(Arc::clone(&self.inner.calls), self.inner.breakers.join()))
    }

    /// Shows the counters of a pipeline from now on, instead of those shown under its name before.
    pub fn pipeline(&self, id: &PipelineId, progress: Arc<Progress>) {
        self.inner.pipelines.show(id, progress);
    }

    /// Asks the backplane for what `pipelines` hold, every now and then, for as long as it is polled.
    pub async fn keep_stock(&self, pipelines: &[Pipeline]) -> Infallible {
        self.inner.stock.keep(pipelines).await
    }

    /// Counts a command that was answered.
    pub(crate) fn commanded(&self, command: &'static str, status: &'static str) {
        self.inner.commands.add(1, &[KeyValue::new("command", command), KeyValue::new("status", status)]);
    }

    /// Exports what is measured now, and no more. Blocks, for some seconds where nobody takes it.
    pub(crate) fn end(&self) {
        // What cannot be sent was told by whoever sends it.
        let _ = self.inner.provider.shutdown();
    }

    /// Everything measured so far, in Prometheus' text format.
    pub fn text(&self) -> Result<String, Fault> {
        TextEncoder::new()
            .encode_to_string(&self.inner.registry.gather())
            .map_err(|error| Fault::permanent("metrics cannot be written as text").because(error))
    }
}
