//! The connection.

use std::sync::{PoisonError, RwLock};

use fides_core::Fault;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError};
use redis::{ScriptInvocation, ServerErrorKind, TlsCertificates};
use secrecy::ExposeSecret;

use crate::settings::Settings;

/// Attempts to connect again before the calls that wait for a connection fail; the next call begins anew.
const RECONNECT_ATTEMPTS_MAX: usize = 2;
/// The first wait between two such attempts, and the longest.
const RECONNECT_WAIT: (std::time::Duration, std::time::Duration) =
    (std::time::Duration::from_millis(50), std::time::Duration::from_secs(1));

/// One multiplexed connection, which is made again when it is lost.
pub(crate) struct Link {
    /// Host and port, for faults.
    place: String,
    client: Client,
    config: ConnectionManagerConfig,
    manager: RwLock<ConnectionManager>,
}

impl Link {
    pub(crate) async fn open(settings: &Settings) -> Result<Self, Fault> {
        let (client, place) = client(settings)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(settings.connect_timeout))
            .set_response_timeout(Some(settings.response_timeout))
            .set_number_of_retries(RECONNECT_ATTEMPTS_MAX)
            .set_min_delay(RECONNECT_WAIT.0)
            .set_max_delay(RECONNECT_WAIT.1);
        let manager = ConnectionManager::new_with_config(client.clone(), config.clone())
            .await
            .map_err(|error| crate::fault::fault(&place, error))?;
        Ok(Self { place, client, config, manager: RwLock::new(manager) })
    }

    /// Runs a script; one that Redis does not know (any more) is loaded.
    pub(crate) async fn run<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, Fault> {
        let mut manager = self.manager();
        call.invoke_async(&mut manager).await.map_err(|error| self.failed(error))
    }

    /// Runs a command.
    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Fault> {
        self.ask(command).await.map_err(|error| self.failed(error))
    }

    /// Runs several commands together; not a transaction.
    pub(crate) async fn pipe<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, Fault> {
        let mut manager = self.manager();
        commands.query_async(&mut manager).await.map_err(|error| self.failed(error))
    }

    /// Runs a command and leaves the judgement of its error to the caller.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let mut manager = self.manager();
        command.query_async(&mut manager).await
    }

    /// The fault of an error.
    pub(crate) fn failed(&self, error: RedisError) -> Fault {
        if !heals(&error)
            && let Ok(manager) = ConnectionManager::new_lazy_with_config(self.client.clone(), self.config.clone())
        {
            *self.manager.write().unwrap_or_else(PoisonError::into_inner) = manager;
        }
        crate::fault::fault(&self.place, error)
    }

    /// The fault of an answer that this release does not understand.
    pub(crate) fn strange(&self, what: &str) -> Fault {
        crate::fault::strange(&self.place, what)
    }

    fn manager(&self) -> ConnectionManager {
        self.manager.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether the connection manager gets over an error, or whether its connection can stay. It keeps a connection that timed
/// out, which may be dead without a word, and an attempt to connect that was refused by the server, for ever.
fn heals(error: &RedisError) -> bool {
    let stays = match error.kind() {
        ErrorKind::Server(kind) => !matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::NoPerm
        ),
        ErrorKind::Extension => !matches!(error.code(), Some("NOAUTH" | "WRONGPASS")),
        ErrorKind::Io => true,
        _ => false,
    };
    stays && !error.is_timeout()
}

fn client(settings: &Settings) -> Result<(Client, String), Fault> {
    let unusable = || {
        Fault::permanent("the URL of Redis cannot be used")
            .advise("write it as redis://user:password@host:port/database, or rediss:// for TLS")
    };
    let info = settings.url.expose_secret().into_connection_info().map_err(|_| unusable())?;
    let place = match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port}"),
        ConnectionAddr::Unix(path) => path.display().to_string(),
        _ => return Err(unusable()),
    };
    if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        return Ok((Client::open(info).map_err(|_| unusable())?, place));
    }
    // TLS needs a provider of cryptography for the process. Where the program has chosen one, that one stays.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let certificates = TlsCertificates { client_tls: None, root_cert: settings.ca_pem.clone() };
    let client = Client::build_with_tls(info, certificates).map_err(|error| {
        Fault::permanent(format!("Redis {place}: the certificates for TLS cannot be used"))
            .because(error)
            .advise("look at the certificate authority in PEM")
    })?;
    Ok((client, place))
}
