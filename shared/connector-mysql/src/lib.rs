//! MySQL and MariaDB as host and as target.
//!
//! The host is read in the text protocol, page by page in key order: a row is hashed as the server wrote it and decoded
//! only where it changed. A snapshot is a transaction `WITH CONSISTENT SNAPSHOT`, which needs no lock and no right; further
//! sessions join it where the server proves that they see the same state (`readers`). Its binary log is followed where
//! the server tells the exact place of a snapshot in it (`log`). The target is written by
//! statements of many rows, fenced by a row with the lane's token.

mod apply;
mod authority;
mod beginning;
mod catalog;
mod cells;
mod connect;
mod describe;
mod fault;
mod fence;
mod host;
mod include;
mod inspect;
mod key;
mod kind;
mod layout;
mod literal;
mod log;
mod place;
mod plan;
mod query;
mod quote;
mod readers;
mod reading;
mod snapshot;
mod target;
mod transaction;

use std::sync::Arc;

use fides_core::Fault;
use fides_core::port::{Host, Target};

use crate::connect::Server;

/// The database under `url` as a host, read over at most `connections` connections at a time. Each open snapshot holds
/// one of its own beside them; each open log holds two. Where nobody `follows` its log, its snapshots have the positions
/// that were drawn for them.
///
/// Does not connect yet. A URL that makes no sense is a Permanent fault; its text is never repeated, because of its
/// password.
// The signature is asynchronous like those of all connectors; this one has nothing to wait for.
#[allow(clippy::unused_async)]
pub async fn host(url: &str, connections: u32, follows: bool) -> Result<Arc<dyn Host>, Fault> {
    Ok(Arc::new(host::MySqlHost::new(&Server::parse(url)?, connections, follows)))
}

/// The database under `url` as a target, over at most `connections` connections. The server gives up a write before
/// `write_timeout_ms_max` (L6).
///
/// Does not connect yet; faults as [`host`].
#[allow(clippy::unused_async)]
pub async fn target(url: &str, connections: u32, write_timeout_ms_max: u64) -> Result<Arc<dyn Target>, Fault> {
    Ok(Arc::new(target::MySqlTarget::new(&Server::parse(url)?, connections, write_timeout_ms_max)))
}
