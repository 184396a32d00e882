//! Log lines in the terms of the Elastic Common Schema: one JSON object a line, fields in one order.
//!
//! By hand: no maintained formatter knows the trace of a line, and what an own one needs is this file.

use std::fmt;

use chrono::{SecondsFormat, Utc};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::fields::{Fields, Value};
use super::identity::{Identity, Ids};

/// What tells our lines from those of others, wherever lines are gathered.
const DATASET: &str = "fides";
/// The version of the schema that the names are of.
const ECS_VERSION: &str = "8.11.0";

/// Formats events. What is Fides' own is under `fides`; fields of other libraries are `labels`.
pub(super) struct Ecs {
    /// The name of the service.
    pub service: &'static str,
}

impl<S, N> FormatEvent<S, N> for Ecs
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let scope = context.event_scope();
        let within = scope.and_then(|mut scope| scope.find_map(|span| span.extensions().get::<Identity>().cloned()));
        let ids = fields.trace.as_deref().and_then(Ids::parse).or(within.as_ref().map(|within| within.ids));
        let (level, target) = (event.metadata().level(), event.metadata().target());

        let mut line = Line { writer, is_first: true };
        line.text("@timestamp", &Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true))?;
        line.text("log.level", level.as_str())?;
        line.text("message", &fields.message)?;
        line.text("ecs.version", ECS_VERSION)?;
        line.text("service.name", self.service)?;
        line.text("service.version", env!("CARGO_PKG_VERSION"))?;
        line.text("event.dataset", DATASET)?;
        line.text("log.logger", target)?;
        if let Some(error) = &fields.error {
            line.text("error.message", error)?;
        }
        if let Some(ids) = ids {
            line.text("trace.id", &format!("{:032x}", ids.trace))?;
            line.text("span.id", &format!("{:016x}", ids.span))?;
        }
        let space = if target.starts_with("fides") { "fides" } else { "labels" };
        if let Some(Identity { pipeline, lane, .. }) = within {
            // Where the line does not say it itself.
            for (name, value) in [("pipeline", pipeline), ("lane", lane)] {
                if let Some(value) = value.filter(|_| fields.get(name).is_none()) {
                    line.value("fides", name, &value)?;
                }
            }
        }
        for (name, value) in &fields.others {
            line.value(space, name, value)?;
        }
        line.end()
    }
}

/// A JSON object that is being written.
struct Line<'a> {
    writer: Writer<'a>,
    is_first: bool,
}

impl Line<'_> {
    fn open(&mut self) -> fmt::Result {
        self.writer.write_char(if std::mem::take(&mut self.is_first) { '{' } else { ',' })
    }

    fn text(&mut self, name: &str, value: &str) -> fmt::Result {
        self.open()?;
        quoted(&mut self.writer, &[name])?;
        self.writer.write_char(':')?;
        quoted(&mut self.writer, &[value])
    }

    fn value(&mut self, space: &str, name: &str, value: &Value) -> fmt::Result {
        self.open()?;
        quoted(&mut self.writer, &[space, ".", name])?;
        self.writer.write_char(':')?;
        match value {
            Value::Text(text) => quoted(&mut self.writer, &[text]),
            // JSON has no such numbers.
            Value::F64(number) if !number.is_finite() => self.writer.write_str("null"),
            // Labels are keywords, whatever a library tells.
            other if space == "labels" => quoted(&mut self.writer, &[&other.to_string()]),
            other => write!(self.writer, "{other}"),
        }
    }

    fn end(mut self) -> fmt::Result {
        self.writer.write_str("}\n")
    }
}

/// A JSON string: no control character survives, so a line stays one line.
fn quoted(writer: &mut Writer<'_>, parts: &[&str]) -> fmt::Result {
    writer.write_char('"')?;
    for part in parts {
        let mut plain = 0;
        for (at, byte) in part.bytes().enumerate().filter(|(_, byte)| *byte < 0x20 || matches!(byte, b'"' | b'\\')) {
            writer.write_str(&part[plain..at])?;
            match byte {
                b'"' | b'\\' => write!(writer, "\\{}", char::from(byte))?,
                b'\n' => writer.write_str("\\n")?,
                b'\t' => writer.write_str("\\t")?,
                _ => write!(writer, "\\u{byte:04x}")?,
            }
            plain = at + 1;
        }
        writer.write_str(&part[plain..])?;
    }
    writer.write_char('"')
}
