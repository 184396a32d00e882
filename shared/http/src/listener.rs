//! The listener: never more than so many connections, and an end for all of them.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum::Router;
use fides_core::Fault;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::bounds::{Bounds, Connections};
use crate::connection::answer;

/// How long nothing is accepted after accepting failed: without file descriptors it fails at once, over and over.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What somebody listens for, in the words that people are told when that cannot be.
#[derive(Clone, Copy, Debug)]
pub struct Purpose {
    /// What cannot be done then: "events cannot be received".
    pub cannot: &'static str,
    /// Where the address is given: "`intake.listen`".
    pub option: &'static str,
}

/// An address that is taken.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    purpose: Purpose,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Listener {
    /// Takes the address, of which port 0 is a free one, so that one that cannot be had is told before anything is
    /// promised. Nothing is answered yet. Needs no runtime.
    pub fn bind(listen: SocketAddr, purpose: Purpose) -> Result<Self, Fault> {
        let bound = TcpListener::bind(listen).and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok((socket.local_addr()?, socket))
        });
        let (address, socket) = bound.map_err(|error| {
            let advice = advice(error.kind(), purpose.option);
            purpose.fault(listen, error).advise(advice)
        })?;
        Ok(Self { socket, purpose, address })
    }

    /// Answers requests until `stop`, and ends as [`Connections`] says. Whoever drops the future cuts what is open.
    pub async fn serve(self, router: Router, bounds: Bounds, stop: &CancellationToken) -> Result<(), Fault> {
        let Self { socket, purpose, address } = self;
        let socket = tokio::net::TcpListener::from_std(socket).map_err(|error| purpose.fault(address, error))?;
        let is_kept = matches!(bounds.connections, Connections::Kept { .. });
        let connections_max = bounds.connections_max.max(1);
        let mut by_age: VecDeque<AbortHandle> = VecDeque::new();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_ended) = connections.join_next() => continue,
                accepted = socket.accept(), if !is_kept || connections.len() < connections_max => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let opened = connections.spawn(answer(stream, router.clone(), bounds, stop.clone()));
                    if !is_kept {
                        cut_oldest(&mut by_age, connections_max - 1);
                        by_age.push_back(opened);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, %address, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(socket);
        if !is_kept {
            connections.abort_all();
        }
        while connections.join_next().await.is_some() {}
        Ok(())
    }
}

/// Cuts the oldest, until no more than `most` are open.
fn cut_oldest(by_age: &mut VecDeque<AbortHandle>, most: usize) {
    by_age.retain(|connection| !connection.is_finished());
    let excess = by_age.len().saturating_sub(most);
    by_age.drain(..excess).for_each(|oldest| oldest.abort());
}

impl Purpose {
    fn fault(self, address: SocketAddr, error: io::Error) -> Fault {
        Fault::unavailable(format!("{} at {address}", self.cannot)).because(error)
    }
}

fn advice(kind: ErrorKind, option: &str) -> String {
    match kind {
        ErrorKind::AddrInUse => {
            format!("another process listens there, perhaps another Fides: give {option} another port, or end it")
        }
        ErrorKind::AddrNotAvailable => {
            format!("this machine has no such address: give {option} one of its own, or 0.0.0.0 for all of them")
        }
        ErrorKind::PermissionDenied => {
            format!("ports below 1024 are privileged: give {option} a higher one, or the process the right")
        }
        _ => format!("see {option}"),
    }
}
