//! A line is what its reader expects, whatever was told.

use std::io::Write;
use std::sync::{Arc, Mutex};

use fides_core::{Fault, SPANS};
use serde_json::Value;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

use super::ecs;
use super::identity::Identify;

/// What was written, to be read by whoever holds a clone.
#[derive(Clone, Default)]
pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    /// Its lines so far.
    pub fn parsed(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        parsed(&text.lines().map(ToOwned::to_owned).collect::<Vec<_>>())
    }

    /// How many of its lines have that message.
    pub fn count(&self, message: &str) -> usize {
        let said = format!("\"message\":{},", Value::from(message));
        std::str::from_utf8(&self.0.lock().unwrap()).unwrap().matches(&said).count()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Written {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Writes lines in the terms of ECS, as a service does.
pub(crate) fn gathered(written: Written) -> impl Subscriber + Send + Sync {
    let level = LevelFilter::INFO;
    tracing_subscriber::registry().with(level).with(Identify).with(ecs("fides-test", written))
}

/// What is written while `tell` tells.
fn written(tell: impl FnOnce()) -> Vec<String> {
    let written = Written::default();
    let subscriber = tracing_subscriber::registry().with(Identify).with(ecs("importer", written.clone()));
    tracing::subscriber::with_default(subscriber, tell);
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(ToOwned::to_owned).collect()
}

fn parsed(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn a_line_has_its_fields_in_their_order() {
    let fault = Fault::transient("reset by peer");
    let lines = written(|| {
        tracing::warn!(target: "fides_engine::x", pipeline = "orders", %fault, failures = 3u32, paused = true, ratio = 0.5,
            trace = TRACEPARENT, "lane paused");
    });
    let [line] = &lines[..] else { panic!("{lines:?}") };
    let rest = line.strip_prefix("{\"@timestamp\":\"").unwrap();
    let (at, rest) = rest.split_once('"').unwrap();
    assert!(chrono::DateTime::parse_from_rfc3339(at).is_ok() && at.ends_with('Z'), "{at}");
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        ",\"log.level\":\"WARN\",\"message\":\"lane paused\",\"ecs.version\":\"8.11.0\",\"service.name\":\"importer\",\
         \"service.version\":\"{version}\",\"event.dataset\":\"fides\",\"log.logger\":\"fides_engine::x\",\"error.message\":\"reset by peer\",\
         \"trace.id\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"span.id\":\"00f067aa0ba902b7\",\
         \"fides.pipeline\":\"orders\",\"fides.failures\":3,\"fides.paused\":true,\"fides.ratio\":0.5}}"
    );
    assert_eq!(rest, expected);
}

#[test]
fn whatever_is_told_stays_one_line_of_json() {
    let odd = "a\n\"b\"\\\r\t\u{1}\u{7f}\u{2028}ß\u{1f600}";
    let lines = written(|| tracing::info!(target: "fides", key = odd, not = f64::NAN, ?odd, "{odd}"));
    let [line] = &parsed(&lines)[..] else { panic!("{lines:?}") };
    assert_eq!((line["message"].as_str(), line["fides.key"].as_str()), (Some(odd), Some(odd)));
    assert_eq!((&line["fides.not"], line["fides.odd"].as_str()), (&Value::Null, Some(&*format!("{odd:?}"))));
}

#[test]
fn a_line_within_a_span_names_its_trace_and_its_place() {
    let lines = written(|| {
        let round = tracing::info_span!(target: SPANS, "process", parent = TRACEPARENT, pipeline = "orders", lane = "orders.lane.3");
        let call = tracing::info_span!(target: SPANS, parent: &round, "call", part = "target search");
        call.in_scope(|| tracing::warn!(target: "fides_guard::meter", part = "target search", "call failed"));
        round.in_scope(|| tracing::info!(target: "fides", lane = "its own", "here"));
        tracing::info!(target: "fides", "outside");
        // Nothing caused it: it is in no trace.
        let alone = tracing::info_span!(target: SPANS, "call", part = "backplane redis");
        alone.in_scope(|| tracing::info!(target: "fides", "alone"));
    });
    let lines = parsed(&lines);
    let [call, round, outside, alone] = &lines[..] else { panic!("{lines:?}") };
    for (line, lane) in [(call, "orders.lane.3"), (round, "its own")] {
        assert_eq!(
            (&line["trace.id"], &line["fides.pipeline"], &line["fides.lane"]),
            (&"4bf92f3577b34da6a3ce929d0e0e4736".into(), &"orders".into(), &lane.into()),
            "{line}"
        );
        assert_eq!(line["span.id"].as_str().map(str::len), Some(16), "{line}");
    }
    assert_ne!(call["span.id"], round["span.id"]);
    assert_ne!(round["span.id"], "00f067aa0ba902b7", "that is its sender's");
    for line in [outside, alone] {
        assert!(line.get("trace.id").is_none() && line.get("fides.lane").is_none(), "{line}");
    }
}

#[test]
fn what_other_libraries_tell_is_labels() {
    let lines = written(|| tracing::info!(target: "sqlx::query", rows = 3, "query"));
    let line = &parsed(&lines)[0];
    assert_eq!((&line["labels.rows"], line.get("fides.rows")), (&"3".into(), None), "{line}");
}
