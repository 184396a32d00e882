//! Opening a connection: TCP, TLS, and AMQP's opening, bounded together.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_rs::{Runtime, TokioRuntime, traits::Reactor};
use fides_core::Fault;
use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::types::LongString;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use secrecy::ExposeSecret;
use socket2::{SockRef, Socket};

use crate::Settings;
use crate::fault::{fault, timeout};

/// Where the broker is. Holds the password; prints only the place.
#[derive(Clone)]
pub(crate) struct Address(AMQPUri);

impl Address {
    /// Reads the URL. Its text is not repeated in faults, because of its password.
    pub(crate) fn parse(settings: &Settings) -> Result<Self, Fault> {
        let wrong = || {
            Fault::permanent("the URL of the broker with the events makes no sense").advise(
                "expected: amqp://user:password@host:5672/vhost or amqps://…, with the virtual host / written %2f",
            )
        };
        let url = settings.url.expose_secret();
        if !(url.starts_with("amqp://") || url.starts_with("amqps://")) {
            return Err(wrong());
        }
        // The parser's own words may repeat parts of the URL.
        let mut uri: AMQPUri = url.parse().map_err(|_| wrong())?;
        uri.query.heartbeat = Some(settings.heartbeat_s);
        Ok(Self(uri))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AMQPUri { authority, vhost, .. } = &self.0;
        write!(f, "{}:{}, virtual host '{vhost}'", authority.host, authority.port)
    }
}

/// A connection that recovers nothing by itself.
pub(crate) async fn dial(address: &Address, settings: &Settings) -> Result<Connection, Fault> {
    let what = format!("connecting to the broker with the events at {address}");
    let is_tls = address.0.scheme == AMQPScheme::AMQPS;
    let tls = if is_tls { tls(settings)? } else { OwnedTLSConfig::default() };
    let name = LongString::from(settings.connection_name.as_str());
    let properties = ConnectionProperties::default().with_connection_name(name);
    let socket = Cut::default();
    let held = socket.clone();
    let connecting = Connection::connector(
        address.0.clone(),
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
    let connection = match tokio::time::timeout(settings.connect_max, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(fault(&what, &error)),
        Err(_) => {
            let advice = "check the address of the URL, and firewalls in between";
            return Err(timeout(&what, settings.connect_max).advise(advice));
        }
    };
    socket.release();
    Ok(connection)
}

/// What signs the broker's certificate, beside the public authorities.
fn tls(settings: &Settings) -> Result<OwnedTLSConfig, Fault> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_never_shown() {
        for url in ["amqp://u:hunter2@h:1/v", "amqp://u:hunter2@h:x/v", "http://u:hunter2@h", "hunter2"] {
            let settings = Settings::new(url.into(), "e", "q");
            let said = match Address::parse(&settings) {
                Ok(address) => format!("{address} {settings:?}"),
                Err(fault) => format!("{fault} {fault:?} {settings:?}"),
            };
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
