//! Azure Cosmos DB, by its API of documents and SQL, as host and as target.
//!
//! The target is written document by document, up to a bound at the same time, each under a condition on the version that
//! the container holds; deletions leave a tombstone that expires, so that a late write loses (`record`, `tombstone`). A
//! document whose partition key is no part of its key has an address document, which says where it is (`moves`). Documents
//! carry their encoded key, by which the container is read in key order over all partitions. As a host a container is read
//! by query, and followed by its change feed.

mod account;
mod address;
mod apply;
mod clock;
mod condition;
mod container;
mod describe;
mod document;
mod fault;
mod fence;
mod host;
mod inspect;
mod item;
mod known;
mod layout;
mod log;
mod moves;
mod number;
mod pace;
mod partition;
mod patience;
mod plan;
mod progress;
mod range;
mod reading;
mod record;
mod settings;
mod snapshot;
mod target;
mod tombstone;

use std::sync::Arc;

use fides_core::Fault;
use fides_core::port::{Host, Target};

pub use crate::settings::{ContainerSettings, Settings};

/// A database as a host. Where its change feed is `followed`, snapshots have a position in it; elsewhere those that were
/// drawn for them.
///
/// Does not connect yet; faults as [`target`].
#[allow(clippy::unused_async)]
pub async fn host(settings: Settings, follows: bool) -> Result<Arc<dyn Host>, Fault> {
    Ok(Arc::new(host::CosmosHost::new(settings, follows)?))
}

/// A database as a target. A write that is not answered within `write_timeout_ms_max` is given up (L6).
///
/// Does not connect yet. An endpoint that makes no sense is a Permanent fault.
// The signature is asynchronous like those of all connectors; this one has nothing to wait for.
#[allow(clippy::unused_async)]
pub async fn target(settings: Settings, write_timeout_ms_max: u64) -> Result<Arc<dyn Target>, Fault> {
    Ok(Arc::new(target::CosmosTarget::new(settings, write_timeout_ms_max)?))
}
