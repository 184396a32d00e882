//! PostgreSQL as host and as target.
//!
//! The host is read as raw lines of `COPY … TO STDOUT`, hashed as they are and decoded only where they changed; its
//! snapshots carry the exact position of the log where the server allows it, and the log itself gives the same lines for
//! what changes. The target is written by `COPY` into a
//! temporary table and one merge per transaction, fenced by a row with the lane's token.

mod apply;
mod array;
mod authority;
mod catalog;
mod connect;
mod copy_text;
mod describe;
mod encode;
mod fault;
mod fence;
mod host;
mod include;
mod inspect;
mod key;
mod kind;
mod layout;
mod log;
mod merge;
mod plan;
mod quote;
mod read;
mod rewritten;
mod row_text;
mod snapshot;
mod stream;
mod target;

use std::sync::Arc;

use fides_core::Fault;
use fides_core::port::{Host, Target};

use crate::connect::Server;

/// Rows of a write that travel with its statement; more come by COPY.
const INLINE_ROWS_MAX: usize = 500;

/// The database under `url` as a host, read over at most `connections` connections at a time. Each open snapshot holds
/// one more, and opening one takes another for a moment; each open log holds two. Where nobody `follows` its log, its
/// snapshots have the positions that were drawn for them, and wait for no writer.
///
/// Does not connect yet. A URL that makes no sense is a Permanent fault; its text is never repeated, because of its
/// password.
// The signature is asynchronous like those of all connectors; this one has nothing to wait for.
#[allow(clippy::unused_async)]
pub async fn host(url: &str, connections: u32, follows: bool) -> Result<Arc<dyn Host>, Fault> {
    Ok(Arc::new(host::PostgresHost::new(&Server::parse(url)?, connections, follows)))
}

/// The database under `url` as a target, over at most `connections` connections. The server gives up a write before
/// `write_timeout_ms_max` (L6).
///
/// Does not connect yet; faults as [`host`].
#[allow(clippy::unused_async)]
pub async fn target(url: &str, connections: u32, write_timeout_ms_max: u64) -> Result<Arc<dyn Target>, Fault> {
    Ok(Arc::new(target::PostgresTarget::new(&Server::parse(url)?, connections, write_timeout_ms_max, INLINE_ROWS_MAX)))
}

/// [`target`] for tests of the way that many rows take: all of them come by COPY, however few they are.
#[doc(hidden)]
#[allow(clippy::unused_async)]
pub async fn target_by_copy(url: &str, connections: u32, write_timeout_ms_max: u64) -> Result<Arc<dyn Target>, Fault> {
    Ok(Arc::new(target::PostgresTarget::new(&Server::parse(url)?, connections, write_timeout_ms_max, 0)))
}
