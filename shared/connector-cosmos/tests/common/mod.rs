//! A database of a test's own in the emulator, and what the test server breaks in it.

#![allow(dead_code, clippy::unwrap_used)] // each test binary uses its part; all of it is test

use std::collections::BTreeMap;
use std::io::{Read, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use azure_core::credentials::Secret;
use azure_data_cosmos::clients::{ContainerClient, DatabaseClient};
use azure_data_cosmos::models::{ContainerProperties, PartitionKeyDefinition, TimeToLive, UniqueKey, UniqueKeyPolicy};
use azure_data_cosmos::options::{BinaryEncodingOptions, ConnectionPoolOptions, Region};
use azure_data_cosmos::{AccountReference, CosmosClient, CosmosRuntime, FeedScope, RoutingStrategy};
use bytes::Bytes;
use fides_connector_cosmos::{ContainerSettings, Settings};
use fides_core::port::{Outcome, Sink, Target, Write};
use fides_core::{Change, Fingerprint, Key, Kind, Lane, Namespace, Op, PipelineId, Shape, Value, Version, encode_row};
use futures::TryStreamExt;
use serde_json::{Value as Json, json};

pub struct Database {
    pub name: String,
    pub client: DatabaseClient,
}

pub fn url() -> String {
    std::env::var("FIDES_TEST_COSMOS_URL").expect("run by tests/parts/cosmos: FIDES_TEST_COSMOS_URL is not set")
}

fn key() -> String {
    std::env::var("FIDES_TEST_COSMOS_KEY").expect("run by tests/parts/cosmos: FIDES_TEST_COSMOS_KEY is not set")
}

impl Database {
    pub async fn create() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let account = AccountReference::with_authentication_key(url().parse().unwrap(), Secret::new(key()));
        // The emulator speaks HTTP/1.1.
        let pool = ConnectionPoolOptions::builder().with_is_http2_allowed(false).build().unwrap();
        let runtime = CosmosRuntime::builder().with_connection_pool(pool).build().await.unwrap();
        let client = CosmosClient::builder()
            .with_runtime(runtime)
            .with_binary_encoding_options(BinaryEncodingOptions::new().with_enabled(false))
            .build(account, RoutingStrategy::PreferredRegions(Vec::<Region>::new()))
            .await
            .unwrap();
        client.create_database(&name, None).await.unwrap();
        Self { client: client.database_client(name.as_str()), name }
    }

    pub fn settings(&self) -> Settings {
        Settings {
            endpoint: url(),
            key: key().into(),
            database: self.name.clone(),
            regions: Vec::new(),
            containers: BTreeMap::new(),
            concurrency: 32,
            request_units_per_second: None,
        }
    }

    /// With containers that are made with these partition keys.
    pub fn settings_with(&self, partition_keys: &[(&str, &str)]) -> Settings {
        let container = |path: &str| ContainerSettings { partition_key: vec![path.to_owned()], ..Default::default() };
        let containers = partition_keys.iter().map(|(name, path)| ((*name).to_owned(), container(path))).collect();
        Settings { containers, ..self.settings() }
    }

    /// A container, past the connector.
    pub async fn container(&self, name: &str, partition_key: &str, unique: &[&str]) {
        let definition = PartitionKeyDefinition::new(vec![partition_key.to_owned().into()]);
        let mut properties =
            ContainerProperties::new(name.to_owned(), definition).with_default_ttl(TimeToLive::NoDefault);
        if !unique.is_empty() {
            let key = |path: &&str| UniqueKey::default().with_path(*path);
            let policy = unique.iter().map(key).fold(UniqueKeyPolicy::default(), UniqueKeyPolicy::with_unique_key);
            properties = properties.with_unique_key_policy(policy);
        }
        self.client.create_container(properties, None).await.unwrap();
    }

    /// Fides' own container.
    pub async fn own(&self) {
        self.container("_fides", "/id", &[]).await;
    }

    pub async fn open(&self, name: &str) -> ContainerClient {
        self.client.container_client(name, None).await.unwrap()
    }

    /// All items of a container, tombstones among them.
    pub async fn items(&self, name: &str) -> Vec<Json> {
        let found =
            self.open(name).await.query_items::<Json>("SELECT * FROM c", FeedScope::full_container(), None).await;
        found.unwrap().try_collect().await.unwrap()
    }

    /// The items of a container that are no tombstones.
    pub async fn documents(&self, name: &str) -> Vec<Json> {
        self.items(name).await.into_iter().filter(|item| item.get("_fides_gone").is_none()).collect()
    }

    /// Breaks what the rule says, in this database only.
    pub fn fault(&self, mut rule: Json) {
        rule["database"] = json!(self.name);
        admin("POST", "/__faults", &rule.to_string());
    }

    pub fn mend(&self) {
        admin("DELETE", &format!("/__faults?database={}", self.name), "");
    }

    /// How often each rule fired.
    pub fn fired(&self) -> Vec<u64> {
        let rules = admin("GET", &format!("/__faults?database={}", self.name), "");
        rules.as_array().unwrap().iter().map(|rule| rule["fired"].as_u64().unwrap()).collect()
    }

    pub fn throttle(&self, ru_per_second: u32) {
        admin("POST", "/__throttle", &json!({ "database": self.name, "ru_per_second": ru_per_second }).to_string());
    }

    /// Splits a range of a container; they are numbered from 0, in their order at first.
    pub fn split(&self, container: &str, range: u32) {
        let split = json!({ "database": self.name, "container": container, "range": range });
        admin("POST", "/__split", &split.to_string());
    }

    pub fn stats(&self) -> Json {
        admin("GET", &format!("/__stats?database={}", self.name), "")
    }
}

/// One request to the server's own surface, which no driver knows.
fn admin(method: &str, path: &str, body: &str) -> Json {
    let address = url().trim_start_matches("http://").trim_end_matches('/').to_owned();
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
    serde_json::from_str(body).unwrap_or(Json::Null)
}

/// Who writes one container.
pub struct Writer {
    pub target: Arc<dyn Target>,
    pub sink: Sink,
    pub shape: Shape,
    pub lane: Lane,
    pub token: u64,
}

impl Writer {
    /// A writer whose key is the first field.
    pub async fn new(settings: Settings, container: &str, fields: &[(&str, Kind)]) -> Self {
        let pipeline = PipelineId::new("p");
        let field = |(name, kind): &(&str, Kind)| fides_core::Field { name: (*name).to_owned(), kind: *kind };
        Self {
            target: fides_connector_cosmos::target(settings, 20_000).await.unwrap(),
            sink: Sink {
                pipeline: pipeline.clone(),
                namespace: Namespace(vec![container.to_owned()]),
                version_field: None,
            },
            shape: Shape { fields: fields.iter().map(field).collect(), key: vec![0] },
            lane: Lane { pipeline, index: 0 },
            token: 1,
        }
    }

    pub async fn ready(self) -> Self {
        self.target.prepare(&self.sink, &self.shape, true).await.unwrap();
        self.claimed(1).await
    }

    pub async fn claimed(mut self, token: u64) -> Self {
        self.target.claim(&self.sink, &self.lane, token).await.unwrap();
        self.token = token;
        self
    }

    pub async fn apply(&self, changes: &[Change]) -> Vec<Outcome> {
        let write = Write { sink: &self.sink, shape: &self.shape, lane: &self.lane, token: self.token };
        let outcomes = self.target.apply(&write, changes).await;
        assert_eq!(outcomes.len(), changes.len());
        outcomes
    }

    /// Applies and expects that all of it was written.
    pub async fn write(&self, changes: &[Change]) {
        for (change, outcome) in changes.iter().zip(self.apply(changes).await) {
            assert!(matches!(outcome, Outcome::Applied), "{}: {outcome:?}", change.key);
        }
    }

    pub async fn obstacles(&self, create: bool) -> Vec<String> {
        let found = self.target.inspect(&self.sink, &self.shape, create).await.unwrap();
        found.into_iter().map(|obstacle| obstacle.what).collect()
    }
}

pub fn upsert(position: u64, row: &[Value<'static>]) -> Change {
    let mut document = Vec::new();
    encode_row(&mut document, row);
    Change {
        key: Key::encode(&row[..1]).unwrap(),
        version: Version::scan(1, position),
        fingerprint: Some(Fingerprint(u128::from(position))),
        op: Op::Upsert(Bytes::from(document)),
        forced: false,
    }
}

pub fn delete(position: u64, key: Value<'static>) -> Change {
    Change {
        key: Key::encode(&[key]).unwrap(),
        version: Version::scan(1, position),
        fingerprint: None,
        op: Op::Delete,
        forced: false,
    }
}

pub fn text(text: &str) -> Value<'static> {
    Value::String(text.to_owned().into())
}

pub fn fault(outcome: &Outcome) -> &fides_core::Fault {
    match outcome {
        Outcome::Failed(fault) => fault,
        other => panic!("{other:?} where a failure was expected"),
    }
}
