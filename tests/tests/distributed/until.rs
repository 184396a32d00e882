//! Waiting for what must come true.

use std::time::{Duration, Instant};

/// Long enough for anything that is not stuck.
pub const MINUTE: Duration = Duration::from_mins(1);

/// Waits for a condition, and says how long it took. Where it does not come true, `what` says what was waited for.
pub async fn until(what: &str, within: Duration, mut condition: impl AsyncFnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    started.elapsed()
}
