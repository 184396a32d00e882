//! Connections that are kept, over the loopback. How single ones end is tested where they are used, by the health endpoint.

#![allow(clippy::unwrap_used)] // a fault is the failure of a test

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use fides_core::Fault;
use fides_http::{Bounds, Connections, Listener, Purpose};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes, unless it hangs.
const LONG: Duration = Duration::from_mins(1);
const ANSWER: &str = "here you are";
const BOUNDS: Bounds =
    Bounds { connections_max: 2, header_bytes_max: 8192, connections: Connections::Kept { header_max: LONG } };

/// What a request meets.
#[derive(Debug)]
struct Desk {
    /// As many as have come.
    came: Semaphore,
    /// As many as may be answered.
    turns: Semaphore,
}

fn served(turns: usize, stop: CancellationToken) -> (SocketAddr, Arc<Desk>, JoinHandle<Result<(), Fault>>) {
    let purpose = Purpose { cannot: "a test cannot listen", option: "its code" };
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), purpose).unwrap();
    let desk = Arc::new(Desk { came: Semaphore::new(0), turns: Semaphore::new(turns) });
    let met = desk.clone();
    let router = Router::new().fallback(async move || {
        met.came.add_permits(1);
        met.turns.acquire().await.unwrap().forget();
        ANSWER
    });
    (listener.address, desk, tokio::spawn(async move { listener.serve(router, BOUNDS, &stop).await }))
}

async fn send(stream: &mut TcpStream) {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
}

async fn answered(stream: &mut TcpStream) {
    let mut told = Vec::new();
    let reading = async {
        while !told.ends_with(ANSWER.as_bytes()) {
            told.push(stream.read_u8().await.unwrap());
        }
    };
    tokio::time::timeout(LONG, reading).await.expect("it hangs");
}

#[tokio::test]
async fn one_more_than_there_may_be_waits_until_another_ends() {
    let (address, ..) = served(1_000, CancellationToken::new());
    let mut first = TcpStream::connect(address).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    for stream in [&mut first, &mut second] {
        send(stream).await;
        answered(stream).await;
    }
    let mut third = TcpStream::connect(address).await.unwrap();
    send(&mut third).await;
    // As long as it takes to answer others many times.
    for _ in 0..100 {
        send(&mut first).await;
        answered(&mut first).await;
    }
    assert!(third.try_read(&mut [0; 1]).is_err(), "it was answered beside the others");
    drop(second);
    answered(&mut third).await;
}

#[tokio::test]
async fn what_is_under_way_at_the_end_is_answered_and_nothing_else() {
    let stop = CancellationToken::new();
    let (address, desk, server) = served(1, stop.clone());
    let mut idle = TcpStream::connect(address).await.unwrap();
    send(&mut idle).await;
    answered(&mut idle).await;
    let mut busy = TcpStream::connect(address).await.unwrap();
    send(&mut busy).await;
    let both = tokio::time::timeout(LONG, desk.came.acquire_many(2));
    both.await.expect("it hangs").unwrap().forget();

    stop.cancel();
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0, "an idle connection is closed");
    desk.turns.add_permits(1);
    answered(&mut busy).await;
    assert_eq!(busy.read(&mut [0; 1]).await.unwrap(), 0, "the connection has ended with its answer");
    tokio::time::timeout(LONG, server).await.expect("it hangs").unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
