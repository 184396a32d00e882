//! One suite of cases per port, run against fakes and every real part alike.
//!
//! Each case is an async function over a fixture; a macro makes one test of each. What a part cannot do, its fixture
//! names with the reason, and the test prints it: nothing is skipped in silence.

#![allow(clippy::missing_panics_doc)] // a case panics where the part fails it: that is its result

pub mod host;
pub mod target;

mod rows;
mod table;

pub use rows::{Record, records, scan_all, scan_range};
pub use table::{Spec, column};
