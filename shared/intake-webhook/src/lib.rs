//! Events over HTTP: `CloudEvents` 1.0 in structured, batch and binary mode, `POST /events/<pipeline>`.
//!
//! A request is answered with 200 only when the present state of every record that it names is published and confirmed
//! (L3). Whatever else is answered, nothing is half understood: a request that is malformed in one place does nothing.
//! A sender that asks first (`OPTIONS`) is told whether it may. Everything is bounded (L10): connections, headers, bodies, the time that each may take, and the hints that wait.

mod answer;
mod credential;
mod handshake;
mod receive;
mod serve;

use std::net::SocketAddr;
use std::time::Duration;

use fides_cloudevents::Rule;
use fides_engine::Hints;

pub use crate::credential::Credential;
pub use crate::serve::{Bound, bind};

/// Where a pipeline's events come in.
#[derive(Clone)]
pub struct Route {
    /// What of an event concerns the pipeline.
    pub rule: Rule,
    /// Where its hints go; names the pipeline.
    pub hints: Hints,
    /// Who may send them.
    pub credential: Credential,
    /// Who is told that it may when it asks before it sends, by the name that it gives itself.
    pub origins: Vec<String>,
}

/// How the listener is bounded.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens; port 0 is a free one.
    pub listen: SocketAddr,
    /// Bytes of one request's body.
    pub body_bytes_max: usize,
    /// Connections at the same time; more wait until one ends.
    pub connections_max: usize,
    /// How long a request's headers may take to arrive, counted from the end of the one before: an idle connection ends too.
    pub header_max: Duration,
    /// How long a request's body may take to arrive.
    pub body_max: Duration,
    /// How long a request waits for its confirm. Its events are taken all the same.
    pub confirm_max: Duration,
}

impl Settings {
    /// The usual bounds.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            body_bytes_max: 1 << 20,
            connections_max: 1_024,
            header_max: Duration::from_secs(30),
            body_max: Duration::from_secs(30),
            confirm_max: Duration::from_secs(30),
        }
    }
}
