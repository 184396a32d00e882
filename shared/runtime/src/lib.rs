//! Configuration, registry, wiring, signals; the only crate that knows all.
//!
//! [`config`] reads the file; `registry` turns its stores into ports, one line per kind; `wire` builds pipelines from
//! them; [`sync_once`] and [`serve`] run them.

pub mod config;
pub mod health;
pub mod metrics;
pub mod service;

mod app;
mod backplane;
mod check;
mod commands;
mod convert;
mod desk;
mod finding;
mod init;
mod intake;
mod outbox;
mod patience;
#[cfg(test)]
mod provoked;
mod readiness;
mod registry;
mod schedule;
mod serve;
mod sync;
mod telemetry;
mod wire;

pub use app::{Access, App, Meters};
pub use check::check;
pub use commands::{Commands, state};
pub use finding::{Finding, Severity, StartError};
pub use init::{init, named_host};
pub use outbox::{OutboxOf, install_outboxes, remove_outboxes};
pub use serve::{Role, serve};
pub use sync::{Outcome, Watched, drain, rebuild, repair, sync_once};
pub use telemetry::{Stream, Telemetry, install_logging};
