//! Who orders the states of a host (DESIGN §5).

use fides_core::port::Lineage;
use fides_core::{Fault, Namespace};

/// How a host's snapshots are ordered; decided once, so that versions of both ways never meet in one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// Their position in the log is exact.
    Log,
    /// Fides draws positions.
    Drawn,
}

/// Why a server's log cannot be followed, and the statement or setting that mends it.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// What stands in the way.
    pub reason: String,
    /// What a person can do.
    pub mend: String,
}

impl Authority {
    /// Whoever orders the states of the host at `place`, whose log can be followed unless there is a refusal.
    pub fn decide(place: &str, refusal: Option<Refusal>) -> Self {
        let Some(Refusal { reason, .. }) = refusal else { return Self::Log };
        tracing::warn!(
            host = place,
            reason,
            "snapshots have no exact position in the log: Fides orders the versions of this host"
        );
        Self::Drawn
    }
}

/// Why there is no log of a table of the host at `place`, which orders nothing: what stands in the way now, or what did.
pub fn unfollowed(table: &Namespace, place: &str, refusal: Option<Refusal>) -> Fault {
    let what = format!("{table}: the log of {place} cannot be followed");
    match refusal {
        Some(Refusal { reason, mend }) => {
            Fault::permanent(format!("{what}: {reason}")).advise(format!("{mend}; then start anew"))
        }
        None => Fault::permanent(format!("{what}: it could not when this process began"))
            .advise("start anew: the versions of this host are ordered another way until then"),
    }
}

/// Refuses a snapshot or a log of a server that is not, or not any more, the one that positions belong to.
pub fn same_lineage(expected: &Lineage, found: &Lineage) -> Result<(), Fault> {
    if found == expected {
        return Ok(());
    }
    Err(Fault::transient(format!("the server's lineage changed from {} to {}", expected.0, found.0))
        .advise("positions may have gone backward: the next import raises the epoch"))
}
