//! Writes into Cosmos DB: Fides beside the bare driver, and Fides under throttling beside what the account grants. Run by
//! `tests/bench/cosmos`; times are printed, never judged.

#![allow(clippy::unwrap_used)] // a benchmark fails where it stands

use std::collections::BTreeMap;
use std::io::{Read, Write as _};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use azure_core::credentials::Secret;
use azure_data_cosmos::clients::ContainerClient;
use azure_data_cosmos::models::{ContainerProperties, PartitionKeyDefinition};
use azure_data_cosmos::options::{BinaryEncodingOptions, ConnectionPoolOptions, Region};
use azure_data_cosmos::{AccountReference, CosmosClient, CosmosRuntime, FeedScope, RoutingStrategy};
use bytes::Bytes;
use fides_connector_cosmos::{ContainerSettings, Settings};
use fides_core::port::{Outcome, Sink, Target, Write};
use fides_core::{
    Change, Field, Fingerprint, Key, Kind, Lane, Limits, Namespace, Op, PipelineId, Shape, Value, Version, encode_row,
};
use fides_guard::{BreakerState, Meter, guard_target};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value as Json, json};

const CONCURRENCY: usize = 32;
/// Changes of one write, as a consumer gathers them.
const BATCH: usize = 5_000;
/// Documents that one of two writes before it is the other's turn.
const TURN: usize = 1_000;

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
async fn bare(container: &ContainerClient, documents: Range<usize>, round: u64) -> Duration {
    let start = Instant::now();
    stream::iter(documents)
        .map(|id| async move {
            let id_text = id.to_string();
            container.upsert_item(id_text.clone(), &id_text, document(id, round), None).await.unwrap();
        })
        .buffer_unordered(CONCURRENCY)
        .for_each(|()| async {})
        .await;
    start.elapsed()
}

/// What the guard told.
#[derive(Default)]
struct Told {
    breaker: AtomicU32,
    throttled: AtomicU32,
}

impl Meter for Told {
    fn throttled(&self, _name: &str, _after: Duration) {
        self.throttled.fetch_add(1, Ordering::Relaxed);
    }

    fn breaker(&self, _name: &str, state: BreakerState) {
        if state != BreakerState::Closed {
            self.breaker.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Writer {
    told: Arc<Told>,
    target: Arc<dyn Target>,
    sink: Sink,
    shape: Shape,
    lane: Lane,
}

impl Writer {
    /// A writer of a container that is made with this partition key.
    async fn new(database: &str, container: &str, partition_key: &str, limits: &Limits) -> Self {
        let like = ContainerSettings { partition_key: vec![partition_key.to_owned()], ..ContainerSettings::default() };
        let settings = Settings {
            endpoint: url(),
            key: key().into(),
            database: database.to_owned(),
            regions: Vec::new(),
            containers: BTreeMap::from([(container.to_owned(), like)]),
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
        let told = Arc::new(Told::default());
        let writer = Self {
            target: guard_target("target", target, limits, told.clone()),
            told,
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
    async fn write(&self, documents: Range<usize>, round: u64) -> (Duration, usize) {
        let changes: Vec<Change> = documents.map(|id| change(id, round)).collect();
        self.send(&changes).await
    }

    async fn send(&self, changes: &[Change]) -> (Duration, usize) {
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

fn stats(database: &str, name: &str) -> f64 {
    admin("GET", &format!("/__stats?database={database}"), "")[name].as_f64().unwrap_or_default()
}

/// What a record costs, by the emulator's model.
#[allow(clippy::cast_precision_loss)]
async fn costs(limits: &Limits) {
    const DOCUMENTS: usize = 500;
    println!("\nrequest units per record, documents of 8 properties and some 230 bytes");
    println!("{:<34} {:>8} {:>8} {:>12} {:>8}", "partition key", "new", "changed", "not known", "deleted");
    let cases = [("/id", "function of the key"), ("/active", "a field that stays"), ("/stock", "a field that changes")];
    for (at, (partition_key, what)) in cases.into_iter().enumerate() {
        let database = format!("bench-{}-costs-{at}", std::process::id());
        let writer = Writer::new(&database, "fides", partition_key, limits).await;
        let mut spent = Vec::new();
        let mut charge = async |writer: &Writer, changes: Vec<Change>| {
            let before = stats(&database, "request_units");
            writer.send(&changes).await;
            spent.push((stats(&database, "request_units") - before) / DOCUMENTS as f64);
        };
        let round = |round| (0..DOCUMENTS).map(|id| change(id, round)).collect::<Vec<_>>();
        charge(&writer, round(1)).await;
        charge(&writer, round(2)).await;
        let other = Writer::new(&database, "fides", partition_key, limits).await;
        charge(&other, round(3)).await;
        let gone = |change: Change| Change { op: Op::Delete, fingerprint: None, ..change };
        charge(&other, round(4).into_iter().map(gone).collect()).await;
        println!("{what:<34} {:>8.1} {:>8.1} {:>12.1} {:>8.1}", spent[0], spent[1], spent[2], spent[3]);
    }
}

#[allow(clippy::cast_precision_loss)]
fn per_second(documents: usize, took: Duration) -> f64 {
    documents as f64 / took.as_secs_f64()
}

#[tokio::main]
#[allow(clippy::cast_precision_loss)]
async fn main() {
    let documents = number("FIDES_BENCH_DOCUMENTS", 20_000);
    let units = number("FIDES_BENCH_UNITS", 4_000);
    let account = AccountReference::with_authentication_key(url().parse().unwrap(), Secret::new(key()));
    // The emulator speaks HTTP/1.1.
    let pool = ConnectionPoolOptions::builder().with_is_http2_allowed(false).build().unwrap();
    let client = CosmosClient::builder()
        .with_runtime(CosmosRuntime::builder().with_connection_pool(pool).build().await.unwrap())
        .with_binary_encoding_options(BinaryEncodingOptions::new().with_enabled(false))
        .build(account, RoutingStrategy::PreferredRegions(Vec::<Region>::new()))
        .await
        .unwrap();
    let limits = Limits::default();

    println!("{documents} documents, {CONCURRENCY} requests at the same time, the same emulator\n");
    println!("{:<34} {:>12} {:>12} {:>8}", "documents per second", "bare driver", "Fides", "share");
    for round in 0..number("FIDES_BENCH_ROUNDS", 3) {
        let database = format!("bench-{}-{round}", std::process::id());
        client.create_database(&database, None).await.unwrap();
        let properties = ContainerProperties::new("bare", PartitionKeyDefinition::new(vec!["/id".into()]));
        let client = client.database_client(database.as_str());
        client.create_container(properties, None).await.unwrap();
        let container = client.container_client("bare", None).await.unwrap();
        let mut writer = Writer::new(&database, "fides", "/id", &limits).await;
        for (what, round) in [("new", 1), ("changed, written lately", 2), ("changed, not known", 3)] {
            if round == 3 {
                writer = Writer::new(&database, "fides", "/id", &limits).await;
            }
            let (mut alone, mut fides) = (Duration::ZERO, Duration::ZERO);
            for (turn, begin) in (0..documents).step_by(TURN).enumerate() {
                let some = begin..documents.min(begin + TURN);
                // In turns, and each as often the first: a machine that is faster or slower for a while is so for both.
                if turn % 2 == 0 {
                    alone += bare(&container, some.clone(), round).await;
                }
                fides += writer.write(some.clone(), round).await.0;
                if turn % 2 == 1 {
                    alone += bare(&container, some, round).await;
                }
            }
            let (bare, fides) = (per_second(documents, alone), per_second(documents, fides));
            println!("{what:<34} {bare:>12.0} {fides:>12.0} {:>7.0}%", 100.0 * fides / bare);
        }
    }

    costs(&limits).await;

    let database = format!("bench-{}-throttled", std::process::id());
    let writer = Writer::new(&database, "fides", "/id", &limits).await;
    let scope = json!({ "database": database, "ru_per_second": units }).to_string();
    admin("POST", "/__throttle", &scope);
    let rule = json!({ "database": database, "operations": ["create", "replace"], "status": 429, "substatus": 3200,
        "retry_after_ms": 5, "every": 2 });
    admin("POST", "/__faults", &rule.to_string());
    let stats = |name: &str| stats(&database, name);
    let (spent, throttled) = (stats("request_units"), stats("throttled"));
    let throttled_documents = documents / 4;
    let (took, left_open) = writer.write(0..throttled_documents, 1).await;
    let (spent, throttled) = (stats("request_units") - spent, stats("throttled") - throttled);
    admin("DELETE", &format!("/__faults?database={database}"), "");
    admin("DELETE", &format!("/__throttle?database={database}"), "");
    let container = client.database_client(database.as_str()).container_client("fides", None).await.unwrap();
    let held = container.query_items::<Json>("SELECT c.id FROM c", FeedScope::full_container(), None).await.unwrap();
    let held: Vec<Json> = held.try_collect().await.unwrap();
    // What a second grants is there at the start, too.
    let granted = units as f64 * (took.as_secs_f64() + 1.0);
    println!("\n429 on every second write, {units} request units per second granted, {throttled_documents} documents");
    println!("  request units   {spent:>8.0} used of {granted:.0} in {:.1} s", took.as_secs_f64());
    println!(
        "  documents       {throttled_documents:>8} written of {:.0}: {:.0} %",
        granted * throttled_documents as f64 / spent,
        100.0 * spent / granted
    );
    println!(
        "  {throttled:.0} answers were 429, {} came to the guard; its breaker opened {} times; {left_open} writes were \
         left open; {} documents are lost",
        writer.told.throttled.load(Ordering::Relaxed),
        writer.told.breaker.load(Ordering::Relaxed),
        throttled_documents - held.len(),
    );
}
