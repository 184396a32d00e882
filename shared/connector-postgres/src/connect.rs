//! Sessions: where the server is, how a session is set up, and the bounded set of them.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fides_core::Fault;
use percent_encoding::percent_decode_str;
use pgwire_replication::{Lsn, ReplicationConfig, SslMode, TlsConfig};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgSeverity, PgSslMode};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::fault::fault;

/// How long a new connection may take.
const CONNECT_MS_MAX: u64 = 10_000;
/// A connection that answered just now is not asked whether it is there.
const FRESH: Duration = Duration::from_secs(1);
/// How long a reader waits for a free connection.
const WAIT_MS_MAX: u64 = 25_000;

/// Changes of a log that were received and not read yet.
const LOG_EVENTS_MAX: usize = 128;

/// A server and a database on it. Holds the password; prints only the address.
#[derive(Clone)]
pub(crate) struct Server {
    options: PgConnectOptions,
    replication: ReplicationConfig,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place())
    }
}

impl Server {
    /// Reads a URL. Its text is not repeated in faults, because of its password.
    pub(crate) fn parse(url: &str) -> Result<Self, Fault> {
        let wrong = |why: &dyn fmt::Display| {
            Fault::permanent(format!("the URL of a PostgreSQL server makes no sense: {why}"))
                .advise("expected: postgres://user:password@host:5432/database?sslmode=…")
        };
        let parsed = url::Url::parse(url).map_err(|error| wrong(&error))?;
        if !matches!(parsed.scheme(), "postgres" | "postgresql") {
            return Err(wrong(&"its scheme is not postgres"));
        }
        let options = PgConnectOptions::from_str(url).map_err(|_| wrong(&"one of its parts cannot be read"))?;
        // COPY text depends on these; another setting would change every hash.
        let options = options.extra_float_digits(3).application_name("fides").disable_statement_logging().options([
            ("IntervalStyle", "postgres"),
            ("bytea_output", "hex"),
            ("lc_monetary", "C"),
            ("quote_all_identifiers", "off"),
            ("client_min_messages", "warning"),
        ]);
        let replication = replication(&parsed, &options).map_err(|why| wrong(&why))?;
        Ok(Self { options, replication })
    }

    /// `database@host:port`
    pub(crate) fn place(&self) -> String {
        let database = self.options.get_database().unwrap_or(self.options.get_username());
        format!("{database}@{}:{}", self.options.get_host(), self.options.get_port())
    }

    /// The same server, whose sessions have these timeouts in milliseconds; 0 is none.
    pub(crate) fn with_timeouts(&self, statement_ms: u64, idle_in_transaction_ms: u64) -> Self {
        let options = self.options.clone().options([
            ("statement_timeout", statement_ms),
            ("idle_in_transaction_session_timeout", idle_in_transaction_ms),
        ]);
        Self { options, replication: self.replication.clone() }
    }

    /// The same server, whose sessions answer a COMMIT only when it is on disk (L2), whatever the role, the database or
    /// the server's own configuration say: with `off` a crash of the server would lose what was acknowledged. Prepared writes
    /// are planned each time: a plan that was made while the table was small would read all of it later.
    pub(crate) fn writing(&self) -> Self {
        let settings = [("synchronous_commit", "on"), ("plan_cache_mode", "force_custom_plan")];
        let options = self.options.clone().options(settings);
        Self { options, replication: self.replication.clone() }
    }

    /// Where a replication connection goes. A server ends a wait for a lock after `lock_timeout_ms`.
    pub(crate) fn replication(&self, lock_timeout_ms: u64) -> ReplicationConfig {
        self.replication.clone().with_options(format!("-c lock_timeout={lock_timeout_ms}"))
    }

    /// Where the log of slot and publication `name` comes from, beginning at `start`. A value has the text that the other
    /// sessions read: their settings are pinned here, too.
    pub(crate) fn log(&self, name: &str, start: u64) -> ReplicationConfig {
        let session = self.options.get_options().unwrap_or_default();
        let mut config = self.replication.clone().with_application_name("fides log").with_options(format!(
            "{session} -c DateStyle=ISO,MDY -c TimeZone=UTC -c extra_float_digits=3 \
             -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0"
        ));
        name.clone_into(&mut config.slot);
        config.publication = name.into();
        config.start_lsn = Lsn(start);
        // What is released shall reach the server soon; what waits for us shall not fill the memory.
        config.status_interval = Duration::from_secs(1);
        config.buffer_events = LOG_EVENTS_MAX;
        config
    }

    /// A new session.
    pub(crate) async fn connect(&self) -> Result<PgConnection, Fault> {
        let what = || format!("connecting to PostgreSQL {}", self.place());
        let connecting = tokio::time::timeout(Duration::from_millis(CONNECT_MS_MAX), self.options.connect());
        match connecting.await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(fault(&what(), error)),
            Err(_) => Err(Fault::unavailable(format!("{}: no answer after {CONNECT_MS_MAX} ms", what()))
                .advise("check the address of the URL, and firewalls in between")),
        }
    }
}

/// The same address and secrets for `pgwire-replication`.
fn replication(url: &url::Url, options: &PgConnectOptions) -> Result<ReplicationConfig, String> {
    let mode = match options.get_ssl_mode() {
        PgSslMode::Disable => SslMode::Disable,
        PgSslMode::Allow | PgSslMode::Prefer => SslMode::Prefer,
        PgSslMode::Require => SslMode::Require,
        PgSslMode::VerifyCa => SslMode::VerifyCa,
        PgSslMode::VerifyFull => SslMode::VerifyFull,
    };
    let password = url.password().map(|password| percent_decode_str(password).decode_utf8());
    let mut password = password.transpose().map_err(|_| "its password is not UTF-8")?.map(String::from);
    let mut tls = TlsConfig { mode, ..TlsConfig::default() };
    for (name, value) in url.query_pairs() {
        match &*name {
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" => tls.ca_pem_path = Some(value.as_ref().into()),
            "sslcert" | "ssl-cert" => tls.client_cert_pem_path = Some(value.as_ref().into()),
            "sslkey" | "ssl-key" => tls.client_key_pem_path = Some(value.as_ref().into()),
            "password" => password = Some(value.into_owned()),
            _ => {}
        }
    }
    let host = options.get_socket().map_or_else(|| options.get_host().to_owned(), |path| path.display().to_string());
    if host.starts_with('/') {
        tls = TlsConfig::disabled();
    }
    let database = options.get_database().unwrap_or(options.get_username());
    let password = password.or_else(|| std::env::var("PGPASSWORD").ok()).unwrap_or_default();
    Ok(ReplicationConfig::new(host, options.get_username(), password, database, "", "")
        .with_port(options.get_port())
        .with_tls(tls)
        .with_application_name("fides snapshot"))
}

/// At most so many sessions, kept for the next user.
pub(crate) struct Sessions {
    server: Server,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Open>>,
    max: u32,
}

/// A connection, and what is known of it.
struct Open {
    connection: PgConnection,
    /// When it answered last.
    answered: Instant,
    /// Temporary tables that it has.
    stages: HashSet<String>,
}

impl Open {
    fn new(connection: PgConnection) -> Self {
        Self { connection, answered: Instant::now(), stages: HashSet::new() }
    }

    /// Whether the server still has it: it may have closed it meanwhile.
    async fn is_alive(&mut self) -> bool {
        self.answered.elapsed() < FRESH || self.connection.ping().await.is_ok()
    }
}

impl Sessions {
    pub(crate) fn new(server: Server, max: u32) -> Arc<Self> {
        let max = max.max(1);
        Arc::new(Self { server, permits: Arc::new(Semaphore::new(max as usize)), idle: Mutex::default(), max })
    }

    /// A session that no transaction is open in; waits, boundedly, for a free one. `make_room` is called when none is.
    pub(crate) async fn take(self: &Arc<Self>, make_room: impl FnOnce()) -> Result<Session, Fault> {
        let permit = if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            permit
        } else {
            make_room();
            let waiting = self.permits.clone().acquire_owned();
            match tokio::time::timeout(Duration::from_millis(WAIT_MS_MAX), waiting).await {
                Ok(Ok(permit)) => permit,
                _ => {
                    return Err(Fault::transient(format!(
                        "PostgreSQL {}: all {} connections were busy for {WAIT_MS_MAX} ms",
                        self.server.place(),
                        self.max
                    ))
                    .advise("raise `connections`"));
                }
            }
        };
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut open) = idle else { break };
            if open.is_alive().await {
                return Ok(Session { open: Some(open), sessions: self.clone(), _permit: permit });
            }
        }
        let open = Open::new(self.server.connect().await?);
        Ok(Session { open: Some(open), sessions: self.clone(), _permit: permit })
    }
}

/// One session in use. It goes back only through [`Session::give_back`]; dropped anywhere else (a cancelled call, an
/// error in the middle of a COPY) it is closed, because nobody knows what the server still has to say on it.
pub(crate) struct Session {
    open: Option<Open>,
    sessions: Arc<Sessions>,
    _permit: OwnedSemaphorePermit,
}

impl Session {
    fn open(&mut self) -> &mut Open {
        // Only `give_back` takes it out, and that consumes the session.
        self.open.as_mut().expect("a session has its connection until it is given back")
    }

    /// The connection.
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.open().connection
    }

    /// Whether the temporary table was made in this session.
    pub(crate) fn has(&mut self, stage: &str) -> bool {
        self.open().stages.contains(stage)
    }

    /// The temporary table was made, and that is committed.
    pub(crate) fn made(&mut self, stage: &str) {
        if !self.has(stage) {
            self.open().stages.insert(stage.to_owned());
        }
    }

    /// Ends the transaction and keeps the connection for others; closes it when that fails.
    pub(crate) async fn roll_back(mut self) {
        if run(self.connection(), "ROLLBACK".to_owned()).await.is_ok() {
            self.give_back();
        }
    }

    /// Keeps the connection for others: no transaction is open in it, and every answer has been read.
    pub(crate) fn give_back(mut self) {
        if let Some(mut open) = self.open.take() {
            open.answered = Instant::now();
            self.sessions.idle.lock().unwrap_or_else(PoisonError::into_inner).push(open);
        }
    }
}

/// Runs statements that return nothing of interest, in one round trip.
pub(crate) async fn run(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::Executor::execute(connection, sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.map(drop)
}

/// Whether the server itself said that the statement failed, so that its outcome is known.
pub(crate) fn is_answer(error: &sqlx::Error) -> bool {
    // FATAL and PANIC end the session, whatever it was doing; 08 and 57P0x are also said by proxies.
    let error = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    error.is_some_and(|error| {
        matches!(error.severity(), PgSeverity::Error)
            && !error.code().starts_with("08")
            && !error.code().starts_with("57P")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let server = Server::parse("postgres://me:s3cr%65t@db.example:5433/shop?sslmode=disable").unwrap();
        assert_eq!(format!("{server:?}"), "shop@db.example:5433");
        assert_eq!(server.replication.password, "s3cret");
        for url in ["postgres://me:s3cret@:x/", "mysql://me:s3cret@db/shop", "postgres://me:s3cret@db/?sslmode=s3cret"]
        {
            let fault = Server::parse(url).unwrap_err();
            assert!(!fault.to_string().contains("s3cret"), "{fault}");
            assert!(fault.to_string().contains("postgres://user:password@host"), "{fault}");
        }
    }
}
