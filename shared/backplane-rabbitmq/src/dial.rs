//! Opening one connection: TCP, TLS, and AMQP's opening, bounded together.

use std::sync::{Arc, Mutex, PoisonError};

use async_rs::{Runtime, TokioRuntime, traits::Reactor};
use fides_core::Fault;
use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::types::LongString;
use lapin::{Connection, ConnectionProperties};
use socket2::{SockRef, Socket};

use crate::fault::{fault, timeout};
use crate::settings::{Address, Settings};

/// A connection that recovers nothing by itself: what was lost is opened again by [`crate::link::Link`], where it is seen.
pub(crate) async fn dial(address: &Address, settings: &Settings, name: &str) -> Result<Connection, Fault> {
    let what = format!("connecting to RabbitMQ at {address}");
    let tls = tls(address, settings)?;
    let properties = ConnectionProperties::default().with_connection_name(LongString::from(name));
    let uri = address.uri();
    let socket = Cut::default();
    let held = socket.clone();
    let is_tls = address.is_tls();
    let connecting = Connection::connector(
        uri,
        TokioRuntime::tokio_current(),
        async move |uri, runtime: Runtime<async_rs::Tokio>| {
            let host = uri.authority.host;
            let addresses = runtime.to_socket_addrs((host.clone(), uri.authority.port));
            let stream = runtime.tcp_connect(addresses).await?;
            held.hold(SockRef::from(stream.get_ref()).try_clone()?);
            let stream = AsyncTcpStream::Plain(stream);
            Ok(if is_tls { stream.into_tls(&host, tls.as_ref()).await? } else { stream })
        },
        properties,
    );
    let patience = settings.connect_timeout();
    let connection = match tokio::time::timeout(patience, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(fault(&what, &error)),
        Err(_) => {
            return Err(timeout(&what, patience).advise("check the address of the URL, and firewalls in between"));
        }
    };
    socket.release();
    Ok(connection)
}

/// What signs the broker's certificate, beside the public authorities.
fn tls(address: &Address, settings: &Settings) -> Result<OwnedTLSConfig, Fault> {
    if !address.is_tls() {
        return Ok(OwnedTLSConfig::default());
    }
    // Refused where the program has chosen one already, which is what it should do.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cert_chain = settings.ca_file.as_ref().map(|path| {
        std::fs::read_to_string(path).map_err(|error| {
            Fault::unavailable(format!("reading ca_file {}", path.display()))
                .because(error)
                .advise("expected: a PEM file that this process may read")
        })
    });
    Ok(OwnedTLSConfig { identity: None, cert_chain: cert_chain.transpose()? })
}

/// Cuts the socket of an attempt that was given up. The driver's thread would otherwise wait for ever for a peer that
/// accepts and says nothing, one thread per attempt (L10).
#[derive(Clone, Default)]
struct Cut(Arc<Mutex<Option<Socket>>>);

impl Cut {
    fn hold(&self, socket: Socket) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
    }

    fn release(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        if let Some(socket) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Fails where the other side was faster.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}
