//! A database of a test's own in Microsoft's in-memory emulator of Cosmos DB, and what its server breaks.

use std::io::{Read, Write};
use std::net::TcpStream;

use azure_core::credentials::Secret;
use azure_data_cosmos::clients::ContainerClient;
use azure_data_cosmos::models::{ContainerProperties, PartitionKeyDefinition};
use azure_data_cosmos::options::{BinaryEncodingOptions, ConnectionPoolOptions, Region};
use azure_data_cosmos::{AccountReference, CosmosClient, CosmosRuntime, RoutingStrategy};
use serde_json::{Value, json};

use crate::stand::{Stand, variable};

pub struct Emulator {
    pub database: String,
}

impl Emulator {
    /// Points the stand at a database of the emulator: its orders become documents there, in partitions of their region.
    pub fn target_of(stand: &Stand) -> Self {
        let emulator = Self { database: stand.pipeline.clone() };
        let target = emulator.store("target", ", containers: { orders: { partition_key: [/region] } }");
        rewrite(stand, |line| match line.trim_start() {
            said if said.starts_with("target: { kind: postgres") => target.clone(),
            "from: items" => line.replace("items", "orders"),
            "into: public.copy" => line.replace("public.copy", "orders"),
            _ => line.to_owned(),
        });
        emulator
    }

    /// Makes a container `items` in a database of the emulator the stand's host.
    pub async fn host_of(stand: &Stand) -> Self {
        let emulator = Self { database: stand.pipeline.clone() };
        let host = emulator.store("host", "");
        rewrite(stand, |line| match line.trim_start() {
            said if said.starts_with("host: { kind: postgres") => host.clone(),
            _ => line.to_owned(),
        });
        let client = client().await;
        client.create_database(&emulator.database, None).await.unwrap();
        let properties = ContainerProperties::new("items", PartitionKeyDefinition::new(vec!["/id".into()]));
        client.database_client(emulator.database.as_str()).create_container(properties, None).await.unwrap();
        emulator
    }

    fn store(&self, name: &str, more: &str) -> String {
        let (url, key) = (url(), variable("FIDES_TEST_COSMOS_KEY", "cosmos"));
        let database = &self.database;
        format!("  {name}: {{ kind: cosmos, endpoint: \"{url}\", key: \"{key}\", database: {database}{more} }}")
    }

    /// The container that is the stand's host.
    pub async fn items(&self) -> ContainerClient {
        let database = client().await.database_client(self.database.as_str());
        database.container_client("items", None).await.unwrap()
    }

    /// Breaks what the rule says, in this database only.
    pub fn breaks(&self, mut rule: Value) {
        rule["database"] = json!(self.database);
        admin("POST", "/__faults", &rule.to_string());
    }

    /// How often each rule fired.
    pub fn fired(&self) -> Vec<u64> {
        let rules = admin("GET", &format!("/__faults?database={}", self.database), "");
        rules.as_array().unwrap().iter().map(|rule| rule["fired"].as_u64().unwrap()).collect()
    }

    /// Grants so many request units per second.
    pub fn grants(&self, ru_per_second: u32) {
        admin("POST", "/__throttle", &json!({ "database": self.database, "ru_per_second": ru_per_second }).to_string());
    }

    pub fn stats(&self) -> Value {
        admin("GET", &format!("/__stats?database={}", self.database), "")
    }
}

/// The stand's configuration with other lines.
fn rewrite(stand: &Stand, line: impl Fn(&str) -> String) {
    let text = std::fs::read_to_string(&stand.config).unwrap();
    let lines: Vec<String> = text.lines().map(line).collect();
    std::fs::write(&stand.config, lines.join("\n") + "\n").unwrap();
}

/// The driver, past Fides.
async fn client() -> CosmosClient {
    let key = Secret::new(variable("FIDES_TEST_COSMOS_KEY", "cosmos"));
    let account = AccountReference::with_authentication_key(url().parse().unwrap(), key);
    // The emulator speaks HTTP/1.1.
    let pool = ConnectionPoolOptions::builder().with_is_http2_allowed(false).build().unwrap();
    CosmosClient::builder()
        .with_runtime(CosmosRuntime::builder().with_connection_pool(pool).build().await.unwrap())
        .with_binary_encoding_options(BinaryEncodingOptions::new().with_enabled(false))
        .build(account, RoutingStrategy::PreferredRegions(Vec::<Region>::new()))
        .await
        .unwrap()
}

fn url() -> String {
    variable("FIDES_TEST_COSMOS_URL", "cosmos")
}

/// One request to the server's own surface.
fn admin(method: &str, path: &str, body: &str) -> Value {
    let url = url();
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
    serde_json::from_str(body).unwrap_or(Value::Null)
}
