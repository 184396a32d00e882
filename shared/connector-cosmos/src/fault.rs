//! The one mapping from the driver's errors to faults (L9).

use std::time::Duration;

use azure_core::http::StatusCode;
use azure_data_cosmos::CosmosError;
use fides_core::port::Outcome;
use fides_core::{Fault, FaultKind};

/// What a throttled answer asks for where it names no time.
const PATIENCE: Duration = Duration::from_millis(100);

// Sub-statuses that the driver gives its own errors.
const CLIENT_TIMEOUT: u16 = 20_008;
const CONNECTION_FAILED: u16 = 20_010;
const DNS_FAILED: u16 = 20_012;
const HTTP2_INCOMPATIBLE: u16 = 20_015;

/// The status of an error, and its sub-status or 0.
pub(crate) fn status(error: &CosmosError) -> (u16, u16) {
    let status = error.status();
    (u16::from(status.status_code()), status.sub_status().map_or(0, |sub| sub.value()))
}

/// There is no such item, container or database.
pub(crate) fn is_missing(error: &CosmosError) -> bool {
    error.status().status_code() == StatusCode::NotFound
}

/// The fault of an error; `what` says what could not be done.
pub(crate) fn fault(what: &str, error: &CosmosError) -> Fault {
    let (status, sub) = status(error);
    let after = error.response().and_then(|response| response.headers().retry_after_ms).map(Duration::from_millis);
    let (kind, advice) = of_status(status, sub, after.unwrap_or(PATIENCE));
    let fault = Fault::new(kind, format!("{what}: {}", shown(error)));
    match advice {
        Some(advice) => fault.advise(advice),
        None => fault,
    }
}

/// What became of a write that failed with `error`.
fn outcome(what: &str, error: &CosmosError) -> Outcome {
    let fault = fault(what, error);
    let (status, sub) = status(error);
    if is_written_perhaps(status, sub, error.is_from_wire()) { Outcome::Unknown(fault) } else { Outcome::Failed(fault) }
}

/// Why a request failed, before it is told as a fault or as an outcome.
pub(crate) enum Failure {
    /// The driver, or the server through it.
    Driver(CosmosError),
    /// What was asked makes no sense; nothing was sent.
    Own(Fault),
}

impl From<CosmosError> for Failure {
    fn from(error: CosmosError) -> Self {
        Self::Driver(error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Own(fault)
    }
}

impl Failure {
    /// What became of a write that failed so.
    pub fn outcome(self, what: &str) -> Outcome {
        match self {
            Self::Driver(error) => outcome(what, &error),
            Self::Own(fault) => Outcome::Failed(fault),
        }
    }

    /// The fault of a request that writes nothing.
    pub fn fault(self, what: &str) -> Fault {
        match self {
            Self::Driver(error) => fault(what, &error),
            Self::Own(fault) => fault,
        }
    }
}

/// L5: nobody knows whether the server wrote what it did not answer for. It says that it did not where it refuses: 4xx,
/// and 503 of its own. A connection that never was carried nothing.
fn is_written_perhaps(status: u16, sub: u16, from_server: bool) -> bool {
    match (status, sub) {
        (_, CONNECTION_FAILED | DNS_FAILED | HTTP2_INCOMPATIBLE) => false,
        (408, _) => true,
        (503, _) => !from_server,
        (status, _) => status >= 500,
    }
}

fn of_status(status: u16, sub: u16, after: Duration) -> (FaultKind, Option<&'static str>) {
    use FaultKind::{Deferred, Permanent, Throttled, Transient, Unavailable};
    match (status, sub) {
        (_, CONNECTION_FAILED | DNS_FAILED | HTTP2_INCOMPATIBLE) => {
            (Unavailable, Some("check that the endpoint names the account, and firewalls in between"))
        }
        (429, _) => (Throttled { after }, Some("raise the throughput, or lower request_units_per_second")),
        (401, _) => (Unavailable, Some("check the account's key")),
        // One value of the partition key has as many bytes as it may: others take more.
        (403, 1_014) => {
            (Permanent, Some("choose a finer partition key, or delete documents, then `fides dead replay`"))
        }
        (403, _) => (Unavailable, Some("check the account's firewall and the rights of the key")),
        (404, 1_002) => (Transient, Some("a replica has not got that far yet")),
        (404, _) => (Unavailable, Some("create the database and the container, or set `create: true`")),
        (408, CLIENT_TIMEOUT) => (Transient, Some("no answer in time")),
        // Told apart: too slow, somebody else writes the same item, a partition that moves.
        (408 | 410 | 412 | 449, _) => (Transient, None),
        (409, _) => (Deferred, None),
        (413, _) => (Permanent, Some("a document has at most 2 MiB")),
        (400..=499, _) => (Permanent, None),
        (503, sub) if sub < 20_000 => (Unavailable, None),
        _ => (Transient, None),
    }
}

/// One line, bounded: what the server wrote may be long.
fn shown(error: &CosmosError) -> String {
    const CHARS_MAX: usize = 400;
    let text = error.to_string();
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_kind_and_its_certainty() {
        let after = Duration::from_millis(7);
        for (status, sub, from_server, kind, perhaps) in [
            (429, 3_200, true, FaultKind::Throttled { after }, false),
            (408, 0, true, FaultKind::Transient, true),
            (408, CLIENT_TIMEOUT, false, FaultKind::Transient, true),
            (449, 0, true, FaultKind::Transient, false),
            (410, 1_002, true, FaultKind::Transient, false),
            (503, 0, true, FaultKind::Unavailable, false),
            (503, 20_011, false, FaultKind::Transient, true),
            (503, CONNECTION_FAILED, false, FaultKind::Unavailable, false),
            (503, 20_014, false, FaultKind::Transient, true),
            (500, 0, true, FaultKind::Transient, true),
            (401, 0, true, FaultKind::Unavailable, false),
            (403, 0, true, FaultKind::Unavailable, false),
            (403, 1_014, true, FaultKind::Permanent, false),
            (404, 1_003, true, FaultKind::Unavailable, false),
            (409, 0, true, FaultKind::Deferred, false),
            (412, 0, true, FaultKind::Transient, false),
            (413, 0, true, FaultKind::Permanent, false),
            (400, 1_001, true, FaultKind::Permanent, false),
        ] {
            assert_eq!(of_status(status, sub, after).0, kind, "{status}/{sub}");
            assert_eq!(is_written_perhaps(status, sub, from_server), perhaps, "{status}/{sub}");
        }
    }
}
