//! Retry, circuit breaker, rate limit, timeout and telemetry, as layers over a port.
