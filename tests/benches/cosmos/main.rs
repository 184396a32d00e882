//! Writes into Cosmos DB: Fides beside the bare driver, and Fides under throttling beside what the account grants. Run by
//! `tests/bench/cosmos`; times are printed, never judged.

#![allow(clippy::unwrap_used)] // a benchmark fails where it stands

use std::collections::BTreeMap;
use std::io::{Read, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_core::credentials::Secret;
use azure_data_cosmos::clients::ContainerClient;
use azure_data_cosmos::models::{ContainerProperties, PartitionKeyDefinition};
use azure_data_cosmos::options::{BinaryEncodingOptions, Region};
use azure_data_cosmos::{AccountReference, CosmosClient, RoutingStrategy};
use bytes::Bytes;
use fides_connector_cosmos::Settings;
use fides_core::port::{Outcome, Sink, Target, Write};
use fides_core::{
    Change, Field, Fingerprint, Key, Kind, Lane, Limits, Namespace, Op, PipelineId, Shape, Value, Version, encode_row,
};
use fides_guard::{NoMeter, guard_target};
use futures::{StreamExt, stream};
use serde_json::{Value as Json, json};

const CONCURRENCY: usize = 32;
/// Changes of one write, as a consumer gathers them.
const BATCH: usize = 5_000;

fn url() -> String {
    std::env::var("FIDES_TEST_COSMOS_URL").expect("run by tests/bench/cosmos")
}

fn key() -> String {
    std::env::var("FIDES_TEST_COSMOS_KEY").expect("run by tests/bench/cosmos")
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn row(id: usize, round: u64) -> Vec<Value<'static>> {
    vec![
        Value::I64(i64::try_from(id).unwrap()),
        Value::String(format!("Stück № {id}").into()),
        Value::Decimal(format!("{}.{:02}", id / 100, id % 100).into()),
        Value::I64(i64::try_from(round).unwrap()),
        Value::Bool(id.is_multiple_of(3)),
        Value::Json(format!(r#"{{"größe": {}}}"#, id % 50).into()),
    ]
}

/// What the connector would send for a row.
fn document(id: usize, round: u64) -> Json {
    json!({ "id": id.to_string(), "name": format!("Stück № {id}"), "price": format!("{}.{:02}", id / 100, id % 100),
        "stock": round, "active": id.is_multiple_of(3), "attributes": { "größe": id % 50 },
        "_fides_key": format!("10{id:016x}"), "_fides_version": format!("{round:032x}") })
}

/// The bare driver: up to so many requests at the same time, nothing looked at.
async fn bare(container: &ContainerClient, documents: usize, round: u64) -> Duration {
    let start = Instant::now();
    stream::iter(0..documents)
        .map(|id| async move {
            let id_text = id.to_string();
            container.upsert_item(id_text.clone(), &id_text, document(id, round), None).await.unwrap();
        })
        .buffer_unordered(CONCURRENCY)
        .for_each(|()| async {})
        .await;
    start.elapsed()
}

struct Writer {
    target: Arc<dyn Target>,
    sink: Sink,
    shape: Shape,
    lane: Lane,
}

impl Writer {
    async fn new(database: &str, container: &str, limits: &Limits) -> Self {
        let settings = Settings {
            endpoint: url(),
            key: key().into(),
            database: database.to_owned(),
            regions: Vec::new(),
            containers: BTreeMap::new(),
            concurrency: u32::try_from(CONCURRENCY).unwrap(),
            request_units_per_second: None,
        };
        let target = fides_connector_cosmos::target(settings, limits.write_timeout_ms_max).await.unwrap();
        let pipeline = PipelineId::new("bench");
        let fields = [
            ("id", Kind::I64),
            ("name", Kind::String),
            ("price", Kind::Decimal),
            ("stock", Kind::I64),
            ("active", Kind::Bool),
            ("attributes", Kind::Json),
        ];
        let field = |(name, kind): (&str, Kind)| Field { name: name.to_owned(), kind };
        let writer = Self {
            target: guard_target("target", target, limits, Arc::new(NoMeter)),
            sink: Sink {
                pipeline: pipeline.clone(),
                namespace: Namespace(vec![container.to_owned()]),
                version_field: None,
            },
            shape: Shape { fields: fields.map(field).into(), key: vec![0] },
            lane: Lane { pipeline, index: 0 },
        };
        writer.target.prepare(&writer.sink, &writer.shape, true).await.unwrap();
        writer.target.claim(&writer.sink, &writer.lane, 1).await.unwrap();
        writer
    }

    /// Writes all, trying again what is left open as a lane does; how long it took, and how many rounds had such.
    async fn write(&self, documents: usize, round: u64) -> (Duration, usize) {
        let changes: Vec<Change> = (0..documents).map(|id| change(id, round)).collect();
        let write = Write { sink: &self.sink, shape: &self.shape, lane: &self.lane, token: 1 };
        let (start, mut left_open) = (Instant::now(), 0);
        for batch in changes.chunks(BATCH) {
            let mut open = batch.to_vec();
            while !open.is_empty() {
                let outcomes = self.target.apply(&write, &open).await;
                let is_open = |outcome: &Outcome| !matches!(outcome, Outcome::Applied | Outcome::Stale);
                open = open
                    .into_iter()
                    .zip(&outcomes)
                    .filter(|(_, outcome)| is_open(outcome))
                    .map(|(open, _)| open)
                    .collect();
                left_open += usize::from(!open.is_empty());
            }
        }
        (start.elapsed(), left_open)
    }
}

fn change(id: usize, round: u64) -> Change {
    let row = row(id, round);
    let mut document = Vec::new();
    encode_row(&mut document, &row);
    Change {
        key: Key::encode(&row[..1]).unwrap(),
        version: Version::scan(1, round),
        fingerprint: Some(Fingerprint(1)),
        op: Op::Upsert(Bytes::from(document)),
        forced: false,
    }
}

fn admin(method: &str, path: &str, body: &str) -> Json {
    let address = url().trim_start_matches("http://").trim_end_matches('/').to_owned();
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap_or(Json::Null)
}

#[allow(clippy::cast_precision_loss)]
fn per_second(documents: usize, took: Duration) -> f64 {
    documents as f64 / took.as_secs_f64()
}

#[tokio::main]
async fn main() {
    let documents = number("FIDES_BENCH_DOCUMENTS", 20_000);
    let units = number("FIDES_BENCH_UNITS", 4_000);
    let account = AccountReference::with_authentication_key(url().parse().unwrap(), Secret::new(key()));
    let client = CosmosClient::builder()
        .with_binary_encoding_options(BinaryEncodingOptions::new().with_enabled(false))
        .build(account, RoutingStrategy::PreferredRegions(Vec::<Region>::new()))
        .await
        .unwrap();
    let limits = Limits::default();

    println!("{documents} documents, {CONCURRENCY} requests at the same time, the same emulator\n");
    println!("{:<34} {:>12} {:>12} {:>8}", "", "bare driver", "Fides", "share");
    for round in 0..3u64 {
        let database = format!("bench-{}-{round}", std::process::id());
        client.create_database(&database, None).await.unwrap();
        let properties = ContainerProperties::new("bare", PartitionKeyDefinition::new(vec!["/id".into()]));
        let client = client.database_client(database.as_str());
        client.create_container(properties, None).await.unwrap();
        let container = client.container_client("bare", None).await.unwrap();
        let writer = Writer::new(&database, "fides", &limits).await;
        for (what, round) in [("new documents per second", 1), ("changed documents per second", 2)] {
            let bare = per_second(documents, bare(&container, documents, round).await);
            let fides = per_second(documents, writer.write(documents, round).await.0);
            println!("{what:<34} {bare:>12.0} {fides:>12.0} {:>7.0}%", 100.0 * fides / bare);
        }
    }

    let database = format!("bench-{}-throttled", std::process::id());
    let writer = Writer::new(&database, "fides", &limits).await;
    let scope = json!({ "database": database, "ru_per_second": units }).to_string();
    admin("POST", "/__throttle", &scope);
    let rule = json!({ "database": database, "operations": ["create", "replace"], "status": 429, "substatus": 3200,
        "retry_after_ms": 5, "every": 2 });
    admin("POST", "/__faults", &rule.to_string());
    let stats = |name: &str| admin("GET", &format!("/__stats?database={database}"), "")[name].as_f64().unwrap();
    let (spent, throttled) = (stats("request_units"), stats("throttled"));
    let throttled_documents = documents / 4;
    let (took, left_open) = writer.write(throttled_documents, 1).await;
    let (spent, throttled) = (stats("request_units") - spent, stats("throttled") - throttled);
    println!("\n429 on every second write, {units} request units per second granted, {throttled_documents} documents");
    println!("  used      {:>10.0} request units per second", spent / took.as_secs_f64());
    println!("  written   {:>10.0} documents per second", per_second(throttled_documents, took));
    println!(
        "  granted   {:>10.0} documents per second",
        per_second(throttled_documents, took) * f64::from(u32::try_from(units).unwrap()) / (spent / took.as_secs_f64())
    );
    println!("  {throttled:.0} answers were 429; {left_open} writes came back to their lane; nothing is left");
}
