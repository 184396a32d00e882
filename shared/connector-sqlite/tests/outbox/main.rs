//! The log of a SQLite file: an outbox that triggers fill.

#![allow(clippy::unwrap_used)] // the functions around the tests are tests, too

mod bounds;
mod changes;
mod gaps;
mod stand;
mod trees;
