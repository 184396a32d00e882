//! What an operator decides about the broker, and the address in its URL.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use fides_core::{Fault, Limits};
use lapin::uri::{AMQPScheme, AMQPUri};
use secrecy::{ExposeSecret, SecretString};

/// How to reach a broker and how to use it. `Debug` does not show the URL.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `amqp://user:password@host:5672/vhost`, or `amqps://`. The virtual host `/` is written `%2f`.
    pub url: SecretString,
    /// The name that the broker shows for our connections.
    pub connection_name: String,
    /// A connection that is silent for longer is lost. 0 leaves it to the broker.
    pub heartbeat_s: u16,
    /// A new connection: TCP, TLS and AMQP's opening together.
    pub connect_timeout_ms: u64,
    /// One question to the broker, a declaration for example.
    pub call_timeout_ms: u64,
    /// The confirms of one window.
    pub confirm_timeout_ms: u64,
    /// Messages of one lane that are sent before the first of them must be confirmed.
    pub publish_window: u16,
    /// Lanes that are published to at the same time: each takes a channel of its own while its window is under way.
    pub publish_channels: u16,
    /// Messages that the broker sends ahead of what a consumer has settled, which is also the most that it holds: at most
    /// `prefetch * batch_bytes_max` bytes per lane. `None`: enough for two writes of `apply_records_max`, and never more
    /// than a lane holds.
    pub prefetch: Option<u16>,
    /// The queue of commands. Two deployments that share a virtual host need one each.
    pub admin_queue: String,
    /// PEM file with the authority that signed the broker's certificate, for `amqps`. Public authorities are known.
    pub ca_file: Option<PathBuf>,
}

impl Settings {
    /// The usual settings for a broker.
    pub fn new(url: SecretString) -> Self {
        Self {
            url,
            connection_name: "fides".to_owned(),
            heartbeat_s: 10,
            connect_timeout_ms: 10_000,
            call_timeout_ms: 10_000,
            confirm_timeout_ms: 30_000,
            publish_window: 32,
            publish_channels: 8,
            prefetch: None,
            admin_queue: "fides.admin".to_owned(),
            ca_file: None,
        }
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(crate) fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_ms)
    }

    pub(crate) fn confirm_timeout(&self) -> Duration {
        Duration::from_millis(self.confirm_timeout_ms)
    }

    /// Bounded (L10): never 0, which AMQP reads as "without bound".
    pub(crate) fn prefetch(&self, limits: &Limits) -> u16 {
        let per_write = limits.apply_records_max.div_ceil(limits.batch_records_max.max(1));
        let enough = (2 * per_write).min(limits.lane_depth_batches_max as usize);
        self.prefetch.unwrap_or_else(|| u16::try_from(enough).unwrap_or(u16::MAX)).max(1)
    }
}

/// Where the broker is. Holds the password; prints only the place.
#[derive(Clone)]
pub(crate) struct Address(AMQPUri);

impl Address {
    /// Reads the URL. Its text is not repeated in faults, because of its password.
    pub(crate) fn parse(settings: &Settings) -> Result<Self, Fault> {
        let wrong = |why: &str| {
            Fault::permanent(format!("the URL of the RabbitMQ broker makes no sense: {why}")).advise(
                "expected: amqp://user:password@host:5672/vhost or amqps://…, with the virtual host / written %2f",
            )
        };
        let url = settings.url.expose_secret();
        if !(url.starts_with("amqp://") || url.starts_with("amqps://")) {
            return Err(wrong("it does not begin with amqp:// or amqps://"));
        }
        // The parser's own words may repeat parts of the URL.
        let mut uri: AMQPUri = url.parse().map_err(|_| wrong("one of its parts cannot be read"))?;
        if settings.heartbeat_s > 0 {
            uri.query.heartbeat = Some(settings.heartbeat_s);
        }
        Ok(Self(uri))
    }

    pub(crate) fn uri(&self) -> AMQPUri {
        self.0.clone()
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.0.scheme == AMQPScheme::AMQPS
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AMQPUri { authority, vhost, .. } = &self.0;
        write!(f, "{}:{}, virtual host '{vhost}'", authority.host, authority.port)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> Settings {
        Settings::new(SecretString::from(url))
    }

    #[test]
    fn the_password_is_never_shown() {
        for url in ["amqp://u:hunter2@h:1/v", "amqp://u:hunter2@h:x/v", "http://u:hunter2@h", "hunter2", "amqp:hunter2"]
        {
            let settings = settings(url);
            let said = match Address::parse(&settings) {
                Ok(address) => format!("{address} {address:?} {settings:?}"),
                Err(fault) => format!("{fault} {fault:?} {settings:?}"),
            };
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn the_place_names_the_virtual_host() {
        let place = |url: &str| Address::parse(&settings(url)).unwrap().to_string();
        assert_eq!(place("amqp://u:p@broker:5671/%2f"), "broker:5671, virtual host '/'");
        assert_eq!(place("amqps://u:p@broker/shop"), "broker:5671, virtual host 'shop'");
        assert_eq!(place("amqp://u:p@broker"), "broker:5672, virtual host '/'");
    }

    #[test]
    fn the_prefetch_is_bounded() {
        let limits = Limits::default();
        let mut settings = settings("amqp://h");
        assert_eq!(settings.prefetch(&limits), 32, "no more than a lane holds");
        assert_eq!(settings.prefetch(&Limits { lane_depth_batches_max: 1000, ..limits.clone() }), 40);
        settings.prefetch = Some(0);
        assert_eq!(settings.prefetch(&limits), 1, "0 would mean without bound");
    }
}
