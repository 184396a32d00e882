//! A way to a server that can be cut and mended.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// Little, so that a cut is felt at once and not only when megabytes on their way have been read.
const BUFFER_BYTES: u32 = 32 << 10;

/// Forwards connections from a loopback port to a server.
pub struct Proxy {
    address: SocketAddr,
    server: String,
    /// Owns the listener and all connections; `None` while the way is cut.
    forwarding: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Opens a way to the server of a URL.
    pub fn open(url: &str) -> Self {
        let (_, _, server, _) = parts(url);
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let forwarding = Some(tokio::spawn(forward(listener, server.clone())));
        Self { address, server, forwarding }
    }

    /// The same URL, this way.
    pub fn url(&self, url: &str) -> String {
        let (scheme, user, _, rest) = parts(url);
        format!("{scheme}://{user}@{}/{rest}", self.address)
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Ends every connection, and refuses new ones.
    pub async fn cut(&mut self) {
        let forwarding = self.forwarding.take().unwrap();
        forwarding.abort();
        assert!(forwarding.await.unwrap_err().is_cancelled());
    }

    /// Lets connections through again, on the same port.
    pub async fn mend(&mut self) {
        let deadline = Instant::now() + Duration::from_mins(1);
        let listener = loop {
            match listen(self.address) {
                Ok(listener) => break listener,
                // Somebody's outgoing connection may have this port for a while.
                Err(error) => assert!(Instant::now() < deadline, "{}: {error}", self.address),
            }
            tokio::time::sleep(Duration::from_millis(20)).await; // awaits the port
        };
        self.forwarding = Some(tokio::spawn(forward(listener, self.server.clone())));
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(128)
}

/// Scheme, user with password, host with port, database with options.
fn parts(url: &str) -> (String, String, String, String) {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (user, rest) = rest.rsplit_once('@').unwrap();
    let (server, rest) = rest.split_once('/').unwrap();
    (scheme.to_owned(), user.to_owned(), server.to_owned(), rest.to_owned())
}

async fn forward(listener: TcpListener, server: String) {
    let mut connections = JoinSet::new();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let server = server.clone();
        connections.spawn(async move {
            let mut far = TcpStream::connect(server).await.unwrap();
            // An end of either side, in whatever way, is the end of this connection and nothing more.
            let _ = copy_bidirectional(&mut near, &mut far).await;
        });
        while connections.try_join_next().is_some() {}
    }
}
