//! Queue, hash store and state store in one SQLite file.
