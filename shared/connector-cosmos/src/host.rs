//! Cosmos DB as the store that is followed.

use std::sync::Arc;

use async_trait::async_trait;
use azure_data_cosmos::models::ContainerProperties;
use fides_core::port::{Concern, Host, Lineage, Opened, Snapshot};
use fides_core::{Fault, Kind, Namespace, PipelineId, Selection, Table, Version};
use futures::TryStreamExt;

use crate::account::{Account, REQUEST_MS_MAX};
use crate::clock::{Clock, SKEW_SECONDS, position};
use crate::condition::{Keying, Sql, is_plain};
use crate::container::Container;
use crate::fault::fault;
use crate::layout::{GONE, RESERVED};
use crate::pace::Pace;
use crate::reading::Reading;
use crate::settings::Settings;
use crate::snapshot::CosmosSnapshot;
use crate::{describe, log};

/// Documents that tell what fields a container has.
const SAMPLE: usize = 200;

pub(crate) struct CosmosHost {
    account: Arc<Account>,
    pace: Arc<Pace>,
    /// Whether anybody follows the change feed, and needs snapshots that have a position in it.
    follows: bool,
}

impl CosmosHost {
    pub fn new(settings: Settings, follows: bool) -> Result<Self, Fault> {
        let pace = Arc::new(Pace::new(settings.request_units_per_second));
        Ok(Self { account: Account::new(settings, REQUEST_MS_MAX)?, pace, follows })
    }

    /// A selection that can be read: its container is there, and each part of the key is of one type in all documents.
    async fn reading(&self, selection: &Selection) -> Result<Reading, Fault> {
        let namespace = &selection.namespace;
        if let Some(include) = selection.includes.first() {
            return Err(Fault::permanent(format!("container {namespace}: include {} cannot be read", include.name))
                .advise("documents nest what belongs to them; Cosmos DB joins no containers"));
        }
        if let Some(field) = selection.key.iter().find(|field| !is_plain(field)) {
            return Err(Fault::permanent(format!(
                "container {namespace}: key field {field} cannot be ordered by: it is a word of Cosmos DB's query \
                 language, or has other characters than letters, digits and underscores"
            ))
            .advise("choose another `key`, such as id where ids differ over all partitions"));
        }
        let container = Container::open(&self.account, &self.pace, namespace).await?.ok_or_else(|| {
            Fault::permanent(format!("there is no container {namespace}"))
                .advise("check the names in the configuration")
        })?;
        let reading = Reading {
            container: Arc::new(container),
            selection: selection.clone(),
            keying: Keying::Fields(selection.key.clone()),
        };
        self.refuse_mixed_keys(&reading).await?;
        Ok(reading)
    }

    /// L8: comparisons find values of one JSON type only, so that a scan of ranges would miss a record whose key is of
    /// another type, null or missing, and take it for gone.
    async fn refuse_mixed_keys(&self, reading: &Reading) -> Result<(), Fault> {
        let namespace = &reading.selection.namespace;
        for field in reading.selection.key.iter().filter(|field| *field != "id") {
            let column = reading.selection.columns.iter().find(|column| column.name == *field);
            let types = json_types(column.map_or(Kind::Any, |column| column.kind));
            if !is_of_one(reading, field, types).await? {
                let names: Vec<&str> = types.iter().map(|(_, name)| *name).collect();
                return Err(Fault::permanent(format!(
                    "key field {namespace}.{field} is null or missing in a document, or not a {} as in the others",
                    names.join(" or ")
                ))
                .advise("choose key fields that every document has, with values of one type"));
            }
        }
        Ok(())
    }
}

/// What a key column of a kind may be in JSON: how a query asks for it, and its name.
fn json_types(kind: Kind) -> &'static [(&'static str, &'static str)] {
    const TYPES: [(&str, &str); 3] = [("IS_NUMBER", "number"), ("IS_STRING", "string"), ("IS_BOOL", "boolean")];
    match kind {
        Kind::Any | Kind::Json => &TYPES,
        Kind::I64 | Kind::U64 | Kind::F64 => &TYPES[..1],
        Kind::Bool => &TYPES[2..],
        _ => &TYPES[1..2],
    }
}

/// Whether a field has one of these types in all documents.
async fn is_of_one(reading: &Reading, field: &str, types: &[(&str, &str)]) -> Result<bool, Fault> {
    let (path, gone) = (crate::condition::path(field), crate::condition::path(GONE));
    for (is_type, _) in types {
        let text = format!("SELECT TOP 1 c.id FROM c WHERE NOT {is_type}({path}) AND NOT IS_DEFINED({gone})");
        if reading.items(Sql::new(text), 1).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[async_trait]
impl Host for CosmosHost {
    async fn namespaces(&self) -> Result<Vec<Namespace>, Fault> {
        let what = format!("listing the containers of {}", self.account.settings.database);
        let database = self.account.database().await?;
        let found = database.query_containers("SELECT * FROM c", None).await.map_err(|error| fault(&what, &error))?;
        let found: Vec<ContainerProperties> = found.try_collect().await.map_err(|error| fault(&what, &error))?;
        let mut names: Vec<Namespace> =
            found.into_iter().map(|container| Namespace(vec![container.id.into_owned()])).collect();
        names.sort_unstable();
        Ok(names)
    }

    async fn describe(&self, namespace: &Namespace) -> Result<Option<Table>, Fault> {
        let container = Container::open(&self.account, &self.pace, namespace).await?;
        match container {
            Some(container) => describe::describe(container, namespace, SAMPLE).await.map(Some),
            None => Ok(None),
        }
    }

    async fn lineage(&self) -> Result<Lineage, Fault> {
        Ok(Lineage(if self.follows {
            format!("cosmos:feed:{}", self.account.url().host_str().unwrap_or_default())
        } else {
            "cosmos:drawn".to_owned()
        }))
    }

    async fn snapshot(&self, selection: &Selection, drawn: Version) -> Result<Arc<dyn Snapshot>, Fault> {
        let version = if self.follows {
            // L1: the time is asked for before anything is read.
            let clock = Clock::ask(&self.account).await?;
            Version::scan(drawn.epoch, position(clock.now().saturating_sub(SKEW_SECONDS)))
        } else {
            drawn
        };
        let reading = self.reading(selection).await?;
        Ok(Arc::new(CosmosSnapshot { reading, version }))
    }

    async fn log(&self, selection: &Selection, _reader: &PipelineId, after: Option<u64>) -> Result<Opened, Fault> {
        if !self.follows {
            return Err(Fault::permanent("this host's snapshots have no position in its change feed")
                .advise("open it as one that is followed"));
        }
        log::open(&self.account, self.reading(selection).await?, after).await
    }

    async fn check_log(&self, selection: &Selection, _reader: &PipelineId) -> Result<Vec<Concern>, Fault> {
        let namespace = &selection.namespace;
        let mut concerns = vec![Concern {
            stops: false,
            what: format!("the change feed of container {namespace} does not tell of deletions"),
            mend: Some("a `cleanup` schedule finds them".to_owned()),
        }];
        if selection.columns.iter().any(|column| RESERVED.contains(&column.name.as_str())) {
            concerns.push(Concern {
                stops: false,
                what: format!("the mapping reads a field of container {namespace} that changes with every write"),
                mend: None,
            });
        }
        Ok(concerns)
    }
}
