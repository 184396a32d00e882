use crate::{FaultKind, Limits};

/// What to do about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Try again after a wait drawn from zero to this many milliseconds (full jitter).
    Retry {
        /// Upper end of the draw.
        within_ms: u64,
    },
    /// Try again after exactly this long: the other side said so.
    Wait {
        /// How long.
        ms: u64,
    },
    /// Stop asking: keep what is queued, probe, resume.
    Pause,
    /// Try again behind other changes, then treat as Permanent.
    Defer,
    /// A dead letter.
    Dead,
}

/// The one place where a fault's kind becomes an action (DESIGN §7). `attempt` counts from 1.
pub fn disposition(kind: FaultKind, attempt: u32, limits: &Limits) -> Disposition {
    match kind {
        FaultKind::Transient if attempt < limits.retry_attempts_max => {
            Disposition::Retry { within_ms: backoff_ms_max(attempt, limits) }
        }
        FaultKind::Throttled { after } => {
            Disposition::Wait { ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX) }
        }
        FaultKind::Transient | FaultKind::Unavailable => Disposition::Pause,
        FaultKind::Deferred => Disposition::Defer,
        FaultKind::Permanent => Disposition::Dead,
    }
}

/// Upper end of the wait before attempt `attempt + 1`: doubled each time, capped.
pub fn backoff_ms_max(attempt: u32, limits: &Limits) -> u64 {
    let doubled = 1u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(u64::MAX);
    limits.retry_base_ms.saturating_mul(doubled).min(limits.retry_cap_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        #[test]
        fn waits_are_bounded_and_attempts_end(attempt in 1u32..) {
            let limits = Limits::default();
            match disposition(FaultKind::Transient, attempt, &limits) {
                Disposition::Retry { within_ms } => {
                    prop_assert!(attempt < limits.retry_attempts_max);
                    prop_assert!((1..=limits.retry_cap_ms).contains(&within_ms));
                }
                other => {
                    prop_assert!(attempt >= limits.retry_attempts_max);
                    prop_assert_eq!(other, Disposition::Pause);
                }
            }
        }
    }

    #[test]
    fn each_kind_has_its_action() {
        let limits = Limits::default();
        let after = Duration::from_millis(250);
        assert_eq!(disposition(FaultKind::Throttled { after }, 99, &limits), Disposition::Wait { ms: 250 });
        assert_eq!(disposition(FaultKind::Unavailable, 1, &limits), Disposition::Pause);
        assert_eq!(disposition(FaultKind::Deferred, 1, &limits), Disposition::Defer);
        assert_eq!(disposition(FaultKind::Permanent, 1, &limits), Disposition::Dead);
    }
}
