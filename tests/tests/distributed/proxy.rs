//! A TCP proxy whose network can be broken. It counts what it broke, so that no test passes because nothing happened.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Fair,
    /// Nobody listens, and what was connected is cut.
    Refuse,
    /// Connections stand and nothing passes.
    Silence,
    /// Everything arrives later.
    Delay(Duration),
    /// Every n-th commit is carried out, and its answer is lost with the connection.
    CommitUnanswered(u64),
}

#[derive(Clone)]
struct Network {
    weather: watch::Receiver<Weather>,
    /// Rises when all connections are cut.
    cuts: watch::Receiver<u64>,
    struck: Arc<AtomicU64>,
    commits: Arc<AtomicU64>,
}

pub struct Proxy {
    pub address: SocketAddr,
    weather: watch::Sender<Weather>,
    cuts: watch::Sender<u64>,
    network: Network,
    listening: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Proxy {
    /// Listens on a free loopback port for connections to `upstream`.
    pub async fn before(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (weather, weather_seen) = watch::channel(Weather::Fair);
        let (cuts, cuts_seen) = watch::channel(0);
        let network =
            Network { weather: weather_seen, cuts: cuts_seen, struck: Arc::default(), commits: Arc::default() };
        let listening = tokio::spawn(listen(listener, upstream, network.clone()));
        Self { address, weather, cuts, network, listening }
    }

    /// Changes the weather, for connections that stand too.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
        if weather == Weather::Refuse {
            self.cut();
        }
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// How often the weather struck: connections cut or refused, chunks held back, answers lost.
    pub fn struck(&self) -> u64 {
        self.network.struck.load(Ordering::Relaxed)
    }
}

async fn listen(mut listener: TcpListener, upstream: SocketAddr, mut network: Network) {
    let address = listener.local_addr().unwrap();
    loop {
        if *network.weather.borrow_and_update() == Weather::Refuse {
            drop(listener);
            while *network.weather.borrow_and_update() == Weather::Refuse {
                if network.weather.changed().await.is_err() {
                    return;
                }
            }
            listener = TcpListener::bind(address).await.expect("the port is still ours");
        }
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                tokio::spawn(carry(client, upstream, network.clone()));
            }
            changed = network.weather.changed() => if changed.is_err() { return },
        }
    }
}

/// One connection.
async fn carry(client: TcpStream, upstream: SocketAddr, network: Network) {
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let lost = watch::channel(false);
    let mut cuts = network.cuts.clone();
    cuts.mark_unchanged();
    tokio::select! {
        () = pump(client_read, server_write, &network, Some(&lost.0), None) => {}
        () = pump(server_read, client_write, &network, None, Some(lost.1.clone())) => {}
        _ = cuts.changed() => { network.struck.fetch_add(1, Ordering::Relaxed); }
    }
}

/// One direction. `lose` is told when the answer to what was just passed on must not come; `lost` hears of it.
async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    network: &Network,
    lose: Option<&watch::Sender<bool>>,
    lost: Option<watch::Receiver<bool>>,
) {
    let (arrived, mut waiting) = mpsc::channel::<(Instant, Vec<u8>)>(1_024);
    let reading = async {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let Ok(size) = from.read(&mut buffer).await else { return };
            if size == 0 {
                return;
            }
            let weather = *network.weather.borrow();
            if let (Weather::CommitUnanswered(every), Some(lose)) = (weather, lose) {
                let commits = buffer[..size].windows(7).filter(|bytes| bytes == b"COMMIT\0").count() as u64;
                let before = network.commits.fetch_add(commits, Ordering::Relaxed);
                if (before + commits) / every > before / every {
                    lose.send_replace(true);
                }
            }
            if lost.as_ref().is_some_and(|lost| *lost.borrow()) {
                network.struck.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let at = match weather {
                Weather::Delay(delay) => {
                    network.struck.fetch_add(1, Ordering::Relaxed);
                    Instant::now() + delay
                }
                _ => Instant::now(),
            };
            if arrived.send((at, buffer[..size].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let mut weather = network.weather.clone();
    let writing = async {
        while let Some((at, bytes)) = waiting.recv().await {
            sleep_until(at).await;
            while *weather.borrow_and_update() == Weather::Silence {
                network.struck.fetch_add(1, Ordering::Relaxed);
                if weather.changed().await.is_err() {
                    return;
                }
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}
