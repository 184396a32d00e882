//! PostgreSQL as host and as target.
