//! What an exporter is given is what the engine said.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use fides_core::SPANS;
use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanExporter, SpanProcessor};
use tracing::field::Empty;
use tracing_subscriber::layer::SubscriberExt;

use super::Spans;
use crate::telemetry::identity::Identify;

#[derive(Clone, Debug, Default)]
struct Received(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Received {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The spans that end while `tell` tells, in the order of their ends.
fn received(tell: impl FnOnce()) -> Vec<SpanData> {
    let received = Received::default();
    let processor = Arc::new(BatchSpanProcessor::builder(received.clone()).build());
    let spans = Spans::new(Arc::clone(&processor), InstrumentationScope::builder("fides").build(), "rabbitmq");
    tracing::subscriber::with_default(tracing_subscriber::registry().with(Identify).with(spans), tell);
    processor.force_flush().unwrap();
    std::mem::take(&mut received.0.lock().unwrap())
}

const ONE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OTHER: &str = "00-5bf92f3577b34da6a3ce929d0e0e4736-10f067aa0ba902b7-01";

#[test]
fn a_span_has_the_identity_that_messages_carry() {
    let spans = received(|| {
        let page = tracing::info_span!(target: SPANS, "send", otel.name = "send orders", otel.kind = "producer",
            traceparent = ONE, "messaging.operation.name" = "send", pipeline = "orders", sent = Empty);
        page.in_scope(|| {
            drop(tracing::info_span!(target: SPANS, "call", otel.name = "scan host shop", otel.kind = "client"));
            // A span of another library is none of a batch.
            drop(tracing::info_span!(target: "sqlx", "query"));
        });
        page.record("sent", 7u64);
    });
    let [call, page] = &spans[..] else { panic!("{spans:?}") };
    let trace = TraceId::from_hex("4bf92f3577b34da6a3ce929d0e0e4736").unwrap();
    assert_eq!(page.span_context.trace_id(), trace);
    assert_eq!(page.span_context.span_id(), SpanId::from_hex("00f067aa0ba902b7").unwrap());
    assert_eq!(
        (page.parent_span_id, &*page.name, &page.span_kind),
        (SpanId::INVALID, "send orders", &SpanKind::Producer)
    );
    let attributes = [
        KeyValue::new("messaging.operation.name", "send"),
        KeyValue::new("fides.pipeline", "orders"),
        KeyValue::new("fides.sent", 7i64),
        KeyValue::new("messaging.system", "rabbitmq"),
    ];
    assert_eq!(page.attributes, attributes);
    assert_eq!(page.status, Status::Unset);
    assert!(page.end_time >= page.start_time && page.span_context.is_sampled());

    assert_eq!((call.span_context.trace_id(), call.parent_span_id), (trace, page.span_context.span_id()));
    assert_eq!(
        (&*call.name, &call.span_kind, call.parent_span_is_remote),
        ("scan host shop", &SpanKind::Client, false)
    );
    assert_ne!(call.span_context.span_id(), page.span_context.span_id());
}

#[test]
fn a_span_is_linked_to_what_messages_brought() {
    let links = format!("{ONE},{OTHER},no traceparent");
    let spans = received(|| {
        drop(
            tracing::info_span!(target: SPANS, "process", otel.kind = "consumer", traceparent = OTHER, links = &*links),
        );
        drop(tracing::info_span!(target: SPANS, "process", otel.kind = "consumer", parent = ONE, links = ONE));
    });
    let [several, one] = &spans[..] else { panic!("{spans:?}") };
    let linked: Vec<String> = several.links.iter().map(|link| link.span_context.span_id().to_string()).collect();
    assert_eq!(
        (linked, several.parent_span_id),
        (vec!["00f067aa0ba902b7".into(), "10f067aa0ba902b7".into()], SpanId::INVALID)
    );
    assert_eq!((&*several.name, several.attributes.len()), ("process", 0));
    assert_eq!((one.parent_span_id.to_string(), one.parent_span_is_remote), ("00f067aa0ba902b7".into(), true));
    assert_eq!(one.span_context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
}

#[test]
fn what_failed_says_so_and_what_nothing_caused_is_no_span() {
    let spans = received(|| {
        let round =
            tracing::info_span!(target: SPANS, "process", parent = ONE, "error.type" = Empty, error.message = Empty);
        round.record("error.type", "transient");
        round.record("error.message", "reset by peer");
        drop(round);
        drop(tracing::info_span!(target: SPANS, "call", otel.name = "get backplane redis"));
    });
    let [round] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(round.status, Status::error("reset by peer"));
    assert_eq!(round.attributes, [KeyValue::new("error.type", "transient")]);
}
