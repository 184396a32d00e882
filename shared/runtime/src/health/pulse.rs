use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// How often the heart beats.
const BEAT: Duration = Duration::from_millis(500);

/// When the runtime was last seen turning. On the system's monotonic clock: the one of tokio stands still together with
/// the runtime that it is to watch.
#[derive(Debug)]
pub(crate) struct Pulse {
    born: Instant,
    beat_ms: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { born: Instant::now(), beat_ms: AtomicU64::new(0) }
    }
}

impl Pulse {
    /// How long ago the last beat was.
    pub fn age(&self) -> Duration {
        self.born.elapsed().saturating_sub(Duration::from_millis(self.beat_ms.load(Ordering::Relaxed)))
    }

    /// Beats until `stop`, for as long as the runtime lets it.
    pub async fn keep(&self, stop: &CancellationToken) {
        loop {
            let now_ms = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.beat_ms.store(now_ms, Ordering::Relaxed);
            tokio::select! {
                () = tokio::time::sleep(BEAT) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}
