//! Events over AMQP 0-9-1: `CloudEvents` 1.0 in structured and binary mode, from an exchange of the host's.
//!
//! A durable quorum queue of the pipeline's own is bound to the exchange. A delivery is acknowledged only when the present
//! state of the record that it names is published and confirmed (L3); what is malformed goes to a dead-letter queue with
//! its reason, and is acknowledged only when the broker has confirmed that. The exchange is never made or changed.
//!
//! The connection recovers by being opened anew: whatever was not acknowledged comes again.

mod consume;
mod dead;
mod dial;
mod fault;
mod read;
mod reception;
mod session;
mod topology;

use std::path::PathBuf;
use std::time::Duration;

use fides_cloudevents::Rule;
use fides_engine::Hints;
use secrecy::SecretString;

pub use crate::consume::consume;
pub use crate::reception::Reception;
pub use crate::topology::check;

/// Where a pipeline's events go.
#[derive(Clone)]
pub struct Route {
    /// What of an event concerns the pipeline.
    pub rule: Rule,
    /// Where its hints go.
    pub hints: Hints,
}

/// The broker, and what is bound to what. `Debug` does not show the URL.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `amqp://user:password@host:5672/vhost`, or `amqps://`. The virtual host `/` is written `%2f`.
    pub url: SecretString,
    /// PEM file with the authority that signed the broker's certificate, for `amqps`. Public authorities are known.
    pub ca_file: Option<PathBuf>,
    /// The name that the broker shows for the connection.
    pub connection_name: String,
    /// The host's exchange.
    pub exchange: String,
    /// The queue that is bound to it.
    pub queue: String,
    /// What it is bound with.
    pub routing_keys: Vec<String>,
    /// Deliveries that are under way at the same time (L10).
    pub prefetch: u16,
    /// A connection that is silent for longer is lost.
    pub heartbeat_s: u16,
    /// A new connection: TCP, TLS and AMQP's opening together.
    pub connect_max: Duration,
    /// One question to the broker, a declaration or a confirm for example.
    pub call_max: Duration,
}

impl Settings {
    /// The usual settings for everything that an exchange carries.
    pub fn new(url: SecretString, exchange: &str, queue: &str) -> Self {
        Self {
            url,
            ca_file: None,
            connection_name: format!("fides-{} (events)", std::process::id()),
            exchange: exchange.to_owned(),
            queue: queue.to_owned(),
            routing_keys: vec!["#".to_owned()],
            prefetch: 512,
            heartbeat_s: 10,
            connect_max: Duration::from_secs(10),
            call_max: Duration::from_secs(10),
        }
    }

    /// The queue of what is malformed.
    pub fn dead_queue(&self) -> String {
        format!("{}.dead", self.queue)
    }
}
