use std::time::Duration;

use fides_core::port::Outcome;
use fides_core::{Fault, FaultKind};

/// What a layer has to know of an answer: a `Result`, or the outcomes of a batch.
pub(crate) trait Reply {
    /// The answer to a call of `weight` that was not made.
    fn refused(fault: Fault, weight: usize) -> Self;

    /// The answer to a call of `weight` that nobody waits for any more, and that may still be done.
    fn abandoned(fault: Fault, weight: usize) -> Self;

    /// What the answer says of the other side.
    fn health(&self) -> Health;

    /// What became of its records.
    fn tally(&self) -> Tally;

    /// The first fault in it.
    fn fault(&self) -> Option<&Fault>;
}

/// What an answer says of the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It answers, if only to refuse a record.
    Well,
    /// It asks for patience.
    Throttled(Duration),
    /// It does not answer, or not as it should.
    Sick,
}

/// Counts of what became of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Done, durably.
    pub done: u64,
    /// Left alone, because the target holds a newer version.
    pub stale: u64,
    /// Nobody knows.
    pub unknown: u64,
    /// Not done.
    pub failed: u64,
}

impl<T> Reply for Result<T, Fault> {
    fn refused(fault: Fault, _weight: usize) -> Self {
        Err(fault)
    }

    fn abandoned(fault: Fault, _weight: usize) -> Self {
        Err(fault)
    }

    fn health(&self) -> Health {
        match self.as_ref().map_err(|fault| fault.kind) {
            Ok(_) | Err(FaultKind::Deferred | FaultKind::Permanent) => Health::Well,
            Err(FaultKind::Throttled { after }) => Health::Throttled(after),
            Err(FaultKind::Transient | FaultKind::Unavailable) => Health::Sick,
        }
    }

    fn tally(&self) -> Tally {
        Tally { done: u64::from(self.is_ok()), failed: u64::from(self.is_err()), ..Tally::default() }
    }

    fn fault(&self) -> Option<&Fault> {
        self.as_ref().err()
    }
}

impl Reply for Vec<Outcome> {
    fn refused(fault: Fault, weight: usize) -> Self {
        vec![Outcome::Failed(fault); weight]
    }

    /// A write that was given up is Unknown: the server may have finished it (L5).
    fn abandoned(fault: Fault, weight: usize) -> Self {
        vec![Outcome::Unknown(fault); weight]
    }

    /// A lost connection is sickness even if it was lost late; a single deadlock among written records is not.
    fn health(&self) -> Health {
        let mut throttled = None;
        let (mut answered, mut transient) = (false, false);
        for outcome in self {
            match outcome {
                Outcome::Applied | Outcome::Stale => answered = true,
                Outcome::Unknown(_) => return Health::Sick,
                Outcome::Failed(fault) => match fault.kind {
                    FaultKind::Unavailable => return Health::Sick,
                    FaultKind::Transient => transient = true,
                    FaultKind::Throttled { after } => throttled = throttled.max(Some(after)),
                    FaultKind::Deferred | FaultKind::Permanent => answered = true,
                },
            }
        }
        match throttled {
            Some(after) => Health::Throttled(after),
            None if transient && !answered => Health::Sick,
            None => Health::Well,
        }
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for outcome in self {
            match outcome {
                Outcome::Applied => tally.done += 1,
                Outcome::Stale => tally.stale += 1,
                Outcome::Unknown(_) => tally.unknown += 1,
                Outcome::Failed(_) => tally.failed += 1,
            }
        }
        tally
    }

    fn fault(&self) -> Option<&Fault> {
        self.iter().find_map(|outcome| match outcome {
            Outcome::Applied | Outcome::Stale => None,
            Outcome::Unknown(fault) | Outcome::Failed(fault) => Some(fault),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_about_the_connection_not_about_records() {
        let after = Duration::from_millis(7);
        let failed = |kind| Outcome::Failed(Fault::new(kind, "scripted"));
        let transient = || failed(FaultKind::Transient);
        let throttled = || failed(FaultKind::Throttled { after });
        let cases = [
            (vec![], Health::Well),
            (vec![failed(FaultKind::Permanent), failed(FaultKind::Deferred)], Health::Well),
            (vec![Outcome::Applied, transient()], Health::Well),
            (vec![transient(), Outcome::Stale], Health::Well),
            (vec![transient(), transient()], Health::Sick),
            (vec![Outcome::Applied, failed(FaultKind::Unavailable)], Health::Sick),
            (vec![Outcome::Applied, Outcome::Unknown(Fault::transient("scripted"))], Health::Sick),
            (vec![Outcome::Applied, throttled(), transient()], Health::Throttled(after)),
        ];
        for (outcomes, health) in cases {
            assert_eq!(outcomes.health(), health, "{outcomes:?}");
        }
    }
}
