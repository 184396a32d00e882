//! One suite of cases per port, run against fakes and every real part alike, in the same words.
//!
//! Each case is an async function. Hosts and targets: over a fixture; a macro makes one test of each. What a part cannot
//! do, its fixture names with the reason, and the test prints it: nothing is skipped in silence. The backplane's ports:
//! over [`Stores`]; `run_all` gives every case stores of its own. A case that hangs fails by name, on a paused clock at
//! once.

#![allow(clippy::missing_panics_doc)] // a case panics where the part fails it: that is its result
#![allow(clippy::unwrap_used)] // a suite is a test: a fault is its failure

pub mod admin_queue;
pub mod dead_letters;
pub mod hash_store;
pub mod host;
pub mod queue;
pub mod state_store;
pub mod target;

mod report;
mod rows;
mod table;

pub use report::report;
pub use rows::{Record, records, scan_all, scan_range};
pub use table::{Spec, column};

use std::time::Duration;

use async_trait::async_trait;
use fides_core::port::Backplane;
use fides_core::{Fingerprint, Key, Value, Version};

/// Stores under test, empty at first, used by nobody else.
#[async_trait]
pub trait Stores: Send {
    /// Opens them as a starting process does, with lanes of [`LANE_DEPTH_MAX`] messages. Every handle of the time before
    /// has been dropped, without a farewell: what it left unsettled must come back.
    async fn open(&mut self) -> Backplane;
}

/// How many messages a lane of the stores under test holds before publishers wait.
pub const LANE_DEPTH_MAX: u32 = 4;

/// Far more than a case takes on a busy machine.
const HANG: Duration = Duration::from_mins(2);

async fn run(name: &str, case: impl Future<Output = ()>) {
    println!("case {name}");
    assert!(tokio::time::timeout(HANG, case).await.is_ok(), "case {name} hangs");
}

/// Lists the cases of a suite. A case that is not listed is dead code, which the compiler tells.
macro_rules! suite {
    ($($case:ident),+ $(,)?) => {
        /// Runs every case on stores that `fresh` makes for it.
        pub async fn run_all<S: $crate::conformance::Stores>(mut fresh: impl AsyncFnMut() -> S) {
            $( $crate::conformance::run(stringify!($case), $case(&mut fresh().await)).await; )+
        }
    };
}
use suite;

/// Asks until `ready`: each time the other tasks get their turn.
async fn until(mut ready: impl AsyncFnMut() -> bool) {
    while !ready().await {
        tokio::task::yield_now().await;
    }
}

fn key(id: i64) -> Key {
    Key::encode(&[Value::I64(id)]).expect("numbers are keys")
}

fn version(position: u64) -> Version {
    Version { epoch: 1, position, sequence: 0 }
}

fn fingerprint(of: u64) -> Fingerprint {
    Fingerprint(u128::from(of) << 64 | u128::from(of))
}
