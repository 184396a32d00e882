//! Sessions: where the server is, and how a session is set up.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use fides_core::Fault;
use fides_sql::Connect;
use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlSslMode};
use sqlx::{ConnectOptions, Connection, MySqlConnection};

use crate::fault::fault;
use crate::query::run;

/// What every session is set to, whatever the server's defaults are: the text of a value, and so its fingerprint,
/// depends on the time zone and the character set; a silently changed value on the mode.
const SETTINGS: &str = "SET NAMES utf8mb4, time_zone = '+00:00', autocommit = 1, \
    sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO', \
    group_concat_max_len = 1073741824, max_sort_length = 8192, foreign_key_checks = 1, unique_checks = 1, \
    sql_safe_updates = 0, sql_select_limit = DEFAULT";

/// A server and a database on it. Holds the password; prints only the address.
#[derive(Clone)]
pub(crate) struct Server {
    options: MySqlConnectOptions,
    url: url::Url,
    settings: String,
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
            Fault::permanent(format!("the URL of a MySQL server makes no sense: {why}"))
                .advise("expected: mysql://user:password@host:3306/database?ssl-mode=…")
        };
        let parsed = url::Url::parse(url).map_err(|error| wrong(&error))?;
        if !matches!(parsed.scheme(), "mysql" | "mariadb") {
            return Err(wrong(&"its scheme is neither mysql nor mariadb"));
        }
        let options = MySqlConnectOptions::from_str(url).map_err(|_| wrong(&"one of its parts cannot be read"))?;
        if options.get_database().is_none() {
            return Err(wrong(&"it names no database"));
        }
        let options = options
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .timezone(None)
            .set_names(false)
            .disable_statement_logging();
        Ok(Self { options, url: parsed, settings: SETTINGS.to_owned() })
    }

    /// Where the reader of the log connects to. Holds the password.
    pub(crate) fn url(&self) -> &url::Url {
        &self.url
    }

    /// How it is encrypted.
    pub(crate) fn tls(&self) -> MySqlSslMode {
        self.options.get_ssl_mode()
    }

    /// The same server, whose sessions only read, a statement for at most so long, and see one state per transaction.
    pub(crate) fn reading(&self, statement_ms: u64) -> Self {
        let limits = limits(statement_ms, 0);
        let settings = format!("{SETTINGS}{limits}; SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ");
        Self { settings, ..self.clone() }
    }

    /// The same server, whose sessions write: the server gives up a statement before its client does, and a transaction
    /// whose client is gone (L6). Rows that another lane writes are not waited for: only its own are locked.
    pub(crate) fn writing(&self, statement_ms: u64, idle_ms: u64) -> Self {
        let wait_s = statement_ms.div_ceil(1_000).max(1);
        let limits = limits(statement_ms, idle_ms);
        let settings = format!(
            "{SETTINGS}, innodb_lock_wait_timeout = {wait_s}{limits}; \
             SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
        );
        Self { settings, ..self.clone() }
    }
}

#[async_trait]
impl Connect for Server {
    type Connection = MySqlConnection;

    const KIND: &'static str = "MySQL";

    fn place(&self) -> String {
        let database = self.options.get_database().unwrap_or_default();
        format!("{database}@{}:{}", self.options.get_host(), self.options.get_port())
    }

    async fn open(&self) -> Result<MySqlConnection, Fault> {
        let opened = async {
            let mut connection = self.options.connect().await?;
            run(&mut connection, &self.settings).await?;
            Ok(connection)
        };
        opened.await.map_err(|error| fault(&format!("connecting to MySQL {}", self.place()), error))
    }

    async fn answers(connection: &mut MySqlConnection) -> bool {
        connection.ping().await.is_ok()
    }

    async fn roll_back(connection: &mut MySqlConnection) -> bool {
        run(connection, "ROLLBACK").await.is_ok()
    }
}

pub(crate) type Sessions = fides_sql::Sessions<Server>;
pub(crate) type Session = fides_sql::Session<Server>;

/// Only MariaDB has these; the comment hides them from MySQL.
fn limits(statement_ms: u64, idle_ms: u64) -> String {
    format!(
        " /*M!100300 , max_statement_time = {}.{:03}, idle_transaction_timeout = {} */",
        statement_ms / 1_000,
        statement_ms % 1_000,
        idle_ms.div_ceil(1_000)
    )
}

/// Whether the server itself said that the statement failed, so that its outcome is known.
pub(crate) fn is_answer(error: &sqlx::Error) -> bool {
    let error = error.as_database_error().and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>());
    // These end the session, whatever it was doing.
    error.is_some_and(|error| !matches!(error.number(), 1053 | 1077 | 1079 | 1152 | 1184 | 1927 | 1928 | 2000..=2999))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let server = Server::parse("mysql://me:s3cr%65t@db.example:3307/shop").unwrap();
        assert_eq!(format!("{server:?}"), "shop@db.example:3307");
        for url in [
            "mysql://me:s3cret@:x/",
            "postgres://me:s3cret@db/shop",
            "mysql://me:s3cret@db/shop?ssl-mode=s3cret",
            "mysql://me:s3cret@db",
        ] {
            let fault = Server::parse(url).unwrap_err();
            assert!(!fault.to_string().contains("s3cret"), "{fault}");
            assert!(fault.to_string().contains("mysql://user:password@host"), "{fault}");
        }
    }
}
