//! The server, on a thread of its own.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use fides_core::Fault;
use fides_http::{Connections, Listener, Purpose};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Health;
use super::respond::Told;
use crate::metrics::Metrics;

const PURPOSE: Purpose = Purpose { cannot: "health and metrics cannot be served", option: "`service.listen`" };
/// Connections at the same time; the oldest is cut for one more, so that a new probe is always answered.
pub(super) const CONNECTIONS_MAX: usize = 32;
/// Bytes of a request's line and headers. Its body is not read.
const HEADER_BYTES_MAX: usize = 8192;

/// The bounds in time (L10).
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// How long the runtime may be silent before the process counts as dead.
    pub silence_max: Duration,
    /// How long a connection may last, from its first byte to the last byte of the answer.
    pub connection_max: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { silence_max: Duration::from_secs(10), connection_max: Duration::from_secs(10) }
    }
}

/// Answers `/healthz`, `/readyz` and `/metrics` at an address, of which port 0 is a free one; says which.
///
/// Answers come from a thread of its own, because they are about the runtime: one that is busy still gets its probes
/// answered in time, and one that hangs is told to be dead by an answer, not by silence. The future ends after `stop`,
/// with a fault when the thread ended before; dropping it ends the server too. `stop` should be cancelled last, when
/// all is drained: a process that is still at work has to say that it lives.
///
/// Does not block, and must be called inside the runtime that is to be watched.
#[expect(clippy::needless_pass_by_value, reason = "handles, taken as the other entries of this crate take them")]
pub fn serve(
    listen: SocketAddr,
    health: Health,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(SocketAddr, impl Future<Output = Result<(), Fault>> + Send + use<>), Fault> {
    serve_with(listen, Told { health, metrics, bounds: Bounds::default() }, &stop)
}

pub(super) fn serve_with(
    listen: SocketAddr,
    told: Told,
    stop: &CancellationToken,
) -> Result<(SocketAddr, impl Future<Output = Result<(), Fault>> + Send + use<>), Fault> {
    let listener = Listener::bind(listen, PURPOSE)?;
    let address = listener.address;
    let stop = stop.child_token();
    let until_dropped = stop.clone().drop_guard();
    let ended = start(listener, told.clone(), stop.clone()).map_err(|error| cannot_serve(address).because(error))?;
    tokio::spawn(async move { told.health.pulse().keep(&stop).await });
    Ok((address, async move {
        let _until_dropped = until_dropped;
        ended.await.unwrap_or_else(|_| Err(cannot_serve(address).at("the thread ended unexpectedly")))
    }))
}

/// Starts the thread; the channel says how it ended.
fn start(listener: Listener, told: Told, stop: CancellationToken) -> io::Result<oneshot::Receiver<Result<(), Fault>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let bounds = fides_http::Bounds {
        connections_max: CONNECTIONS_MAX,
        header_bytes_max: HEADER_BYTES_MAX,
        connections: Connections::Single { connection_max: told.bounds.connection_max },
    };
    let router =
        Router::new().fallback(async move |request: Request| told.respond(request.method(), request.uri().path()));
    let (end, ended) = oneshot::channel();
    std::thread::Builder::new().name("fides-health".into()).spawn(move || {
        let result = runtime.block_on(listener.serve(router, bounds, &stop));
        // Closes what is open, so that whoever awaits the end finds the port free.
        drop(runtime);
        let _nobody_waits = end.send(result);
    })?;
    Ok(ended)
}

fn cannot_serve(address: SocketAddr) -> Fault {
    Fault::unavailable(format!("{} at {address}", PURPOSE.cannot))
}
