//! Connections, each with an end, and never more than a few.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::respond::Told;

/// Connections at the same time; the oldest is cut for one more.
pub(super) const CONNECTIONS_MAX: usize = 32;
/// Bytes of a request's line and headers. Its body is not read.
const HEADER_BYTES_MAX: usize = 8192;
/// Lines of a request's headers.
const HEADER_LINES_MAX: usize = 64;
/// How long nothing is accepted after accepting failed: without file descriptors it fails at once, over and over.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts and answers until `stop`; what is open then is cut.
///
/// Everything is bounded (L10): a connection carries one request and ends in time, whatever the client does or leaves
/// undone; and when there are too many, the oldest ends, which is the one that is slow. So a new probe is always answered.
pub(super) async fn answer_all(listener: &TcpListener, told: &Told, stop: &CancellationToken) {
    let mut open: VecDeque<AbortHandle> = VecDeque::with_capacity(CONNECTIONS_MAX);
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(_ended) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                open.retain(|connection| !connection.is_finished());
                if open.len() >= CONNECTIONS_MAX
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                open.push_back(tasks.spawn(answer_one(stream, told.clone())));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the health endpoint could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer_one(stream: TcpStream, told: Told) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = told.respond(request.method(), request.uri().path());
        async { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADER_LINES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(told.bounds.connection_max, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the health endpoint broke"),
        Err(_) => tracing::debug!("a connection to the health endpoint took too long"),
    }
}
