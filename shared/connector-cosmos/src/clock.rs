//! The server's clock, by which changes are ordered.
//!
//! A document says only when it was written last, in seconds of the clock of the machine that wrote it (`_ts`). Positions of
//! a host are made of that. A snapshot's position lies [`SKEW_SECONDS`] before the clock's time: whatever the server's
//! machines disagree by less than that, a change at or before it is seen by every later read (L1). What is seen and newer
//! than its label comes again from the feed.

use std::time::Duration;

use azure_core::http::headers::HeaderName;
use azure_core::http::{Method, Request, new_http_client};
use fides_core::Fault;
use tokio::time::Instant;

use crate::account::Account;

/// What the clocks of one account's machines may differ by.
pub(crate) const SKEW_SECONDS: u64 = 10;

/// The server's time, as it was told, since that came; goes on by our monotonic clock. Never ahead of the server's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    seconds: u64,
    at: Instant,
    /// How far it may be behind the server's.
    pub behind_max: Duration,
}

impl Clock {
    /// Asks the server. Any answer tells the time, a refusal too: no key is sent.
    pub async fn ask(account: &Account) -> Result<Self, Fault> {
        let what = "asking Cosmos DB for the time";
        let asked = Instant::now();
        let request = Request::new(account.url().clone(), Method::Get);
        let client = new_http_client(None);
        let answer = tokio::time::timeout(Duration::from_secs(10), client.execute_request(&request)).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(Fault::unavailable(format!("{what}: {error}"))),
            Err(_) => return Err(Fault::unavailable(format!("{what}: no answer"))),
        };
        let date = answer.headers().get_optional_str(&HeaderName::from_static("date"));
        let date = date.and_then(|date| azure_core::time::parse_rfc7231(date).ok());
        let seconds = date.and_then(|date| u64::try_from(date.unix_timestamp()).ok());
        let seconds = seconds.ok_or_else(|| Fault::unavailable(format!("{what}: the answer has no date")))?;
        Ok(Self::told(seconds, asked))
    }

    /// By an answer that has just come; it tells whole seconds.
    fn told(seconds: u64, asked: Instant) -> Self {
        Self { seconds, at: Instant::now(), behind_max: asked.elapsed() + Duration::from_secs(1) }
    }

    /// The server's time now, in seconds since 1970.
    pub fn now(&self) -> u64 {
        self.seconds + self.at.elapsed().as_secs()
    }

    /// The server's time now, in milliseconds since 1970.
    pub fn millis(&self) -> u64 {
        self.seconds * 1_000 + u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether it was asked long ago, so that two clocks may have drifted apart.
    pub fn is_old(&self) -> bool {
        self.at.elapsed() > Duration::from_mins(10)
    }
}

/// The position of a second: greater than that of every change of the seconds before.
pub(crate) fn position(seconds: u64) -> u64 {
    seconds << 32
}

/// The position of a change that was written in a second and read at a time in milliseconds: of two of the same second the
/// one that was read later has the greater. Our time may be behind that of the machine that wrote it.
pub(crate) fn position_of(second: u64, read_ms: u64) -> u64 {
    let read_ms = read_ms + (SKEW_SECONDS + 1) * 1_000;
    let since = u32::try_from(read_ms.saturating_sub(second * 1_000)).unwrap_or(u32::MAX);
    position(second) | u64::from(since)
}

/// The second of a position.
pub(crate) fn second(position: u64) -> u64 {
    position >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_later_clock_is_never_behind_an_earlier_one_after_it_waited() {
        let (server, ms) = (Instant::now(), Duration::from_millis);
        // An answer tells the second in which the server wrote it, and is under way before that and after it.
        let ask = async |before, after| {
            let asked = Instant::now();
            tokio::time::sleep(ms(before)).await;
            let seconds = server.elapsed().as_secs();
            tokio::time::sleep(ms(after)).await;
            Clock::told(seconds, asked)
        };
        for phase in 0..40 {
            for (first, second) in
                [((0, 0), (0, 0)), ((3_000, 0), (0, 3_000)), ((0, 3_000), (3_000, 0)), ((0, 1), (700, 700))]
            {
                tokio::time::sleep(ms(phase * 50)).await;
                let earlier = ask(first.0, first.1).await;
                tokio::time::sleep(ms(phase * 150)).await;
                let later = ask(second.0, second.1).await;
                let told = earlier.millis();
                assert!(u128::from(told) <= server.elapsed().as_millis(), "never ahead");
                tokio::time::sleep(later.behind_max).await;
                assert!(later.millis() >= told, "{phase}: {first:?} {second:?}");
            }
        }
    }

    #[test]
    fn what_is_read_later_has_the_greater_position_within_its_second() {
        // Also where our clock is behind the machine's that wrote it.
        let (second, now) = (1_000, 995_400);
        assert!(position_of(second, now) < position_of(second, now + 1));
        assert!(position_of(second, u64::from(u32::MAX) * 2) < position(second + 1));
        assert!(position(second) <= position_of(second, 0));
        assert_eq!(super::second(position_of(second, now)), second);
    }
}
