//! Every path over real HTTP on the loopback.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use fides_core::{Fault, FaultKind, PipelineId};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::respond::Told;
use super::serve::{Bounds, CONNECTIONS_MAX, serve_with};
use super::{Health, Part, REASON_CHARS_MAX, serve};
use crate::metrics::Metrics;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Longer than anything here takes, unless it hangs.
const LONG: Duration = Duration::from_mins(1);

/// A server, and what it tells.
struct Served {
    address: SocketAddr,
    health: Health,
    metrics: Metrics,
    stop: CancellationToken,
    server: JoinHandle<Result<(), Fault>>,
}

impl Served {
    fn start() -> Self {
        Self::within(Bounds::default())
    }

    fn within(bounds: Bounds) -> Self {
        let (health, metrics, stop) = (Health::new(), Metrics::new("fides-test").unwrap(), CancellationToken::new());
        let told = Told { health: health.clone(), metrics: metrics.clone(), bounds };
        let (address, server) = serve_with(ANY, told, &stop).unwrap();
        Self { address, health, metrics, stop, server: tokio::spawn(server) }
    }

    async fn get(&self, path: &str) -> Answer {
        ask(self.address, &format!("GET {path} HTTP/1.1\r\nHost: fides\r\n\r\n")).await
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> (u16, Value) {
        assert!(self.head.contains("content-type: application/json\r\n"), "{}", self.head);
        (self.status, serde_json::from_str(&self.body).unwrap())
    }
}

/// Sends a request as it is written, and reads until the server closes.
async fn ask(address: SocketAddr, request: &str) -> Answer {
    within(async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: format!("{head}\r\n"), body: body.to_owned() }
    })
    .await
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work).await.expect("it hangs")
}

#[tokio::test]
async fn readiness_names_what_is_waited_for_and_turns_both_ways() {
    let served = Served::start();
    let starting = json!({ "ready": false, "waiting": [{ "part": "process", "for": "it is starting" }] });
    assert_eq!(served.get("/readyz").await.json(), (503, starting));

    let (queue, state) = (served.health.part("queue"), served.health.part("state"));
    queue.waiting(Fault::unavailable("connection refused").at("broker").advise("start it"));
    let waiting = json!({ "ready": false, "waiting": [
        { "part": "queue", "for": "broker: connection refused (start it)" },
        { "part": "state", "for": "it is starting" },
    ] });
    assert_eq!(served.get("/readyz").await.json(), (503, waiting));

    queue.ready();
    let waiting = json!({ "ready": false, "waiting": [{ "part": "state", "for": "it is starting" }] });
    assert_eq!(served.get("/readyz").await.json(), (503, waiting));
    state.ready();
    assert_eq!(served.get("/readyz").await.json(), (200, json!({ "ready": true })));

    state.waiting("lost \"it\"");
    let waiting = json!({ "ready": false, "waiting": [{ "part": "state", "for": "lost \"it\"" }] });
    assert_eq!(served.get("/readyz").await.json(), (503, waiting));
    assert_eq!(served.get("/healthz").await.json(), (200, json!({ "alive": true })), "who waits is alive");
}

#[test]
fn a_name_is_one_part_and_a_reason_is_bounded() {
    let health = Health::new();
    let reason = |part: &Part| {
        let waiting = health.waiting().into_iter().find(|waiting| *waiting.part == *part.name);
        waiting.map(|waiting| waiting.reason)
    };
    let queue = health.part("queue");
    health.clone().part("queue").ready();
    assert_eq!(reason(&queue), None);
    queue.waiting("ä".repeat(REASON_CHARS_MAX));
    assert_eq!(reason(&queue), Some("ä".repeat(REASON_CHARS_MAX)));
    queue.waiting("ä".repeat(REASON_CHARS_MAX + 1));
    assert_eq!(reason(&queue), Some("ä".repeat(REASON_CHARS_MAX) + "…"));
}

#[tokio::test]
async fn metrics_are_told_as_text() {
    let served = Served::start();
    let progress = std::sync::Arc::new(fides_engine::Progress::default());
    served.metrics.pipeline(&PipelineId::new("orders"), progress.clone());
    served.metrics.meter().throttled("host shop", Duration::ZERO);
    fides_engine::Progress::add(&progress.written, 42);
    let answer = served.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4\r\n"), "{}", answer.head);
    for line in [
        "# TYPE fides_records_written_total counter",
        "fides_records_written_total{pipeline=\"orders\"} 42",
        "fides_call_throttles_total{part=\"host shop\"} 1",
    ] {
        assert!(answer.body.lines().any(|told| told == line), "{line} is not in\n{}", answer.body);
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let served = Served::start();
    assert_eq!(served.get("/").await.json(), (404, json!({ "error": "there are /healthz, /readyz and /metrics" })));
    assert_eq!(served.get("/healthz?verbose").await.status, 200);
    let post = "POST /healthz HTTP/1.1\r\nHost: fides\r\nContent-Length: 0\r\n\r\n";
    let answer = ask(served.address, post).await;
    assert_eq!(answer.status, 405);
    assert!(answer.head.contains("allow: GET, HEAD\r\n"), "{}", answer.head);
    let answer = ask(served.address, "HEAD /healthz HTTP/1.1\r\nHost: fides\r\n\r\n").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert!(answer.head.contains("content-length: 15\r\n"), "{}", answer.head);
}

#[tokio::test]
async fn a_request_is_bounded() {
    let served = Served::start();
    let lines = "X: y\r\n".repeat(100);
    let answer = ask(served.address, &format!("GET /healthz HTTP/1.1\r\nHost: fides\r\n{lines}\r\n")).await;
    assert_eq!(answer.status, 431);
    let long = "y".repeat(8192 - "GET /healthz HTTP/1.1\r\nX: ".len());
    let answer = ask(served.address, &format!("GET /healthz HTTP/1.1\r\nX: {long}")).await;
    assert_eq!(answer.status, 431);
}

#[tokio::test]
async fn a_port_in_use_is_a_fault_with_advice() {
    let served = Served::start();
    let metrics = Metrics::new("fides-test").unwrap();
    let Err(fault) = serve(served.address, Health::new(), metrics, CancellationToken::new()) else {
        panic!("two servers at one address")
    };
    assert_eq!(fault.kind, FaultKind::Unavailable);
    let said = fault.to_string();
    assert!(said.starts_with(&format!("health and metrics cannot be served at {}: ", served.address)), "{said}");
    assert!(said.contains("in use") && said.contains("give `service.listen` another port"), "{said}");
}

#[tokio::test]
async fn slow_clients_do_not_keep_others_out_and_the_oldest_is_cut() {
    // Nothing but the coming of another ends a connection here.
    let served = Served::within(Bounds { connection_max: 2 * LONG, ..Bounds::default() });
    let mut slow = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(b"GET /healthz HT").await.unwrap();
        slow.push(stream);
    }
    assert_eq!(served.get("/healthz").await.status, 200);

    let mut oldest = slow.remove(0);
    let read = within(oldest.read(&mut [0; 1])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    let mut newest = slow.pop().unwrap();
    newest.write_all(b"TP/1.1\r\nHost: fides\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within(newest.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn a_client_that_says_nothing_is_cut() {
    let served = Served::within(Bounds { connection_max: Duration::from_millis(200), ..Bounds::default() });
    let mut silent = TcpStream::connect(served.address).await.unwrap();
    let read = within(silent.read(&mut [0; 1])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn it_serves_until_stop_and_leaves_the_port() {
    let served = Served::start();
    let mut open = TcpStream::connect(served.address).await.unwrap();
    assert_eq!(served.get("/healthz").await.status, 200);
    served.stop.cancel();
    within(served.server).await.unwrap().unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
    let read = within(open.read(&mut [0; 1])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn who_drops_the_server_ends_it() {
    let (health, metrics, stop) = (Health::new(), Metrics::new("fides-test").unwrap(), CancellationToken::new());
    let (address, server) = serve(ANY, health, metrics, stop.clone()).unwrap();
    drop(server);
    within(async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!stop.is_cancelled(), "its own end only");
}

/// The test blocks the one thread of its runtime, so that nothing on it turns; only the server's thread does.
#[tokio::test]
async fn a_runtime_that_hangs_is_told_by_an_answer() {
    use std::io::{Read, Write};

    let served = Served::within(Bounds { silence_max: Duration::from_millis(1_500), ..Bounds::default() });
    assert_eq!(served.get("/healthz").await.status, 200);

    let blocked = Instant::now();
    let said = loop {
        let mut stream = std::net::TcpStream::connect(served.address).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: fides\r\n\r\n").unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        if said.starts_with("HTTP/1.1 503 ") {
            break said;
        }
        assert!(blocked.elapsed() < LONG, "a runtime that hangs is called alive");
    };
    assert!(blocked.elapsed() > Duration::from_secs(1), "called dead too soon: {:?}", blocked.elapsed());
    assert!(said.contains("{\"alive\":false,\"for\":\"the runtime has not turned for "), "{said}");

    within(async { while served.get("/healthz").await.status != 200 {} }).await;
}
