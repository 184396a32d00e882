//! The one mapping from errors to faults (L9).

use fides_core::{Fault, FaultKind};
use fides_sql::{advised, of_io};
use pgwire_replication::PgWireError;
use sqlx::postgres::PgDatabaseError;

const SLOTS: &str = "all replication slots are in use: raise max_replication_slots, or drop slots that nobody reads";

/// The fault of an error; `what` says what could not be done.
pub(crate) fn fault(what: &str, error: sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Database(error) => match error.try_downcast::<PgDatabaseError>() {
            Ok(error) => of_server(what, &error),
            Err(error) => Fault::transient(format!("{what}: {}", error.message())),
        },
        sqlx::Error::Io(error) => {
            let kind = of_io(&error);
            advised(Fault::new(kind, what).because(error))
        }
        sqlx::Error::Tls(error) => Fault::unavailable(format!("{what}: TLS: {error}"))
            .advise("check sslmode and sslrootcert of the URL against the server's certificate"),
        error @ (sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed) => Fault::transient(what).because(error),
        error => Fault::permanent(what).because(error),
    }
}

/// The fault of an error that the server sent.
pub(crate) fn of_server(what: &str, error: &PgDatabaseError) -> Fault {
    let mut text = format!("{what}: {}", error.message());
    for more in [error.detail(), error.hint()].into_iter().flatten() {
        text.push_str("; ");
        text.push_str(more);
    }
    let (kind, advice) = of_state(error.code());
    let fault = Fault::new(kind, format!("{text} (SQLSTATE {})", error.code()));
    match advice {
        Some(advice) => fault.advise(advice),
        None => fault,
    }
}

/// The SQLSTATE of an error, if the server sent it.
pub(crate) fn state(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).map(std::borrow::Cow::into_owned)
}

/// The fault of a replication connection's error. Its server errors carry their SQLSTATE only as text.
pub(crate) fn of_replication(what: &str, error: &PgWireError) -> Fault {
    let kind = match error {
        PgWireError::Io(error) => of_io(error),
        PgWireError::Auth(_) | PgWireError::Tls(_) => FaultKind::Unavailable,
        PgWireError::Server(text) if text.contains("28P01") || text.contains("28000") || text.contains("57P03") => {
            FaultKind::Unavailable
        }
        _ => FaultKind::Transient,
    };
    let fault = Fault::new(kind, format!("{what}: {error}"));
    match error {
        PgWireError::Server(text) if text.contains("53400") => fault.advise(SLOTS),
        PgWireError::Server(text) if text.contains("53300") => fault.advise("raise max_wal_senders"),
        _ => advised(fault),
    }
}

/// What a SQLSTATE means for us.
fn of_state(code: &str) -> (FaultKind, Option<&'static str>) {
    use FaultKind::{Deferred, Permanent, Transient, Unavailable};
    match code {
        "57P03" => (Unavailable, Some("the server is starting or stopping")),
        "53100" => (Unavailable, Some("the server's disk is full")),
        "53400" => (Transient, Some(SLOTS)),
        "53300" => (Transient, Some("raise max_connections of the server, or lower `connections`")),
        "42501" => (Unavailable, Some("grant this user the right")),
        "25006" => (Unavailable, Some("the server is read-only: is it a standby?")),
        "57014" => (Transient, Some("the statement ran into its timeout, or was cancelled")),
        "3D000" => (Unavailable, Some("create the database, or name another in the URL")),
        "23505" | "23503" | "23P01" => (Deferred, None),
        "23502" | "23514" | "55000" => (Permanent, None),
        "55P03" | "55006" | "72000" => (Transient, None),
        _ => match code.get(..2).unwrap_or_default() {
            "28" => (Unavailable, Some("check user and password of the URL, and pg_hba.conf of the server")),
            // Data, cardinality, functions, limits, schema, and what triggers raise.
            "20" | "21" | "22" | "23" | "27" | "2F" | "0A" | "38" | "39" | "3F" | "42" | "44" | "54" | "P0" => {
                (Permanent, None)
            }
            // 08 connection, 25 transaction, 40 rollback, 53 resources, 57 operator, 58 system, XX internal.
            _ => (Transient, None),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_kind() {
        for (code, kind) in [
            ("40001", FaultKind::Transient),
            ("40P01", FaultKind::Transient),
            ("57014", FaultKind::Transient),
            ("53300", FaultKind::Transient),
            ("08006", FaultKind::Transient),
            ("57P01", FaultKind::Transient),
            ("57P03", FaultKind::Unavailable),
            ("28P01", FaultKind::Unavailable),
            ("3D000", FaultKind::Unavailable),
            ("23505", FaultKind::Deferred),
            ("23503", FaultKind::Deferred),
            ("23502", FaultKind::Permanent),
            ("23514", FaultKind::Permanent),
            ("22P02", FaultKind::Permanent),
            ("42P01", FaultKind::Permanent),
            ("", FaultKind::Transient),
        ] {
            assert_eq!(of_state(code).0, kind, "{code}");
        }
    }

    #[test]
    fn a_refused_connection_is_unavailable_with_advice() {
        let fault = fault("connecting", sqlx::Error::Io(std::io::ErrorKind::ConnectionRefused.into()));
        assert_eq!(fault.kind, FaultKind::Unavailable);
        assert!(fault.to_string().contains("check that the server runs"), "{fault}");
    }
}
