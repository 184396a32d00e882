//! Where a database is, and how its containers are made.

use std::collections::BTreeMap;

use secrecy::SecretString;

/// An account, a database in it, and what its containers are like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `https://ACCOUNT.documents.azure.com:443/`; `http` on loopback only.
    pub endpoint: String,
    /// The account's key. It is never printed.
    pub key: SecretString,
    /// The database.
    pub database: String,
    /// Regions to use, the preferred first; those of the account, in its order, when empty.
    pub regions: Vec<String>,
    /// How containers are made, by name.
    pub containers: BTreeMap<String, ContainerSettings>,
    /// Requests at the same time.
    pub concurrency: u32,
    /// Request units that may be used in a second; as many as the account grants when absent.
    pub request_units_per_second: Option<u32>,
}

/// How a container is made that is not there yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSettings {
    /// Paths of its partition key (`/region`), up to three; `/id` when empty.
    pub partition_key: Vec<String>,
    /// Sets of paths that are unique within a partition key.
    pub unique: Vec<Vec<String>>,
    /// Request units per second; those of the database when absent.
    pub throughput: Option<u32>,
}
