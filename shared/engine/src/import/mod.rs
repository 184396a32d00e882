//! Import: read the host, compare with the marks, publish what changed.
//!
//! A run is durable: its ranges, a cursor per range and its counts are in the state store, and a crash repeats at most
//! the pages that were in flight.

mod abandon;
mod compare;
mod range;
mod run;
mod snapshots;

pub use compare::{Comparing, Work};
pub use run::{Last, Lead, Mode, Report, assist, demanded, import, last};

pub(crate) use run::latest;
pub(crate) use snapshots::Snapshots;
