//! The one mapping from the broker's errors to faults (L9).

use std::io::ErrorKind as Io;
use std::time::Duration;

use fides_core::{Fault, FaultKind};
use lapin::ErrorKind;

const NOT_FOUND: u16 = 404;

/// The fault of an error; `what` says what could not be done, and where. Of a broker that is not ours nothing is Permanent:
/// a person mends it, and its events wait meanwhile.
pub(crate) fn fault(what: &str, error: &lapin::Error) -> Fault {
    match error.kind() {
        ErrorKind::ProtocolError(said) => {
            let text = said.get_message().as_str();
            let (kind, advice) = match said.get_id() {
                403 => (
                    FaultKind::Unavailable,
                    "check user and password of the URL, and the user's permissions: configure and \
                    write on the queue, read on queue and exchange",
                ),
                NOT_FOUND => (FaultKind::Unavailable, "the host's exchange must be there: Fides never makes it"),
                530 => {
                    (FaultKind::Unavailable, "check the virtual host at the end of the URL, and the broker's limits")
                }
                406 if text.contains("inequivalent") => (
                    FaultKind::Unavailable,
                    "the queue was made otherwise: name another one, or let it run empty and delete it",
                ),
                // 320 forced (shutting down), 406 consumer timeout, 5xx.
                _ => (FaultKind::Transient, ""),
            };
            let fault = Fault::new(kind, format!("{what}: {text}"));
            if advice.is_empty() { fault } else { fault.advise(advice) }
        }
        ErrorKind::IOError(io) => {
            let (kind, advice) = match io.kind() {
                Io::ConnectionRefused | Io::NotFound | Io::HostUnreachable | Io::NetworkUnreachable => {
                    (FaultKind::Unavailable, "check that the broker runs and that the URL names its address")
                }
                Io::InvalidData | Io::InvalidInput => {
                    (FaultKind::Unavailable, "check the broker's certificate, ca_file, and whether its port speaks TLS")
                }
                _ => (FaultKind::Transient, ""),
            };
            let fault = Fault::new(kind, what).because(io.clone());
            if advice.is_empty() { fault } else { fault.advise(advice) }
        }
        // Closed, closing, silent for too long: gone for now.
        _ => Fault::transient(format!("{what}: {error}")),
    }
}

/// Whether something was not there.
pub(crate) fn is_missing(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(said) if said.get_id() == NOT_FOUND)
}

/// Nobody answered in time.
pub(crate) fn timeout(what: &str, waited: Duration) -> Fault {
    Fault::transient(format!("{what}: no answer after {} ms", waited.as_millis()))
}
