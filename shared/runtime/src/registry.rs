//! The connectors: one line each for a host and a target. Adding one touches its own folder and this file.

use std::path::Path;
use std::sync::Arc;

use fides_core::port::{Host, Target};
use fides_core::{Fault, Limits, Selection};
use secrecy::ExposeSecret;

use crate::config::Store;

/// A writer, and readers beside it.
const SQLITE_CONNECTIONS: u32 = 4;

/// Opens a store as a host. Where its log is followed, snapshots have a position in it (DESIGN §5).
pub(crate) async fn host(store: &Store, follows: bool) -> Result<Arc<dyn Host>, Fault> {
    match store {
        #[cfg(feature = "cosmos")]
        Store::Cosmos(cosmos) => fides_connector_cosmos::host(settings(cosmos), follows).await,
        #[cfg(feature = "sqlite")]
        Store::Sqlite { path } => fides_connector_sqlite::host(path, SQLITE_CONNECTIONS, follows).await,
        #[cfg(feature = "postgres")]
        Store::Postgres { url, connections } => {
            fides_connector_postgres::host(url.expose_secret(), *connections, follows).await
        }
        #[cfg(feature = "mysql")]
        Store::MySql { url, connections } => {
            fides_connector_mysql::host(url.expose_secret(), *connections, follows).await
        }
        #[allow(unreachable_patterns)]
        _ => Err(not_built()),
    }
}

/// Opens a store as a target.
pub(crate) async fn target(store: &Store, limits: &Limits) -> Result<Arc<dyn Target>, Fault> {
    match store {
        #[cfg(feature = "cosmos")]
        Store::Cosmos(cosmos) => fides_connector_cosmos::target(settings(cosmos), limits.write_timeout_ms_max).await,
        #[cfg(feature = "sqlite")]
        Store::Sqlite { path } => fides_connector_sqlite::target(path, SQLITE_CONNECTIONS).await,
        #[cfg(feature = "postgres")]
        Store::Postgres { url, connections } => {
            fides_connector_postgres::target(url.expose_secret(), *connections, limits.write_timeout_ms_max).await
        }
        #[cfg(feature = "mysql")]
        Store::MySql { url, connections } => {
            fides_connector_mysql::target(url.expose_secret(), *connections, limits.write_timeout_ms_max).await
        }
        #[allow(unreachable_patterns)]
        _ => Err(not_built()),
    }
}

/// Makes what tells of a SQLite file's changes; see [`fides_connector_sqlite::install_outbox`].
pub(crate) async fn install_outbox(path: &Path, selections: &[Selection]) -> Result<Vec<String>, Fault> {
    #[cfg(feature = "sqlite")]
    return fides_connector_sqlite::install_outbox(path, selections).await;
    #[cfg(not(feature = "sqlite"))]
    Err(not_built())
}

/// Removes what tells of a SQLite file's changes; whether there was anything.
pub(crate) async fn remove_outbox(path: &Path) -> Result<bool, Fault> {
    #[cfg(feature = "sqlite")]
    return fides_connector_sqlite::remove_outbox(path).await;
    #[cfg(not(feature = "sqlite"))]
    Err(not_built())
}

#[cfg(feature = "cosmos")]
fn settings(cosmos: &crate::config::Cosmos) -> fides_connector_cosmos::Settings {
    let container = |like: &crate::config::CosmosContainer| fides_connector_cosmos::ContainerSettings {
        partition_key: like.partition_key.clone(),
        unique: like.unique.clone(),
        throughput: like.throughput,
    };
    fides_connector_cosmos::Settings {
        endpoint: cosmos.endpoint.clone(),
        key: cosmos.key.clone(),
        database: cosmos.database.clone(),
        regions: cosmos.regions.clone(),
        containers: cosmos.containers.iter().map(|(name, like)| (name.clone(), container(like))).collect(),
        concurrency: cosmos.concurrency,
        request_units_per_second: cosmos.request_units_per_second,
    }
}

fn not_built() -> Fault {
    Fault::permanent("this kind of store is not part of this build")
        .advise("build it with its Cargo feature, as `--features mysql`")
}
