//! Trace context (W3C), so that one record's way from host to target is one trace.

/// The `traceparent` under which everything of one page of a host, or of one batch of events, travels: in every message's
/// header, and with every dead letter that comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace(String);

impl Trace {
    /// Begins a trace. Version 00 of the format, sampled; the ids are random and not zero, which the format forbids.
    pub fn begin() -> Self {
        Self(format!("00-{:032x}-{:016x}-01", fastrand::u128(1..), fastrand::u64(1..)))
    }

    /// The value of the header `traceparent`.
    pub fn traceparent(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_has_the_form_of_the_standard_and_is_new_every_time() {
        let trace = Trace::begin();
        let parts: Vec<&str> = trace.traceparent().split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2], "{trace:?}");
        assert_eq!((parts[0], parts[3]), ("00", "01"));
        for id in &parts[1..3] {
            assert!(id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)), "{id}");
            assert!(id.bytes().any(|byte| byte != b'0'), "{id}");
        }
        assert_ne!(Trace::begin(), trace);
    }
}
