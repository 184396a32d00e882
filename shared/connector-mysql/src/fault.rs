//! The one mapping from errors to faults (L9).

use fides_core::{Fault, FaultKind};
use fides_sql::{advised, of_io};
use sqlx::mysql::MySqlDatabaseError;

/// The fault of an error; `what` says what could not be done.
pub(crate) fn fault(what: &str, error: sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Database(error) => match error.try_downcast::<MySqlDatabaseError>() {
            Ok(error) => of_server(what, &error),
            Err(error) => Fault::transient(format!("{what}: {}", error.message())),
        },
        sqlx::Error::Io(error) => of_io_error(what, &error),
        sqlx::Error::Tls(error) => Fault::unavailable(format!("{what}: TLS: {error}"))
            .advise("check ssl-mode and ssl-ca of the URL against the server's certificate"),
        error @ (sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed) => Fault::transient(what).because(error),
        error => Fault::permanent(what).because(error),
    }
}

fn of_server(what: &str, error: &MySqlDatabaseError) -> Fault {
    of_code(what, error.number(), error.code().unwrap_or_default(), error.message())
}

/// The fault of an error that the server sent.
pub(crate) fn of_code(what: &str, number: u16, state: &str, message: &str) -> Fault {
    let (kind, advice) = of_number(number, state);
    let fault = Fault::new(kind, format!("{what}: {message} (error {number}, SQLSTATE {state})"));
    match advice {
        Some(advice) => fault.advise(advice),
        None => fault,
    }
}

/// The number of an error, if the server sent it.
pub(crate) fn number(error: &sqlx::Error) -> Option<u16> {
    let error = error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(error.number())
}

/// There is no table of that name, or no database.
pub(crate) const NO_TABLE: [u16; 2] = [1146, 1049];

/// A right is missing: on a database, a table, a column, a statement.
pub(crate) const DENIED: [u16; 5] = [1044, 1142, 1143, 1227, 1370];

/// The fault of a connection.
pub(crate) fn of_io_error(what: &str, error: &std::io::Error) -> Fault {
    advised(Fault::new(of_io(error), format!("{what}: {error}")))
}

/// What an error means for us.
fn of_number(number: u16, state: &str) -> (FaultKind, Option<&'static str>) {
    use FaultKind::{Deferred, Permanent, Transient, Unavailable};
    match number {
        1045 | 1130 | 1131 | 1251 | 1524 | 1698 | 1820 | 1862 | 3118 | 4151 => (
            Unavailable,
            Some("check user and password of the URL, and the host that the server lets this user come from"),
        ),
        number if DENIED.contains(&number) => (Unavailable, Some("grant this user the right")),
        1049 => (Unavailable, Some("create the database, or name another in the URL")),
        1290 | 1792 | 1836 => (Unavailable, Some("the server or the session is read-only: is it a replica?")),
        1021 | 1041 | 1114 => (Unavailable, Some("the server's disk or table space is full")),
        1040 | 1203 | 1226 => (Transient, Some("raise max_connections of the server, or lower `connections`")),
        1205 => (Transient, Some("somebody else holds a lock on these rows")),
        1213 | 1317 | 1412 | 1637 | 1927 | 1928 | 1053 | 1077 | 1079 | 1158..=1161 => (Transient, None),
        1969 | 3024 => (Transient, Some("the statement ran into its timeout")),
        1665 => (Unavailable, Some("set binlog_format to ROW or MIXED")),
        1153 => (Permanent, Some("raise max_allowed_packet of the server")),
        1062 | 1169 | 1451 | 1452 | 1586 | 1761 | 1762 => (Deferred, None),
        _ => match state.get(..2).unwrap_or_default() {
            // Data, integrity, schema, and what triggers and procedures raise.
            "21" | "22" | "23" | "42" | "44" | "45" => (Permanent, None),
            "08" | "40" | "70" => (Transient, None),
            // Most errors have only HY000. Of the server's own range those about values and definitions are ours to mend.
            _ if matches!(
                number,
                1136 | 1292 | 1356 | 1364..=1366 | 1406 | 1411 | 1525 | 1906 | 3140 | 3819 | 4025 | 4078
            ) =>
            {
                (Permanent, None)
            }
            _ => (Transient, None),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_kind() {
        for (number, state, kind) in [
            (1213, "40001", FaultKind::Transient),
            (1205, "HY000", FaultKind::Transient),
            (1969, "70100", FaultKind::Transient),
            (1040, "08004", FaultKind::Transient),
            (1053, "08S01", FaultKind::Transient),
            (1045, "28000", FaultKind::Unavailable),
            (1142, "42000", FaultKind::Unavailable),
            (1290, "HY000", FaultKind::Unavailable),
            (1049, "42000", FaultKind::Unavailable),
            (1062, "23000", FaultKind::Deferred),
            (1452, "23000", FaultKind::Deferred),
            (1048, "23000", FaultKind::Permanent),
            (4025, "23000", FaultKind::Permanent),
            (1366, "HY000", FaultKind::Permanent),
            (1292, "22007", FaultKind::Permanent),
            (1406, "22001", FaultKind::Permanent),
            (1146, "42S02", FaultKind::Permanent),
            (9999, "HY000", FaultKind::Transient),
        ] {
            assert_eq!(of_number(number, state).0, kind, "{number}");
        }
    }

    #[test]
    fn a_refused_connection_is_unavailable_with_advice() {
        let fault = fault("connecting", sqlx::Error::Io(std::io::ErrorKind::ConnectionRefused.into()));
        assert_eq!(fault.kind, FaultKind::Unavailable);
        assert!(fault.to_string().contains("check that the server runs"), "{fault}");
    }
}
