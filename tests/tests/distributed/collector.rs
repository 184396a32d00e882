//! A collector of OpenTelemetry, and what it received.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tokio::net::TcpStream;

use crate::until::{MINUTE, until};

/// A Rotel of a test's own, which prints what it receives; killed when it is dropped.
pub struct Collector {
    child: Child,
    printed: PathBuf,
    /// Where it takes OTLP over HTTP.
    pub endpoint: String,
}

/// A span as the collector received it.
#[derive(Clone, Debug, Default)]
pub struct Span {
    pub service: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub kind: String,
    pub attributes: BTreeMap<String, String>,
    /// Trace and span of each.
    pub links: Vec<(String, String)>,
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Collector {
    pub async fn start(folder: &std::path::Path) -> Self {
        let program = std::env::var("FIDES_TEST_ROTEL")
            .unwrap_or_else(|_| panic!("FIDES_TEST_ROTEL is not set: run this through tests/parts/rotel"));
        let printed = folder.join("collector.out");
        let (http, grpc) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
        let out = File::create(&printed).unwrap();
        let child = Command::new(program)
            .args(["start", "--exporter", "blackhole", "--debug-log-verbosity", "detailed"])
            .args(["traces", "metrics", "logs"].map(|signal| format!("--debug-log={signal}")))
            .args(["--otlp-http-endpoint", &http, "--otlp-grpc-endpoint", &grpc])
            .args(["--log-file", folder.join("collector.log").to_str().unwrap()])
            .args(["--pid-file", folder.join("collector.pid").to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        let collector = Self { child, printed, endpoint: format!("http://{http}") };
        until("the collector answers", MINUTE, async || TcpStream::connect(&http).await.is_ok()).await;
        collector
    }

    /// All that it has printed.
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.printed).unwrap()).into_owned()
    }

    /// The spans that it has received so far.
    pub fn spans(&self) -> Vec<Span> {
        let (mut spans, mut service) = (Vec::<Span>::new(), String::new());
        // What the lines at hand are about.
        let (mut in_spans, mut in_link) = (false, false);
        for line in self.printed().lines() {
            let line = line.trim();
            if line.starts_with("Resource") && line.contains('#') {
                in_spans = false;
                service.clear();
            } else if line.starts_with("Span #") {
                (in_spans, in_link) = (true, false);
                spans.push(Span { service: service.clone(), ..Span::default() });
            } else if line.starts_with("SpanLink #") {
                in_link = true;
            } else if let Some(name) = line.strip_prefix("-> service.name: ")
                && !in_spans
            {
                service = plain(name);
            } else if let (true, Some(span), Some((name, value))) = (in_spans, spans.last_mut(), line.split_once(':')) {
                let value = value.trim();
                match (name.trim_start_matches("-> ").trim(), in_link) {
                    ("Trace ID", true) => span.links.push((value.to_owned(), String::new())),
                    ("ID", true) => value.clone_into(&mut span.links.last_mut().unwrap().1),
                    (_, true) => {}
                    ("Trace ID", _) => value.clone_into(&mut span.trace),
                    ("Parent ID", _) => value.clone_into(&mut span.parent),
                    ("ID", _) => value.clone_into(&mut span.id),
                    ("Name", _) => value.clone_into(&mut span.name),
                    ("Kind", _) => value.clone_into(&mut span.kind),
                    (name, _) if line.starts_with("->") => {
                        span.attributes.insert(name.to_owned(), plain(value));
                    }
                    _ => {}
                }
            }
        }
        spans
    }
}

/// `Str(x)` and `Int(5)` without their kinds.
fn plain(value: &str) -> String {
    value.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(value).to_owned()
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}
