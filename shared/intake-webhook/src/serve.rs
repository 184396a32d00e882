//! Where events are received, and within which bounds (L10).

use std::net::SocketAddr;

use fides_core::Fault;
use fides_http::{Bounds, Connections, Listener, Purpose};
use tokio_util::sync::CancellationToken;

use crate::receive::{Intake, router};
use crate::{Route, Settings};

const PURPOSE: Purpose = Purpose { cannot: "events cannot be received", option: "`intake.listen`" };
/// Bytes of a request's line and headers together: in binary mode an event's attributes are among them.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// An address that is taken.
pub struct Bound {
    listener: Listener,
    settings: Settings,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Takes the address, so that one that cannot be had is told before anything is promised. Nothing is answered yet.
pub fn bind(settings: Settings) -> Result<Bound, Fault> {
    let listener = Listener::bind(settings.listen, PURPOSE)?;
    Ok(Bound { address: listener.address, listener, settings })
}

impl Bound {
    /// Answers requests until `stop`; requests that are under way then are answered before it returns. Routes are found by
    /// the names of their pipelines.
    pub async fn serve(self, routes: Vec<Route>, stop: &CancellationToken) -> Result<(), Fault> {
        let Self { listener, settings, .. } = self;
        let bounds = Bounds {
            connections_max: settings.connections_max,
            header_bytes_max: HEADER_BYTES_MAX,
            connections: Connections::Kept { header_max: settings.header_max },
        };
        let routes = routes.into_iter().map(|route| (route.hints.pipeline().to_string(), route)).collect();
        listener.serve(router(Intake { routes, settings }), bounds, stop).await
    }
}
