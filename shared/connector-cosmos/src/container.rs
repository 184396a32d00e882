//! One container: what it is defined as, and its client.

use std::sync::Arc;
use std::time::Duration;

use azure_data_cosmos::clients::{ContainerClient, DatabaseClient};
use azure_data_cosmos::models::{
    ContainerProperties, IndexingPolicy, PartitionKeyDefinition, ThroughputProperties, TimeToLive, UniqueKey,
    UniqueKeyPolicy,
};
use azure_data_cosmos::options::CreateContainerOptions;
use fides_core::{Fault, Namespace};
use tokio::time::Instant;

use crate::account::Account;
use crate::fault::{fault, is_missing, status};
use crate::pace::Pace;
use crate::partition::Path;
use crate::settings::ContainerSettings;

/// What a container is, as far as it matters to a writer.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    /// Names this container and no other of the same name.
    pub rid: String,
    /// Paths of the partition key.
    pub paths: Vec<Path>,
    /// Paths of unique keys.
    pub unique: Vec<Path>,
    /// Whether documents expire that say so.
    pub expires: bool,
    /// Whether all documents expire.
    pub all_expire: bool,
}

/// A container and its client.
#[derive(Clone)]
pub(crate) struct Container {
    pub client: ContainerClient,
    pub definition: Definition,
    pub name: String,
    pub pace: Arc<Pace>,
    /// How long reading or writing one item may take, with all that the driver does for it.
    pub item_max: Duration,
    /// Until when reading or writing one item is tried again that is answered 429; not at all when absent.
    pub patient_until: Option<Instant>,
}

/// The database and the container that a namespace names; the database is that of the settings where it names none.
pub(crate) fn place<'a>(account: &'a Account, namespace: &'a Namespace) -> Result<(&'a str, &'a str), Fault> {
    match &namespace.0[..] {
        [container] => Ok((&account.settings.database, container)),
        [database, container] => Ok((database, container)),
        _ => Err(Fault::permanent(format!("{namespace} names no container"))
            .advise("expected: container, or database.container")),
    }
}

async fn database(account: &Account, namespace: &Namespace) -> Result<DatabaseClient, Fault> {
    let (database, _) = place(account, namespace)?;
    Ok(account.client().await?.database_client(database))
}

impl Container {
    /// Opens a container; `None` when it, or its database, does not exist.
    pub async fn open(account: &Account, pace: &Arc<Pace>, namespace: &Namespace) -> Result<Option<Self>, Fault> {
        let (_, name) = place(account, namespace)?;
        let what = || format!("reading container {namespace}");
        let client = match database(account, namespace).await?.container_client(name, None).await {
            Ok(client) => client,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(fault(&what(), &error)),
        };
        let properties = match client.read(None).await {
            Ok(response) => response.into_model().map_err(|error| fault(&what(), &error))?,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(fault(&what(), &error)),
        };
        Ok(Some(Self {
            client,
            definition: definition(&properties),
            name: name.to_owned(),
            pace: pace.clone(),
            item_max: account.item_max(),
            patient_until: None,
        }))
    }

    /// The same, more patient.
    pub fn patient(&self, end: Instant) -> Self {
        Self { patient_until: Some(end), ..self.clone() }
    }

    /// Opens a container that has to be there. Unavailable, not Permanent: no record is to blame when it is gone.
    pub async fn require(account: &Account, pace: &Arc<Pace>, namespace: &Namespace) -> Result<Self, Fault> {
        let missing = || {
            Fault::unavailable(format!("container {namespace} does not exist"))
                .advise("create it, or set `create: true`")
        };
        Self::open(account, pace, namespace).await?.ok_or_else(missing)
    }

    /// Makes a container, and its database where it is missing. One that somebody made meanwhile is taken as it is.
    pub async fn make(account: &Account, namespace: &Namespace, like: &ContainerSettings) -> Result<(), Fault> {
        let (database_name, name) = place(account, namespace)?;
        let what = format!("creating container {namespace}");
        match account.client().await?.create_database(database_name, None).await {
            Err(error) if status(&error).0 != 409 => return Err(fault(&what, &error)),
            _ => {}
        }
        let options = like.throughput.map(|throughput| {
            CreateContainerOptions::default().with_throughput(ThroughputProperties::manual(throughput.into()))
        });
        match database(account, namespace).await?.create_container(properties(name, like), options).await {
            Err(error) if status(&error).0 != 409 => Err(fault(&what, &error)),
            _ => Ok(()),
        }
    }
}

fn properties(name: &str, like: &ContainerSettings) -> ContainerProperties {
    let paths = if like.partition_key.is_empty() { vec!["/id".to_owned()] } else { like.partition_key.clone() };
    let paths = paths.into_iter().map(Into::into).collect();
    // Documents that say so expire: tombstones.
    let properties = ContainerProperties::new(name.to_owned(), PartitionKeyDefinition::new(paths))
        .with_default_ttl(TimeToLive::NoDefault)
        .with_indexing_policy(IndexingPolicy::default().with_included_path("/*"));
    if like.unique.is_empty() {
        return properties;
    }
    let key = |paths: &Vec<String>| paths.iter().fold(UniqueKey::default(), |key, path| key.with_path(path.clone()));
    let policy = like.unique.iter().map(key).fold(UniqueKeyPolicy::default(), UniqueKeyPolicy::with_unique_key);
    properties.with_unique_key_policy(policy)
}

fn definition(properties: &ContainerProperties) -> Definition {
    let unique = properties.unique_key_policy.iter().flat_map(|policy| &policy.unique_keys);
    Definition {
        rid: properties.system_properties.resource_id.clone().unwrap_or_default(),
        paths: properties.partition_key.paths().iter().map(|path| Path::parse(path)).collect(),
        unique: unique.flat_map(|key| &key.paths).map(|path| Path::parse(path)).collect(),
        expires: properties.default_ttl != TimeToLive::Forever,
        all_expire: matches!(properties.default_ttl, TimeToLive::Seconds(_)),
    }
}
