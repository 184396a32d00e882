//! How a listener is bounded (L10).

use std::time::Duration;

/// How much of everything there may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at the same time.
    pub connections_max: usize,
    /// Bytes of a request's line and headers together; 8192 at least.
    pub header_bytes_max: usize,
    /// What a connection is for.
    pub connections: Connections,
}

/// What a connection is for, which says what becomes of one more than there may be.
#[derive(Clone, Copy, Debug)]
pub enum Connections {
    /// Request after request. One more waits until another ends; at the end, what is under way is answered.
    Kept {
        /// How long a request's headers may take to arrive, counted from the end of the one before: an idle connection
        /// ends too.
        header_max: Duration,
    },
    /// One request that nobody may be kept from. For one more the oldest is cut, which is the one that is slow; at the
    /// end all are.
    Single {
        /// How long it may last, from its first byte to the last byte of the answer.
        connection_max: Duration,
    },
}
