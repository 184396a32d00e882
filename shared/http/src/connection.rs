//! One connection.

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::bounds::{Bounds, Connections};

/// Answers what comes over it, until it ends, takes too long, or has answered what was under way at `stop`.
pub(crate) async fn answer(stream: TcpStream, router: Router, bounds: Bounds, stop: CancellationToken) {
    let (is_kept, header_max, connection_max) = match bounds.connections {
        Connections::Kept { header_max } => (true, header_max, Duration::MAX),
        Connections::Single { connection_max } => (false, connection_max, connection_max),
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(is_kept)
        .header_read_timeout(header_max)
        .max_buf_size(bounds.header_bytes_max)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let answered = async {
        let mut connection = pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                // The request that is under way is answered, another one is not read.
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    match timeout(connection_max, answered).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection broke"),
        Err(_) => tracing::debug!("a connection took too long"),
    }
}
