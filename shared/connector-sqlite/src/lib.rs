//! SQLite as host and as target.
