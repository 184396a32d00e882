//! Which span of which trace one is: the ids that the engine has put into message headers, and ids of the spans below.

use fides_core::SPANS;
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::fields::{Fields, Value};

/// The ids of W3C's trace context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    pub trace: u128,
    pub span: u64,
}

impl Ids {
    /// The ids in a `traceparent`; `None` where it is none of version 00.
    pub fn parse(traceparent: &str) -> Option<Ids> {
        let mut parts = traceparent.split('-');
        let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
        let is_whole = version == "00" && trace.len() == 32 && span.len() == 16;
        let ids = Ids { trace: u128::from_str_radix(trace, 16).ok()?, span: u64::from_str_radix(span, 16).ok()? };
        (is_whole && ids.trace != 0 && ids.span != 0).then_some(ids)
    }

    fn below(self) -> Ids {
        Ids { trace: self.trace, span: fastrand::u64(1..) }
    }
}

/// What is known of a span while it lasts.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub ids: Ids,
    /// The span above, and whether another process told of it.
    pub parent: Option<(u64, bool)>,
    pub pipeline: Option<Value>,
    pub lane: Option<Value>,
}

/// Gives spans their identity. A span begins a trace only where the engine says so (`traceparent`): calls that nothing caused,
/// such as looks at a lease, are in no trace.
pub(super) struct Identify;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Identify {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().target() != SPANS {
            return;
        }
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let told = |name| fields.get(name).and_then(|value| Ids::parse(&value.to_string()));
        let above = span.parent().and_then(|parent| parent.extensions().get::<Identity>().cloned());
        let (ids, parent) = match (told("traceparent"), told("parent"), &above) {
            (Some(ids), parent, _) => (ids, parent.map(|parent| (parent.span, true))),
            (None, Some(parent), _) => (parent.below(), Some((parent.span, true))),
            (None, None, Some(above)) => (above.ids.below(), Some((above.ids.span, false))),
            (None, None, None) => return,
        };
        let (above_pipeline, above_lane) = above.map(|above| (above.pipeline, above.lane)).unwrap_or_default();
        let pipeline = fields.get("pipeline").cloned().or(above_pipeline);
        let lane = fields.get("lane").cloned().or(above_lane);
        span.extensions_mut().insert(Identity { ids, parent, pipeline, lane });
    }
}

/// The identity of the span that an event happened in.
pub(super) fn of_event<S: Subscriber + for<'a> LookupSpan<'a>>(
    context: &Context<'_, S>,
    event: &Event<'_>,
) -> Option<Identity> {
    context.event_scope(event)?.find_map(|span| span.extensions().get::<Identity>().cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_and_others_are_not() {
        let ids = Ids::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(ids, Ids { trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, span: 0x00f0_67aa_0ba9_02b7 });
        for none in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473x-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(Ids::parse(none), None, "{none}");
        }
    }
}
