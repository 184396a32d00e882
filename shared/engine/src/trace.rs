//! Trace context (W3C), so that one record's way from host to target is one trace.

use std::collections::BTreeSet;

use fides_core::{Fault, Lane, PipelineId, SPANS};
use tracing::field::{Empty, display};
use tracing::{Level, Span};

/// A span names so many others at most, as OpenTelemetry's limit is.
const LINKS_MAX: usize = 128;

/// The `traceparent` under which everything of one page of a host, or of one batch of events, travels: in every message's
/// header, and with every dead letter that comes of it. It is the identity of the span that sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace(String);

impl Trace {
    /// Begins a trace. Version 00 of the format, sampled; the ids are random and not zero, which the format forbids.
    pub fn begin() -> Self {
        Self(format!("00-{:032x}-{:016x}-01", fastrand::u128(1..), fastrand::u64(1..)))
    }

    /// The value of the header `traceparent`.
    pub fn traceparent(&self) -> &str {
        &self.0
    }

    /// The span that it is the identity of, which sends what comes of `origin`.
    pub(crate) fn producer(&self, pipeline: &PipelineId, origin: &'static str) -> Span {
        tracing::info_span!(
            target: SPANS,
            "send",
            otel.name = format_args!("send {pipeline}"),
            otel.kind = "producer",
            traceparent = self.traceparent(),
            messaging.operation.name = "send",
            "messaging.operation.type" = "send",
            messaging.destination.name = pipeline.as_str(),
            pipeline = pipeline.as_str(),
            origin,
            read = Empty,
            sent = Empty,
            "error.type" = Empty,
            error.message = Empty,
        )
    }
}

/// The span of a round of a lane, linked to the spans that sent what it gathered: the traces of its batches, and how many
/// changes they are. Where one span sent all of it, the round is of the same trace.
pub(crate) fn consumer<'a>(
    lane: &Lane,
    batches: impl ExactSizeIterator<Item = Option<&'a str>>,
    changes: usize,
) -> Span {
    if batches.len() == 0 || !tracing::span_enabled!(target: SPANS, Level::INFO) {
        return Span::none();
    }
    let messages = batches.len();
    let senders: BTreeSet<&str> = batches.flatten().collect();
    let (parent, own) = match senders.first() {
        Some(one) if senders.len() == 1 => (Some(*one), None),
        _ => (None, Some(Trace::begin())),
    };
    let links: Vec<&str> = senders.iter().take(LINKS_MAX).copied().collect();
    tracing::info_span!(
        target: SPANS,
        "process",
        otel.name = format_args!("process {lane}"),
        otel.kind = "consumer",
        traceparent = own.as_ref().map(Trace::traceparent),
        parent,
        links = links.join(","),
        messaging.operation.name = "process",
        "messaging.operation.type" = "process",
        messaging.destination.name = display(lane),
        messaging.batch.message_count = messages,
        pipeline = lane.pipeline.as_str(),
        lane = display(lane),
        changes,
        "error.type" = Empty,
        error.message = Empty,
    )
}

/// Says in a span why it failed.
pub(crate) fn told<T>(span: &Span, result: Result<T, Fault>) -> Result<T, Fault> {
    result.inspect_err(|fault| {
        span.record("error.type", fault.kind.name());
        span.record("error.message", display(fault));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_has_the_form_of_the_standard_and_is_new_every_time() {
        let trace = Trace::begin();
        let parts: Vec<&str> = trace.traceparent().split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2], "{trace:?}");
        assert_eq!((parts[0], parts[3]), ("00", "01"));
        for id in &parts[1..3] {
            assert!(id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)), "{id}");
            assert!(id.bytes().any(|byte| byte != b'0'), "{id}");
        }
        assert_ne!(Trace::begin(), trace);
    }
}
