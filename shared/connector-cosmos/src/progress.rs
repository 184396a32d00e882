//! How far one range of a change feed is read, in seconds of the server's clock.

use crate::clock::SKEW_SECONDS;

#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// In which the latest request began: an answer may be taken up long after it came, and says nothing of that time.
    asked: u64,
    /// The latest of the range's changes.
    second: u64,
    /// Everything that was written before this one was read.
    read_to: u64,
}

impl Progress {
    /// A request begins now.
    pub fn asks(&mut self, now: u64) {
        self.asked = now;
    }

    /// The latest request found nothing new.
    pub fn ended(&mut self) {
        self.read_to = self.read_to.max(self.asked);
    }

    /// A document that was written in a second is told; the second of its position, which never descends.
    ///
    /// What comes before it was written before it only where it is newer than the feed, which was opened in the second
    /// `opened`: of two partitions that were merged before, one may come after the other.
    pub fn told(&mut self, written: u64, opened: u64) -> u64 {
        self.second = self.second.max(written);
        if written >= opened + SKEW_SECONDS {
            self.read_to = self.read_to.max(written);
        }
        self.second
    }

    pub fn read_to(&self) -> u64 {
        self.read_to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_taken_up_late_says_nothing_of_the_time_since() {
        let mut progress = Progress::default();
        assert_eq!(progress.read_to(), 0, "nobody asked yet");
        progress.asks(100);
        progress.ended();
        assert_eq!(progress.read_to(), 100);
        progress.asks(90);
        progress.ended();
        assert_eq!(progress.read_to(), 100, "another clock takes nothing back");
    }

    #[test]
    fn what_was_written_before_the_feed_was_opened_proves_no_place() {
        let (mut progress, opened) = (Progress::default(), 100);
        progress.asks(opened);
        assert_eq!(progress.told(99, opened), 99);
        assert_eq!(progress.told(opened + SKEW_SECONDS - 1, opened), 109);
        assert_eq!(progress.read_to(), 0, "a partition that was merged into this one may still hold older changes");
        assert_eq!(progress.told(opened + SKEW_SECONDS, opened), 110);
        assert_eq!((progress.told(105, opened), progress.read_to()), (110, 110), "neither of them descends");
    }
}
