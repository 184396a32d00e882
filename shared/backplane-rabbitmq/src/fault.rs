//! The one mapping from the broker's errors to faults (L9).

use std::io::ErrorKind as Io;

use fides_core::{Fault, FaultKind};
use lapin::ErrorKind;
use lapin::protocol::AMQPError;

/// A call to the broker that did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    /// An exchange or a queue was not there: somebody deleted it, and it may be declared again.
    pub(crate) missing: bool,
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        failure.fault
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { fault, missing: false }
    }
}

const NOT_FOUND: u16 = 404;

/// What an error means; `what` says what could not be done, and where.
pub(crate) fn failure(what: &str, error: &lapin::Error) -> Failure {
    let missing = matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == NOT_FOUND);
    Failure { fault: fault(what, error), missing }
}

/// The fault of an error; `what` says what could not be done, and where.
pub(crate) fn fault(what: &str, error: &lapin::Error) -> Fault {
    match error.kind() {
        ErrorKind::ProtocolError(error) => of_broker(what, error),
        ErrorKind::IOError(error) => of_io(what, error),
        ErrorKind::ChannelsLimitReached => {
            Fault::unavailable(format!("{what}: no channel is free")).advise("raise channel_max of the broker")
        }
        ErrorKind::InvalidProtocolVersion(_) | ErrorKind::ParsingError(_) => {
            Fault::unavailable(format!("{what}: {error}")).advise("is this a broker that speaks AMQP 0-9-1?")
        }
        ErrorKind::AuthProviderError(_) => Fault::unavailable(format!("{what}: {error}")),
        // Closed, closing, silent for too long, shutting down: gone for now.
        _ => Fault::transient(format!("{what}: {error}")),
    }
}

/// The broker's own words, by its reply code.
fn of_broker(what: &str, error: &AMQPError) -> Fault {
    use FaultKind::{Permanent, Transient, Unavailable};
    let text = error.get_message().as_str();
    if let Some(clash) = Clash::read(text) {
        return clash.fault(what);
    }
    let (kind, advice) = match error.get_id() {
        403 => (Unavailable, "check user and password of the URL, and the user's permissions on the virtual host"),
        530 if text.contains("vhost") => (
            Unavailable,
            "create the virtual host and give the user permissions on it, or name another at the end of the URL",
        ),
        530 => (Unavailable, "the broker does not allow it: check its limits and the user's permissions"),
        NOT_FOUND => (Unavailable, "it is declared again by the next call"),
        405 => (Unavailable, "the queue belongs to another connection, or its leader cannot be reached"),
        506 => (Unavailable, "the broker lacks resources: look at its alarms"),
        406 if text.contains("larger than") => {
            (Permanent, "lower batch_bytes_max or record_bytes_max, or raise max_message_size of the broker")
        }
        311 => (Permanent, "lower batch_bytes_max or record_bytes_max, or raise the broker's limit"),
        406 if text.contains("timed out") => {
            (Transient, "a delivery was held for longer than consumer_timeout of the broker: it comes again")
        }
        503 | 540 => (Permanent, "the broker lacks what Fides asks for: RabbitMQ 3.10 or newer is needed"),
        // 320 forced (shutting down), 406 otherwise, 501-505 framing, 541 internal.
        _ => (Transient, ""),
    };
    let fault = Fault::new(kind, format!("{what}: {text}"));
    if advice.is_empty() { fault } else { fault.advise(advice) }
}

/// A queue or exchange that is there already, but was made otherwise.
#[derive(Debug, PartialEq)]
struct Clash<'a> {
    argument: &'a str,
    /// `queue 'fides.shop.lane.0' in vhost '/'`
    place: &'a str,
    wanted: String,
    found: String,
}

impl<'a> Clash<'a> {
    /// Reads `… inequivalent arg 'A' for queue 'Q' in vhost 'V': received the value '8' of type 'long' but current is …`.
    fn read(text: &'a str) -> Option<Self> {
        let (argument, rest) = text.split_once("inequivalent arg '")?.1.split_once("' for ")?;
        let (place, rest) = rest.split_once(": received ")?;
        let (wanted, found) = rest.split_once(" but current is ")?;
        let value = |said: &str| {
            let said = said.strip_prefix("the value ").unwrap_or(said);
            said.split_once(" of type ").map_or(said, |(value, _)| value).trim_matches('\'').to_owned()
        };
        Some(Self { argument, place, wanted: value(wanted), found: value(found) })
    }

    fn fault(&self, what: &str) -> Fault {
        let Self { argument, place, wanted, found } = self;
        let setting = match *argument {
            "x-max-length" => "set lane_depth_batches_max back, or ",
            _ => "",
        };
        Fault::permanent(format!("{what}: {place} was made with {argument} = {found}, {wanted} is wanted")).advise(
            format!(
                "{setting}let it run empty while nothing is published, then delete it: it is made anew at its next use"
            ),
        )
    }
}

fn of_io(what: &str, error: &std::sync::Arc<std::io::Error>) -> Fault {
    let text = error.to_string();
    let (kind, advice) = match error.kind() {
        Io::ConnectionReset | Io::ConnectionAborted | Io::BrokenPipe | Io::UnexpectedEof | Io::TimedOut => {
            (FaultKind::Transient, "")
        }
        Io::InvalidData | Io::InvalidInput => {
            (FaultKind::Unavailable, "check the broker's certificate, ca_file, and whether its port speaks TLS")
        }
        Io::ConnectionRefused
        | Io::NotFound
        | Io::HostUnreachable
        | Io::NetworkUnreachable
        | Io::AddrNotAvailable
        | Io::PermissionDenied => {
            (FaultKind::Unavailable, "check that the broker runs and that the URL names its address")
        }
        _ if text.contains("lookup") => (FaultKind::Unavailable, "the name of the URL's host is not known here"),
        _ => (FaultKind::Transient, ""),
    };
    let fault = Fault::new(kind, what).because(error.clone());
    if advice.is_empty() { fault } else { fault.advise(advice) }
}

/// Nobody answered in time.
pub(crate) fn timeout(what: &str, waited: std::time::Duration) -> Fault {
    Fault::transient(format!("{what}: no answer after {} ms", waited.as_millis()))
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPErrorKind;
    use lapin::types::ShortString;

    use super::*;

    fn said(code: u16, text: &str) -> Fault {
        let kind = AMQPErrorKind::from_id(code).unwrap();
        of_broker("trying", &AMQPError::new(kind, ShortString::from(text)))
    }

    #[test]
    fn every_reply_code_has_its_kind() {
        for (code, text, kind) in [
            (320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'", FaultKind::Transient),
            (403, "ACCESS_REFUSED - Login was refused", FaultKind::Unavailable),
            (404, "NOT_FOUND - no queue 'x' in vhost '/'", FaultKind::Unavailable),
            (406, "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out.", FaultKind::Transient),
            (406, "PRECONDITION_FAILED - message size 9 is larger than configured max size 8", FaultKind::Permanent),
            (530, "NOT_ALLOWED - vhost x not found", FaultKind::Unavailable),
            (541, "INTERNAL_ERROR", FaultKind::Transient),
        ] {
            assert_eq!(said(code, text).kind, kind, "{text}");
        }
    }

    #[test]
    fn a_clash_names_queue_argument_and_both_values() {
        let fault = said(
            406,
            "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'fides.shop.lane.0' in vhost '/': received the \
             value '8' of type 'long' but current is the value '4' of type 'long'",
        );
        assert_eq!(fault.kind, FaultKind::Permanent);
        let text = fault.to_string();
        assert!(
            text.contains("queue 'fides.shop.lane.0' in vhost '/' was made with x-max-length = 4, 8 is wanted"),
            "{text}"
        );
        let none = "PRECONDITION_FAILED - inequivalent arg 'x-overflow' for queue 'q' in vhost '/': received none but current \
                    is the value 'drop-head' of type 'longstr'";
        let clash = Clash::read(none).unwrap();
        assert_eq!((clash.wanted.as_str(), clash.found.as_str()), ("none", "drop-head"));
    }

    #[test]
    fn a_refused_connection_is_unavailable_with_advice() {
        let refused = std::sync::Arc::new(std::io::Error::from(Io::ConnectionRefused));
        let fault = fault("connecting", &ErrorKind::IOError(refused).into());
        assert_eq!(fault.kind, FaultKind::Unavailable);
        assert!(fault.to_string().contains("check that the broker runs"), "{fault}");
    }
}
