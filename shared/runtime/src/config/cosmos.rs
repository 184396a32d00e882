//! Azure Cosmos DB: an account, a database in it, and how its containers are made.

use super::collection::{NameRule, Named, Names, complete};
use super::events::{Secret, SecretFile};
use super::fields::{Fields, Section, section};
use super::form::{Definitions, Form, Reading};
use super::model::{Cosmos, CosmosContainer};
use super::node::Node;
use super::scalar::{Number, Text, Word};

impl Section for Cosmos {
    const NAME: &'static str = "cosmos";
    const ABOUT: &'static str = "an Azure Cosmos DB account, by its API for NoSQL";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        fields.required("kind", "the kind of store", Word(&[("cosmos", ())]));
        let about = "https://ACCOUNT.documents.azure.com:443/; http for an emulator on this machine only";
        let endpoint = fields.required("endpoint", about, Endpoint);
        let key = fields.optional("key", "a key of the account: ${COSMOS_KEY}", Secret("a key of the account"));
        let file = fields.optional("key_file", "a file that holds the key", SecretFile);
        let one = fields.exactly_one(&["key", "key_file"]);
        let database = fields.required("database", "the database", Text("the name of a database"));
        let about = "regions to use, the preferred one first; else those of the account";
        let regions = fields.optional("regions", about, Names("a region, as West Europe"));
        let about = "requests at the same time";
        let concurrency = fields.defaulted("concurrency", about, Number(1..=512), "32");
        let about = "request units that may be used in a second; else as many as the account grants";
        let units = fields.optional("request_units_per_second", about, Number(1..=10_000_000));
        let containers =
            Named { names: NameRule::Field, of: section::<CosmosContainer>(), expected: "containers by their names" };
        let about = "how containers are made that are not there yet, by name";
        let containers = fields.optional("containers", about, containers);
        one?;
        Some(Self {
            endpoint: endpoint?,
            key: key?.or(file?)?,
            database: database?,
            regions: regions?.unwrap_or_default(),
            containers: complete(containers?.unwrap_or_default())?.into_iter().collect(),
            concurrency: concurrency?,
            request_units_per_second: units?,
        })
    }
}

impl Section for CosmosContainer {
    const NAME: &'static str = "cosmosContainer";
    const ABOUT: &'static str = "how a container is made that is not there yet";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let about = "paths of its partition key, up to three, as /region; else /id";
        let partition_key = fields.optional("partition_key", about, Names("a path, as /region"));
        let about = "what is unique within a partition key: each item a path, or several joined by commas";
        let unique = fields.optional("unique", about, Names("a path, as /number, or several joined by commas"));
        let about = "its own request units per second; else it shares those of the database";
        let throughput = fields.optional("throughput", about, Number(400..=1_000_000));
        let split = |paths: String| paths.split(',').map(|path| path.trim().to_owned()).collect();
        Some(Self {
            partition_key: partition_key?.unwrap_or_default(),
            unique: unique?.unwrap_or_default().into_iter().map(split).collect(),
            throughput: throughput?,
        })
    }
}

/// The address of an account. It holds no secret.
struct Endpoint;

const ENDPOINT: &str = "an endpoint, as https://ACCOUNT.documents.azure.com:443/";

impl Form for Endpoint {
    type Value = String;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<String> {
        let text = reading.text(node, ENDPOINT)?;
        let is_url = text.starts_with("https://") || text.starts_with("http://");
        if is_url { Some(text) } else { reading.refuse(node, ENDPOINT) }
    }

    fn schema(&self, _: &mut Definitions) -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": "^https?://" })
    }
}
