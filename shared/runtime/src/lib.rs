//! Configuration, registry, wiring, signals; the only crate that knows all.
//!
//! [`config`] reads the file; `registry` turns its stores into ports, one line per kind; `wire` builds pipelines from
//! them; [`sync_once`] and [`serve`] run them.

pub mod config;

mod app;
mod check;
mod convert;
mod finding;
mod init;
mod logging;
mod patience;
mod registry;
mod schedule;
mod sync;
mod wire;

pub use app::{Access, App};
pub use check::check;
pub use finding::{Finding, Severity, StartError};
pub use init::init;
pub use logging::install as install_logging;
pub use sync::{Outcome, Watched, drain, serve, sync_once};
