//! Requests over a real connection, with a pipeline over fakes behind them.

#![allow(clippy::unwrap_used)] // a fault is the failure of a test

use std::sync::Arc;
use std::time::Duration;

use fides_cloudevents::{KeySource, Rule};
use fides_core::port::{Backplane, Host, Sink, Target};
use fides_core::{FaultKind, Limits, Namespace, PipelineId};
use fides_engine::publishing::Worker;
use fides_engine::{DeletePolicy, ForeignPolicy, Pipeline, Progress, establish, hints, take_hints};
use fides_intake_webhook::{Credential, Route, Settings, bind};
use fides_testkit::fake::{Act, Disk, FakeHost, FakeMapper, FakeTarget, Faults, Faulty, Gate, Order};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

const TOKEN: &str = "hunter2";
const ORIGIN: &str = "events.example.com";
const EVENT: &str = r#"{"specversion":"1.0","id":"1","source":"/shop","type":"t","subject":"1"}"#;

struct Stand {
    address: std::net::SocketAddr,
    backplane: Backplane,
    pipeline: Pipeline,
    faults: Faults,
    _stop: DropGuard,
}

async fn stand(limits: Limits, edit: impl FnOnce(&mut Settings)) -> Stand {
    let host = FakeHost::new(Order::Fides);
    host.commit(&(0..10).map(|id| (id, Some(1))).collect::<Vec<_>>());
    let (faults, mapper, id) = (Faults::none(), FakeMapper::new(1), PipelineId::new("p"));
    let host: Arc<dyn Host> = Arc::new(Faulty::new(Arc::new(host), &faults));
    let target: Arc<dyn Target> = Arc::new(FakeTarget::new());
    let namespace = Namespace(vec!["copy".into()]);
    let pipeline = Pipeline {
        host,
        target,
        selection: FakeHost::selection(1, 4),
        sink: Sink { pipeline: id.clone(), namespace: namespace.clone(), version_field: None },
        target_selection: mapper.documents(namespace, 4),
        mapper: Arc::new(mapper),
        limits,
        delete: DeletePolicy::Hard,
        foreign: ForeignPolicy::Keep,
        backplane: faults.around(&Disk::new(60).open()),
        id,
    };
    establish(&pipeline).await.unwrap();
    let (place, offers) = hints(&pipeline);
    let mut settings = Settings::new("127.0.0.1:0".parse().unwrap());
    edit(&mut settings);
    let bound = bind(settings).unwrap();
    let (address, stop) = (bound.address, CancellationToken::new());
    let rule = Rule { types: vec!["t*".into()], key: vec![KeySource::Subject] };
    let routes =
        vec![Route { rule, hints: place, credential: Credential::Bearer(TOKEN.into()), origins: vec![ORIGIN.into()] }];
    let (stopped, taken) = (stop.clone(), pipeline.clone());
    tokio::spawn(async move {
        let worker = Worker { holder: "a".into(), progress: Arc::new(Progress::default()) };
        let (served, ()) = tokio::join!(bound.serve(routes, &stopped), take_hints(&taken, &worker, offers, &stopped));
        served.unwrap();
    });
    let backplane = pipeline.backplane.clone();
    Stand { address, backplane, pipeline, faults, _stop: stop.drop_guard() }
}

impl Stand {
    /// Sends bytes as they are; the whole answer.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // A server that refuses a body early may reset what was not read.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The status and the body of the answer to a request.
    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
        let mut request =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            request.extend([name, ": ", value, "\r\n"]);
        }
        let answer = self.raw(&[request.as_bytes(), b"\r\n", body].concat()).await;
        let (head, told) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        (head[9..12].parse().unwrap(), format!("{} {}", head.to_lowercase(), told))
    }

    async fn structured(&self, body: &str) -> (u16, String) {
        let headers = [("authorization", "Bearer hunter2"), ("content-type", "application/cloudevents+json")];
        self.post("/events/p", &headers, body.as_bytes()).await
    }

    /// Messages in the lanes.
    async fn published(&self) -> u64 {
        let mut published = 0;
        for lane in self.pipeline.lanes() {
            published += self.backplane.queue.depth(&lane).await.unwrap();
        }
        published
    }
}

#[tokio::test]
async fn every_mode_is_answered_when_it_is_published() {
    let stand = stand(Limits::default(), |_| {}).await;
    let (status, told) = stand.structured(EVENT).await;
    assert!(status == 200 && told.contains(r#"{"accepted":1,"ignored":0}"#), "{told}");
    assert_eq!(stand.published().await, 1);
    let other = EVENT.replace(r#""type":"t""#, r#""type":"other""#);
    let bearer = ("authorization", "Bearer hunter2");
    let headers = [bearer, ("content-type", "application/cloudevents-batch+json")];
    let (status, told) = stand.post("/events/p", &headers, format!("[{EVENT},{other}]").as_bytes()).await;
    assert!(status == 200 && told.contains(r#"{"accepted":1,"ignored":1}"#), "{told}");
    assert_eq!(stand.published().await, 2);
    let headers = [
        bearer,
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("ce-subject", "%31"),
    ];
    let (status, told) = stand.post("/events/p", &headers, b"").await;
    assert!(status == 200 && told.contains(r#""accepted":1"#), "{told}");
    assert_eq!(stand.published().await, 3);
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_its_reason_and_does_nothing() {
    let stand = stand(Limits::default(), |settings| settings.body_bytes_max = 1_000).await;
    let bearer = ("authorization", "Bearer hunter2");
    let structured = ("content-type", "application/cloudevents+json");
    let batch = ("content-type", "application/cloudevents-batch+json");
    let not_a_key = EVENT.replace(r#""subject":"1""#, r#""subject":"one""#);
    let one_wrong = format!("[{EVENT},{not_a_key}]");
    let large = vec![b' '; 1_001];
    for (path, headers, body, expected, reason) in [
        ("/events/p", &[structured][..], EVENT.as_bytes(), 401, "no header authorization"),
        ("/events/p", &[structured, ("authorization", "Bearer hunter3")], EVENT.as_bytes(), 401, "token is wrong"),
        ("/events/q", &[structured, bearer], EVENT.as_bytes(), 404, "takes no events here"),
        ("/elsewhere", &[structured, bearer], EVENT.as_bytes(), 404, "post /events/"),
        ("/events/p", &[structured, bearer], b"{", 400, "no json"),
        ("/events/p", &[structured, bearer], b"", 400, "no json"),
        ("/events/p", &[bearer], b"", 400, "no attribute `specversion`"),
        ("/events/p", &[("content-type", "application/cloudevents+xml"), bearer], b"<a/>", 400, "+xml"),
        ("/events/p", &[structured, bearer], not_a_key.as_bytes(), 400, "is not a"),
        ("/events/p", &[batch, bearer], one_wrong.as_bytes(), 400, "event 1:"),
        ("/events/p", &[structured, bearer], &large, 413, "larger than 1000 bytes"),
    ] {
        let (status, told) = stand.post(path, headers, body).await;
        assert_eq!(status, expected, "{told}");
        assert!(told.to_lowercase().contains(reason), "{reason}: {told}");
    }
    // A body that does not say how large it is.
    let chunked = "POST /events/p HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer hunter2\r\n\
        transfer-encoding: chunked\r\n\r\n";
    let chunk = format!("{:x}\r\n{}\r\n", 2_000, " ".repeat(2_000));
    let told = stand.raw(format!("{chunked}{chunk}0\r\n\r\n").as_bytes()).await;
    assert!(told.starts_with("HTTP/1.1 413"), "{told}");
    let told = stand.raw(b"GET /events/p HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(told.starts_with("HTTP/1.1 405"), "{told}");
    assert_eq!(stand.published().await, 0, "nothing was half done");
}

#[tokio::test]
async fn a_backlog_that_is_full_asks_for_patience() {
    let stand = stand(Limits { hint_backlog_records_max: 1, ..Limits::default() }, |_| {}).await;
    let gate = Gate::new();
    stand.faults.script("host.fetch", [Act::Hold(gate.clone())]);
    let (first, second) = tokio::join!(stand.structured(EVENT), async {
        while stand.faults.calls("host.fetch") == 0 {
            tokio::task::yield_now().await;
        }
        let second = stand.structured(EVENT).await;
        gate.open();
        second
    });
    assert_eq!(first.0, 200, "{}", first.1);
    assert!(second.0 == 429 && second.1.contains("retry-after: 1"), "{}", second.1);
    let (status, told) = stand
        .post(
            "/events/p",
            &[("authorization", "Bearer hunter2"), ("content-type", "application/cloudevents-batch+json")],
            format!("[{EVENT},{EVENT}]").as_bytes(),
        )
        .await;
    assert!(status == 400 && told.contains("at most 1"), "{told}");
}

#[tokio::test]
async fn what_cannot_be_published_now_is_to_be_sent_again() {
    let stand = stand(Limits::default(), |settings| settings.confirm_max = Duration::from_millis(200)).await;
    stand.faults.script("queue.publish", [Act::Reject(FaultKind::Unavailable)]);
    let (status, told) = stand.structured(EVENT).await;
    assert!(status == 503 && told.contains("retry-after"), "{told}");
    let gate = Gate::new();
    stand.faults.script("queue.publish", [Act::Hold(gate.clone())]);
    let (status, told) = stand.structured(EVENT).await;
    assert!(status == 503 && told.contains("not confirmed within"), "{told}");
    gate.open();
    assert_eq!(stand.structured(EVENT).await.0, 200);
}

/// A sender that asks first is told that it may only where the configuration names it.
#[tokio::test]
async fn whoever_asks_first_is_told_whether_it_may_send() {
    let stand = stand(Limits::default(), |_| {}).await;
    let ask = async |path: &str, headers: &str| {
        let request = format!("OPTIONS {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        stand.raw(request.as_bytes()).await.to_lowercase()
    };
    let told = ask("/events/p", "WebHook-Request-Origin: events.example.com\r\nWebHook-Request-Rate: 120\r\n").await;
    assert!(told.starts_with("http/1.1 200"), "{told}");
    for header in ["allow: options, post", "webhook-allowed-origin: events.example.com", "webhook-allowed-rate: *"] {
        assert!(told.contains(&format!("\r\n{header}\r\n")), "{header}: {told}");
    }
    let told = ask("/events/p", "WebHook-Request-Origin: Events.Example.COM\r\n").await;
    assert!(told.starts_with("http/1.1 200"), "names of hosts have no case: {told}");
    let both = "WebHook-Request-Origin: events.example.com\r\nWebHook-Request-Origin: evil.example\r\n";
    for (path, headers, status, reason) in [
        ("/events/p", "WebHook-Request-Origin: evil.example\r\n", 403, "not among the origins"),
        ("/events/p", "WebHook-Request-Origin: *\r\n", 403, "not among the origins"),
        ("/events/p", "", 403, "expected header webhook-request-origin once"),
        ("/events/p", both, 403, "expected header webhook-request-origin once"),
        ("/events/q", "WebHook-Request-Origin: events.example.com\r\n", 404, "takes no events here"),
    ] {
        let told = ask(path, headers).await;
        assert!(told.starts_with(&format!("http/1.1 {status}")) && told.contains(reason), "{reason}: {told}");
        assert!(!told.contains("webhook-allowed"), "{told}");
    }
}

/// Nobody holds a connection by being slow.
#[tokio::test]
async fn slow_headers_and_slow_bodies_end() {
    let stand = stand(Limits::default(), |settings| {
        settings.header_max = Duration::from_millis(200);
        settings.body_max = Duration::from_millis(200);
    })
    .await;
    let told = stand.raw(b"POST /events/p HTTP/1.1\r\nhost: x\r\n").await;
    assert!(told.is_empty() || told.starts_with("HTTP/1.1 408"), "{told}");
    let told = stand
        .raw(b"POST /events/p HTTP/1.1\r\nhost: x\r\nauthorization: Bearer hunter2\r\ncontent-length: 9\r\n\r\n{")
        .await;
    assert!(told.starts_with("HTTP/1.1 408"), "{told}");
}
