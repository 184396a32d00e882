//! Servers that cannot be reached (L9).

use std::io::{self, ErrorKind};

use fides_core::{Fault, FaultKind};

/// What kind of failure an error of a connection is.
pub fn of_io(error: &io::Error) -> FaultKind {
    match error.kind() {
        ErrorKind::ConnectionRefused
        | ErrorKind::NotFound
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::PermissionDenied => FaultKind::Unavailable,
        _ => FaultKind::Transient,
    }
}

/// The fault of a connection, with what can be done where the server is not there.
#[must_use]
pub fn advised(fault: Fault) -> Fault {
    match fault.kind {
        FaultKind::Unavailable => fault.advise("check that the server runs and that the URL names its address"),
        _ => fault,
    }
}
