//! From a connection to an answer, or to the lack of one.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_core::credentials::Secret;
use azure_core::http::Url;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinError;

use crate::budget::Budgets;
use crate::call::Call;
use crate::emulator::{Emulator, request_charge};
use crate::faults::{Drop, Faults, Rule};
use crate::reply::{Reply, error, set};
use crate::statistics::Statistics;
use crate::{admin, authorization};

/// More than the service takes, so that the emulator is the one that says so.
const BODY_BYTES_MAX: usize = 16 << 20;

/// `None` where the connection is to be cut without an answer.
type Answer = Option<Reply>;

/// One account, and what breaks it.
pub struct Server {
    /// What answers.
    pub emulator: Emulator,
    key: Option<Secret>,
    /// What makes calls fail.
    pub faults: Faults,
    /// What calls may cost.
    pub budgets: Budgets,
    /// What came.
    pub statistics: Statistics,
}

impl Server {
    /// An empty account that is reached at `address`; without a key it takes everybody.
    pub fn new(address: SocketAddr, key: Option<String>) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self {
            emulator: Emulator::new(Url::parse(&format!("http://{address}/"))?)?,
            key: key.map(Secret::new),
            faults: Faults::default(),
            budgets: Budgets::default(),
            statistics: Statistics::default(),
        })
    }

    /// Takes connections until the listener fails.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) -> std::io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(Arc::clone(&self).serve_connection(stream));
        }
    }

    async fn serve_connection(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(|request| Arc::clone(&self).serve_request(request));
        // A connection that ends in an error was cut, by a rule or by its client: neither is news.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn serve_request(self: Arc<Self>, request: Request<Incoming>) -> Result<Reply, Box<dyn Error + Send + Sync>> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await?.to_bytes();
        // In a task of its own: the service, too, finishes what a client no longer waits for.
        let answer = tokio::spawn(async move { self.answer(&head, body).await });
        let panicked = |reason: JoinError| Some(error(StatusCode::INTERNAL_SERVER_ERROR, &reason.to_string()));
        answer.await.unwrap_or_else(panicked).ok_or_else(|| "cut by a rule".into())
    }

    async fn answer(&self, head: &Parts, body: Bytes) -> Answer {
        let path = head.uri.path();
        if admin::is_admin(path) {
            return Some(admin::answer(self, head, &body).await);
        }
        if let Some(key) = &self.key
            && let Err(reason) = authorization::verify(key, &head.method, path, &head.headers)
        {
            return Some(error(StatusCode::UNAUTHORIZED, &reason));
        }
        let call = Call::of(&head.method, path, &head.headers);
        self.statistics.came(&call);
        let answer = match self.faults.fire(&call) {
            Some(rule) => self.fail(&rule, &call, head, body).await,
            None => Some(self.execute(&call, head, body).await),
        };
        if answer.as_ref().is_some_and(|reply| reply.status() == StatusCode::TOO_MANY_REQUESTS) {
            self.statistics.throttled(&call);
        }
        answer
    }

    async fn fail(&self, rule: &Rule, call: &Call, head: &Parts, body: Bytes) -> Answer {
        if let Some(delay_ms) = rule.delay_ms {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        }
        if rule.drop == Some(Drop::Before) {
            return None;
        }
        let Some(status) = rule.status else {
            let reply = self.execute(call, head, body).await;
            return rule.drop.is_none().then_some(reply);
        };
        if rule.executed {
            self.execute(call, head, body).await;
        }
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Some(refusal(status, rule.substatus, rule.retry_after_ms, "a rule of the test says so"))
    }

    /// Executes a call that its budget allows.
    async fn execute(&self, call: &Call, head: &Parts, body: Bytes) -> Reply {
        if let Err(wait) = self.budgets.admit(call, Instant::now()) {
            // In whole milliseconds, and not too few of them.
            let wait_ms = u64::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
            let message = "the budget of request units is used up";
            return refusal(StatusCode::TOO_MANY_REQUESTS, Some(3200), Some(wait_ms), message);
        }
        let reply = self.emulator.execute(head, body).await;
        let request_units = request_charge(&reply);
        self.budgets.charge(call, request_units, Instant::now());
        self.statistics.charged(call, request_units);
        reply
    }
}

fn refusal(status: StatusCode, substatus: Option<u32>, retry_after_ms: Option<u64>, message: &str) -> Reply {
    let mut reply = error(status, message);
    if let Some(substatus) = substatus {
        set(&mut reply, "x-ms-substatus", substatus);
    }
    if let Some(retry_after_ms) = retry_after_ms {
        set(&mut reply, "x-ms-retry-after-ms", retry_after_ms);
    }
    reply
}
