//! Sessions: where the server is, and how a session is set up.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use fides_core::Fault;
use fides_sql::Connect;
use percent_encoding::percent_decode_str;
use pgwire_replication::{Lsn, ReplicationConfig, SslMode, TlsConfig};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgSeverity, PgSslMode};
use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::fault::fault;

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
}

#[async_trait]
impl Connect for Server {
    type Connection = PgConnection;

    const KIND: &'static str = "PostgreSQL";

    fn place(&self) -> String {
        let database = self.options.get_database().unwrap_or(self.options.get_username());
        format!("{database}@{}:{}", self.options.get_host(), self.options.get_port())
    }

    async fn open(&self) -> Result<PgConnection, Fault> {
        let opened = self.options.connect().await;
        opened.map_err(|error| fault(&format!("connecting to PostgreSQL {}", self.place()), error))
    }

    async fn answers(connection: &mut PgConnection) -> bool {
        connection.ping().await.is_ok()
    }

    async fn roll_back(connection: &mut PgConnection) -> bool {
        run(connection, "ROLLBACK".to_owned()).await.is_ok()
    }
}

pub(crate) type Sessions = fides_sql::Sessions<Server>;
pub(crate) type Session = fides_sql::Session<Server>;

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
