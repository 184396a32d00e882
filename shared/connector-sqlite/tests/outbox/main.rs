//! The log of a SQLite file: an outbox that triggers fill.

#![allow(clippy::unwrap_used)] // the functions around the tests are tests, too

mod bounds;
mod gaps;
mod stand;
mod told;
mod trees;
