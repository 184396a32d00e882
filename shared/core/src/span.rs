/// The target of the spans of batches: one for each page that is sent, round of a lane, and call of theirs; none for a record.
///
/// They are `tracing`'s, and nobody below the runtime knows an exporter: what one needs is in their fields. `traceparent` is the
/// span's own identity where messages carry it, `parent` and `links` are identities that messages brought, `otel.name` and
/// `otel.kind` say how it is shown, `error.type` and `error.message` that it failed. All others are attributes.
pub const SPANS: &str = "fides::span";
