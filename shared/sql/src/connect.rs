//! A server, and new sessions of it.

use std::time::Duration;

use async_trait::async_trait;
use fides_core::Fault;
use tokio::time::timeout;

/// How long a new connection may take.
const CONNECT_MS_MAX: u64 = 10_000;

/// A server and a database on it, with everything that its sessions are set to.
#[async_trait]
pub trait Connect: Send + Sync + 'static {
    /// A session.
    type Connection: Send + 'static;

    /// The server's kind, as people call it.
    const KIND: &'static str;

    /// `database@host:port`
    fn place(&self) -> String;

    /// Opens a session, however long it takes; see [`Connect::connect`].
    async fn open(&self) -> Result<Self::Connection, Fault>;

    /// Whether the server still answers on it.
    async fn answers(connection: &mut Self::Connection) -> bool;

    /// Ends the transaction that is open in it, if any; whether that was done.
    async fn roll_back(connection: &mut Self::Connection) -> bool;

    /// A new session, within 10 s.
    async fn connect(&self) -> Result<Self::Connection, Fault> {
        let opened = timeout(Duration::from_millis(CONNECT_MS_MAX), self.open()).await;
        opened.unwrap_or_else(|_| {
            let place = self.place();
            Err(Fault::unavailable(format!(
                "connecting to {} {place}: no answer after {CONNECT_MS_MAX} ms",
                Self::KIND
            ))
            .advise("check the address of the URL, and firewalls in between"))
        })
    }
}
