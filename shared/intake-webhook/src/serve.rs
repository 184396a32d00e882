//! The listener: connections, each bounded, and never more than a few.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use fides_core::Fault;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::receive::{Intake, router};
use crate::{Route, Settings};

/// Bytes of a request's line and headers together.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// How long nothing is accepted after accepting failed: without file descriptors it fails at once, over and over.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An address that is taken.
pub struct Bound {
    listener: TcpListener,
    settings: Settings,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Takes the address, so that one that cannot be had is told before anything is promised. Nothing is answered yet.
pub fn bind(settings: Settings) -> Result<Bound, Fault> {
    let bound = TcpListener::bind(settings.listen).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok((listener.local_addr()?, listener))
    });
    let (address, listener) = bound.map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => "another process listens there: give `intake.listen` another port, or end it",
            ErrorKind::AddrNotAvailable => "this machine has no such address: give `intake.listen` one of its own",
            _ => "see `intake.listen` in the configuration",
        };
        Fault::unavailable(format!("events cannot be received at {}", settings.listen)).because(error).advise(advice)
    })?;
    Ok(Bound { listener, settings, address })
}

impl Bound {
    /// Answers requests until `stop`; requests that are under way then are answered before it returns. Routes are found by
    /// the names of their pipelines.
    pub async fn serve(self, routes: Vec<Route>, stop: &CancellationToken) -> Result<(), Fault> {
        let Self { listener, settings, address } = self;
        let cannot = |error| Fault::unavailable(format!("events cannot be received at {address}")).because(error);
        let listener = tokio::net::TcpListener::from_std(listener).map_err(cannot)?;
        let room = Arc::new(Semaphore::new(settings.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
        let header_max = settings.header_max;
        let routes = routes.into_iter().map(|route| (route.hints.pipeline().to_string(), route)).collect();
        let router = router(Intake { routes, settings });
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_ended) = connections.join_next() => continue,
                accepted = async {
                    let room = room.clone().acquire_owned().await;
                    (listener.accept().await, room)
                } => accepted,
            };
            match accepted {
                (Ok((stream, _)), room) => {
                    let (router, stop) = (router.clone(), stop.clone());
                    connections.spawn(async move {
                        let _room = room;
                        answer(stream, router, header_max, stop).await;
                    });
                }
                (Err(error), _) => {
                    tracing::warn!(%error, "a connection with events could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
        Ok(())
    }
}

async fn answer(stream: TcpStream, router: Router, header_max: Duration, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_max)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            // The request that is under way is answered, another one is not read.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection with events broke");
    }
}
