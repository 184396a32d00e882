use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How many changes are written at once. A write that failed may be one that cannot be done in the time that a write has:
/// the next one is half as large, down to a single change, so that a slow target is written slowly instead of never.
pub(super) struct Portion {
    records: AtomicUsize,
    records_max: usize,
    /// A write that took less is followed by one twice as large.
    quick: Duration,
}

impl Portion {
    /// As large as allowed. `timeout_ms` is how long a write may take.
    pub(super) fn new(records_max: usize, timeout_ms: u64) -> Self {
        let records_max = records_max.max(1);
        Self { records: AtomicUsize::new(records_max), records_max, quick: Duration::from_millis(timeout_ms / 4) }
    }

    /// How many changes the next write has at most.
    pub(super) fn records(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }

    /// Learns from a write that was done in `took`.
    pub(super) fn done(&self, took: Duration) {
        if took < self.quick {
            self.records.store((self.records() * 2).min(self.records_max), Ordering::Relaxed);
        }
    }

    /// Learns from a write that failed as a whole or in part.
    pub(super) fn failed(&self) {
        self.records.store((self.records() / 2).max(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_down_to_one_change_and_grows_back() {
        let portion = Portion::new(100, 4_000);
        let after = |learn: &dyn Fn()| {
            learn();
            portion.records()
        };
        let sizes: Vec<usize> = (0..8).map(|_| after(&|| portion.failed())).collect();
        assert_eq!(sizes, [50, 25, 12, 6, 3, 1, 1, 1]);
        assert_eq!(after(&|| portion.done(Duration::from_secs(1))), 1, "not quick");
        let sizes: Vec<usize> = (0..8).map(|_| after(&|| portion.done(Duration::from_millis(999)))).collect();
        assert_eq!(sizes, [2, 4, 8, 16, 32, 64, 100, 100]);
    }
}
