//! The server, on a thread of its own.

use std::future::Future;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use fides_core::Fault;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Health;
use super::connections::answer_all;
use super::respond::Told;
use crate::metrics::Metrics;

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
    let (listener, address) = bind(listen)?;
    let stop = stop.child_token();
    let until_dropped = stop.clone().drop_guard();
    let ended = start(listener, told.clone(), stop.clone()).map_err(|error| cannot_serve(address).because(error))?;
    tokio::spawn(async move { told.health.pulse().keep(&stop).await });
    Ok((address, async move {
        let _until_dropped = until_dropped;
        match ended.await {
            Ok(result) => result.map_err(|error| cannot_serve(address).because(error)),
            Err(_) => Err(cannot_serve(address).at("the thread ended unexpectedly")),
        }
    }))
}

/// Starts the thread; the channel says how it ended.
fn start(
    listener: TcpListener,
    told: Told,
    stop: CancellationToken,
) -> std::io::Result<oneshot::Receiver<std::io::Result<()>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (end, ended) = oneshot::channel();
    std::thread::Builder::new().name("fides-health".into()).spawn(move || {
        let result = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            answer_all(&listener, &told, &stop).await;
            Ok(())
        });
        // Closes what is open, so that whoever awaits the end finds the port free.
        drop(runtime);
        let _nobody_waits = end.send(result);
    })?;
    Ok(ended)
}

fn bind(listen: SocketAddr) -> Result<(TcpListener, SocketAddr), Fault> {
    let bound = TcpListener::bind(listen).and_then(|listener| {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => {
                "another process listens there, perhaps another Fides: give `service.listen` another port, or end it"
            }
            ErrorKind::AddrNotAvailable => {
                "this machine has no such address: give `service.listen` one of its own, or 0.0.0.0 for all of them"
            }
            ErrorKind::PermissionDenied => {
                "ports below 1024 are privileged: give `service.listen` a higher one, or the process the right"
            }
            _ => "see `service.listen` in the configuration",
        };
        cannot_serve(listen).because(error).advise(advice)
    })
}

fn cannot_serve(address: SocketAddr) -> Fault {
    Fault::unavailable(format!("health and metrics cannot be served at {address}"))
}
