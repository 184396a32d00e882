//! The listener: connections, each bounded, and never more than a few.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::failure::Failure;

/// Connections at the same time; more wait until one ends. A browser opens six.
const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request's line and headers together.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// How long a request's headers may take to arrive, counted from the end of the one before: an idle connection ends too.
const HEADER_MAX: Duration = Duration::from_secs(15);
/// How long nothing is accepted after accepting failed: without file descriptors it fails at once, over and over.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An address that is taken.
pub struct Bound {
    listener: TcpListener,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Takes the address, so that one that cannot be had is told before anything is promised. Nothing is answered yet.
pub fn bind(listen: SocketAddr) -> Result<Bound, Failure> {
    let bound = TcpListener::bind(listen).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok((listener.local_addr()?, listener))
    });
    let (address, listener) = bound.map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => "another process listens there: give --listen another port, or end it",
            ErrorKind::AddrNotAvailable => "this machine has no such address: give --listen one of its own",
            ErrorKind::PermissionDenied => "ports below 1024 are privileged: give --listen a higher one",
            _ => "see --listen, and `dashboard.listen` in the configuration",
        };
        cannot_serve(listen, &error).advise(advice)
    })?;
    Ok(Bound { listener, address })
}

fn cannot_serve(address: SocketAddr, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Unavailable, format!("the status page cannot be served at {address}: {error}"))
}

impl Bound {
    /// Answers requests until `stop`; requests that are under way then are answered before it returns.
    pub async fn serve(self, router: Router, stop: &CancellationToken) -> Result<(), Failure> {
        let address = self.address;
        let listener =
            tokio::net::TcpListener::from_std(self.listener).map_err(|error| cannot_serve(address, &error))?;
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
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
                        answer(stream, router, stop).await;
                    });
                }
                (Err(error), _) => {
                    tracing::warn!(%error, "a connection to the status page could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
        Ok(())
    }
}

async fn answer(stream: TcpStream, router: Router, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_MAX)
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
        tracing::debug!(%error, "a connection to the status page broke");
    }
}
