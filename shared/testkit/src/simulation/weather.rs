//! How fast the writer is and how much goes wrong: each seed draws its own.
//!
//! One weather for all seeds finds only what happens in it. Where it is so bad that no lane works before the writer has
//! ended, every record travels once, after the last change; where it is always fair, nothing is ever repeated.

use super::planted::Planted;
use crate::fake::Rates;

/// Longest waits between two transactions that are drawn from, in milliseconds of the paused clock: shorter than a lane
/// needs to change its owner, about as long, and long enough for imports to end between them.
const COMMIT_WAITS_MS: [u64; 3] = [400, 2_000, 8_000];
/// What the rates of the storm are multiplied with.
const SEVERITIES: [f64; 3] = [1.0, 0.4, 0.1];
/// After one transaction of so many a consumer loses its lane.
const DISPLACES_EVERY: [u64; 3] = [3, 6, 12];

#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// Longest wait between two transactions, in milliseconds.
    pub commit_wait_ms_max: u64,
    /// A consumer loses its lane after one transaction of so many.
    pub displaces_every: u64,
    severity: f64,
}

impl Weather {
    /// By a source of numbers below what it is asked for.
    pub fn draw(mut below: impl FnMut(u64) -> u64) -> Self {
        let mut one_of_three = || usize::try_from(below(3)).unwrap_or_default().min(2);
        Self {
            commit_wait_ms_max: COMMIT_WAITS_MS[one_of_three()],
            displaces_every: DISPLACES_EVERY[one_of_three()],
            severity: SEVERITIES[one_of_three()],
        }
    }

    /// While it storms. Crashes are as frequent in fair weather: what they need is that something is under way.
    pub fn rates(&self, planted: Option<Planted>) -> Rates {
        // Where nothing fences, late writes are to meet newer ones.
        let unfenced = planted == Some(Planted::LateWriteNotFenced);
        Rates {
            transient: 0.01 * self.severity,
            throttled: 0.005 * self.severity,
            unavailable: 0.01 * self.severity,
            fail_after: 0.02 * self.severity,
            partial: 0.01 * self.severity,
            slow: 0.05 * self.severity,
            late: if unfenced { 0.15 } else { 0.03 * self.severity },
            crash: 0.002,
            delay_ms_max: 600,
            late_factor: if unfenced { 5 } else { 1 },
        }
    }
}
