//! From the spans of `tracing` to those of OpenTelemetry.
//!
//! By hand, because the ids of our spans are in messages: the engine makes them, and knows no exporter. A bridge that makes ids
//! itself would have to be asked for them by whoever sends a message.

use std::sync::Arc;
use std::time::SystemTime;

use fides_core::SPANS;
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor};
use tracing::Subscriber;
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::attribute;
use crate::telemetry::fields::{Fields, Value};
use crate::telemetry::identity::{Identity, Ids};

/// Exports spans that have an identity, when they end.
pub(in crate::telemetry) struct Spans {
    exporter: Arc<BatchSpanProcessor>,
    scope: InstrumentationScope,
    /// What carries the messages.
    messaging: &'static str,
}

impl Spans {
    pub fn new(exporter: Arc<BatchSpanProcessor>, scope: InstrumentationScope, messaging: &'static str) -> Self {
        Self { exporter, scope, messaging }
    }
}

/// A span that has not ended.
struct Open {
    began: SystemTime,
    fields: Fields,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().target() != SPANS {
            return;
        }
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(Open { began: SystemTime::now(), fields });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            values.record(&mut open.fields);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let open = span.extensions_mut().remove::<Open>();
        let identity = span.extensions().get::<Identity>().cloned();
        if let (Some(open), Some(identity)) = (open, identity) {
            self.exporter.on_end(self.ended(span.name(), &open, &identity));
        }
    }
}

impl Spans {
    fn ended(&self, name: &'static str, Open { began, fields }: &Open, identity: &Identity) -> SpanData {
        let text = |name| match fields.get(name) {
            Some(Value::Text(text)) => Some(text.as_str()),
            _ => None,
        };
        let mut links = SpanLinks::default();
        let linked = text("links").unwrap_or_default().split(',').filter_map(Ids::parse);
        links.links.extend(linked.map(|ids| Link::with_context(context_of(ids, true))));
        let (parent, is_remote) = identity.parent.unwrap_or_default();
        SpanData {
            span_context: context_of(identity.ids, false),
            parent_span_id: SpanId::from_bytes(parent.to_be_bytes()),
            parent_span_is_remote: is_remote,
            span_kind: match text("otel.kind") {
                Some("producer") => SpanKind::Producer,
                Some("consumer") => SpanKind::Consumer,
                Some("client") => SpanKind::Client,
                _ => SpanKind::Internal,
            },
            name: text("otel.name").map_or(name.into(), |name| name.to_owned().into()),
            start_time: *began,
            end_time: SystemTime::now(),
            attributes: self.attributes(fields),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: match (text("error.type"), text("error.message")) {
                (None, None) => Status::Unset,
                (_, why) => Status::error(why.unwrap_or_default().to_owned()),
            },
            instrumentation_scope: self.scope.clone(),
        }
    }

    fn attributes(&self, fields: &Fields) -> Vec<KeyValue> {
        let is_ours = |name: &str| {
            !matches!(name, "traceparent" | "parent" | "links" | "otel.name" | "otel.kind" | "error.message")
        };
        let told = fields.others.iter().filter(|(name, _)| is_ours(name));
        let mut attributes: Vec<_> = told.map(|(name, value)| attribute(name, value)).collect();
        if fields.get("messaging.operation.name").is_some() {
            attributes.push(KeyValue::new("messaging.system", self.messaging));
        }
        attributes
    }
}

fn context_of(ids: Ids, is_remote: bool) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(ids.trace.to_be_bytes()),
        SpanId::from_bytes(ids.span.to_be_bytes()),
        TraceFlags::SAMPLED,
        is_remote,
        TraceState::NONE,
    )
}
