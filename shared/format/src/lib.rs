//! Documents as JSON, losing nothing.
