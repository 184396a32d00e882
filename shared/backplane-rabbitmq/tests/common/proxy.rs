//! A network that can be cut, and a broker that can be made to say what a real one says only in need.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Between a client and the broker of `FIDES_TEST_AMQP_URL`.
pub struct Proxy {
    port: u16,
    connections: Arc<Mutex<Vec<Connection>>>,
    accepting: JoinHandle<()>,
}

struct Connection {
    forwarding: JoinHandle<()>,
    inject: mpsc::UnboundedSender<Vec<u8>>,
}

impl Proxy {
    pub async fn start() -> Self {
        let broker = url::Url::parse(&super::url()).unwrap();
        let broker = (broker.host_str().unwrap().to_owned(), broker.port().unwrap());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::<Mutex<Vec<Connection>>>::default();
        let accepted = connections.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(broker.clone()).await.unwrap();
                let (inject, injected) = mpsc::unbounded_channel();
                let forwarding = tokio::spawn(forward(client, server, injected));
                accepted.lock().unwrap().push(Connection { forwarding, inject });
            }
        });
        Self { port, connections, accepting }
    }

    /// The broker's URL, through here.
    pub fn url(&self) -> String {
        let mut url = url::Url::parse(&super::url()).unwrap();
        url.set_port(Some(self.port)).unwrap();
        url.into()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.lock().unwrap().len()
    }

    /// Ends every connection without a word; new ones may be made.
    pub fn cut(&self) {
        for connection in self.connections.lock().unwrap().iter() {
            connection.forwarding.abort();
        }
    }

    /// Lets the broker say something on a connection: a method of channel 0, between two frames of its own.
    pub fn say(&self, connection: usize, class: u16, method: u16, arguments: &[u8]) {
        let mut payload = [class.to_be_bytes(), method.to_be_bytes()].concat();
        payload.extend(arguments);
        let mut frame = vec![1, 0, 0];
        frame.extend((payload.len() as u32).to_be_bytes());
        frame.extend(payload);
        frame.push(0xCE);
        self.connections.lock().unwrap()[connection].inject.send(frame).unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn forward(client: TcpStream, server: TcpStream, injected: mpsc::UnboundedReceiver<Vec<u8>>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (frames, mut outgoing) = mpsc::channel(64);
    // Dropped with this future, so that a cut ends all of it.
    let up = async { drop(tokio::io::copy(&mut from_client, &mut to_server).await) };
    let read = async {
        loop {
            let mut head = [0; 7];
            if from_server.read_exact(&mut head).await.is_err() {
                return;
            }
            let size = u32::from_be_bytes(head[3..].try_into().unwrap()) as usize;
            let mut frame = vec![0; 7 + size + 1];
            frame[..7].copy_from_slice(&head);
            if from_server.read_exact(&mut frame[7..]).await.is_err() || frames.send(frame).await.is_err() {
                return;
            }
        }
    };
    let mut injected = injected;
    let write = async {
        loop {
            let frame = tokio::select! {
                Some(frame) = outgoing.recv() => frame,
                Some(frame) = injected.recv() => frame,
                else => return,
            };
            if to_client.write_all(&frame).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = up => {}, () = read => {}, () = write => {} }
}
