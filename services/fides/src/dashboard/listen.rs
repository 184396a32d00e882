//! Where the page listens, and how that is bounded (L10).

use std::time::Duration;

use fides_http::{Bounds, Connections, Purpose};

/// What is told where the address cannot be had.
pub const PURPOSE: Purpose = Purpose { cannot: "the status page cannot be served", option: "--listen" };

/// A browser opens six connections.
pub const BOUNDS: Bounds = Bounds {
    connections_max: 64,
    header_bytes_max: 16 << 10,
    connections: Connections::Kept { header_max: Duration::from_secs(15) },
};
