//! Deterministic fakes of every port, in memory, for one thread and a paused clock.
//!
//! What survives a crash lives in [`Disk`], [`FakeHost`] and [`FakeTarget`]; a process gets handles and is crashed by
//! dropping its task. [`Faulty`] puts the failures of the world before a port.

mod admin;
mod around;
mod backplane;
mod dead_letters;
mod faults;
mod faulty;
mod faulty_backplane;
mod frozen;
mod hash_store;
mod hollow;
mod host;
mod log;
mod mapper;
mod queue;
mod state_store;
mod target;

pub use around::{Applies, Around};
pub use backplane::{Disk, StoreBackup};
pub use faults::{Act, Faults, Gate, Rates};
pub use faulty::Faulty;
pub use hollow::Hollow;
pub use host::{Commit, FakeHost, Logged, Order, raw_row};
pub use mapper::FakeMapper;
pub use target::{Backup, FakeTarget, Written};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A panicking test must not hide its message behind a poisoned lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
