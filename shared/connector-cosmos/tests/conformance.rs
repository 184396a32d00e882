//! The conformance suites over Microsoft's in-memory emulator of Cosmos DB.

#![allow(clippy::unwrap_used)] // the functions around the tests are tests, too

mod common;

use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use common::Database;
use fides_connector_cosmos::Settings;
use fides_core::port::{Host, Target};
use fides_core::{Key, Kind, Namespace, Value};
use fides_format::to_json;
use fides_testkit::conformance::Spec;
use fides_testkit::conformance::host::HostFixture;
use fides_testkit::conformance::target::{PATIENCE, TargetFixture, Trouble};
use serde_json::json;

struct Fixture {
    host: Arc<dyn Host>,
    target: Arc<dyn Target>,
    database: Database,
}

async fn fixture() -> Fixture {
    let database = Database::create().await;
    database.own().await;
    // Thousands of requests, on a machine that does other things, too.
    let target = fides_connector_cosmos::target(database.settings(), 240_000).await.unwrap();
    let host = fides_connector_cosmos::host(database.settings(), false).await.unwrap();
    Fixture { host, target, database }
}

/// The id of a row's document: nothing that the suite reads.
fn id_of(key: &[Value<'static>]) -> String {
    let mut id = String::new();
    Key::encode(key).unwrap().as_bytes().iter().for_each(|byte| write!(id, "{byte:02x}").unwrap());
    id
}

#[async_trait]
impl HostFixture for Fixture {
    fn host(&self) -> Arc<dyn Host> {
        self.host.clone()
    }

    fn namespace(&self, table: &str) -> Namespace {
        Namespace(vec![table.to_owned()])
    }

    async fn create(&self, spec: &Spec) {
        self.database.container(spec.name, "/id", &[]).await;
    }

    async fn insert(&self, spec: &Spec, rows: &[Vec<Value<'static>>]) {
        let container = self.database.open(spec.name).await;
        for row in rows {
            let id = id_of(&row[..spec.key.len()]);
            let fields =
                spec.columns.iter().zip(row).map(|((name, ..), value)| format!(",\"{name}\":{}", to_json(value)));
            let json = format!("{{\"id\":\"{id}\"{}}}", fields.collect::<String>());
            let json = serde_json::value::RawValue::from_string(json).unwrap();
            container.create_item(id.clone(), &id, json, None).await.unwrap();
        }
    }

    async fn delete(&self, spec: &Spec, key: &[Value<'static>]) {
        let id = id_of(key);
        self.database.open(spec.name).await.delete_item(id.clone(), &id, None).await.unwrap();
    }

    fn json_number(&self) -> u64 {
        9_007_199_254_740_992 // the next one is rounded
    }

    fn cannot(&self, case: &str) -> Option<&'static str> {
        match case {
            "snapshot_is_isolated" => {
                Some("Cosmos DB has no snapshots: a page is at least as new as its version (tests/feed.rs instead)")
            }
            "includes_many"
            | "includes_one"
            | "includes_nest"
            | "a_second_match_fails_alone"
            | "fingerprints_follow_the_row" => {
                Some("Cosmos DB joins no containers: documents nest what belongs to them")
            }
            "text_keys" => Some(
                "Cosmos DB orders text by UTF-16 units: keys with characters on both sides of U+FFFF are refused \
                 (tests/feed.rs instead)",
            ),
            "extreme_numbers" => Some("numbers are 64 bit floats: keys beyond 2^53 are not told apart"),
            "every_kind" | "missing_things_are_named" | "describes_what_is_there" => Some(
                "a container has no columns: what documents hold is told by looking at some (tests/feed.rs instead)",
            ),
            _ => None,
        }
    }
}

#[async_trait]
impl TargetFixture for Fixture {
    fn target(&self) -> Arc<dyn Target> {
        self.target.clone()
    }

    fn namespace(&self, table: &str) -> Namespace {
        Namespace(vec![table.to_owned()])
    }

    async fn create(&self, spec: &Spec) {
        self.database.container(spec.name, "/id", &[]).await;
    }

    fn unholdable(&self) -> (Kind, Value<'static>) {
        (Kind::F64, Value::F64(f64::NAN))
    }

    fn refused(&self) -> Value<'static> {
        Value::F64(f64::INFINITY)
    }

    fn json_number(&self) -> u64 {
        9_007_199_254_740_992 // the next one is rounded
    }

    async fn gone(&self) -> Arc<dyn Target> {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let settings = Settings { endpoint: format!("http://{nobody}/"), ..self.database.settings() };
        fides_connector_cosmos::target(settings, 20_000).await.unwrap()
    }

    async fn unauthorised(&self) -> (Arc<dyn Target>, &'static str) {
        let settings = Settings { key: "c2VjcmV0".to_owned().into(), ..self.database.settings() };
        (fides_connector_cosmos::target(settings, 20_000).await.unwrap(), "c2VjcmV0")
    }

    fn oversized(&self) -> usize {
        2 << 20
    }

    async fn make(&self, trouble: Trouble) {
        let writes = json!(["create", "replace"]);
        self.database.fault(match trouble {
            Trouble::Throttled => {
                json!({ "container": "people", "operations": writes, "status": 429, "substatus": 3200,
                "retry_after_ms": u64::try_from(PATIENCE.as_millis()).unwrap() })
            }
            Trouble::Unanswered => json!({ "container": "people", "operations": writes, "drop": "after", "times": 1 }),
        });
    }

    async fn mend(&self) {
        self.database.mend();
    }

    fn cannot(&self, case: &str) -> Option<&'static str> {
        match case {
            "creates_what_is_missing" | "names_all_that_is_missing" | "what_is_inspected_is_refused" => {
                Some("a container has no columns that could be missing or be described (tests/container.rs instead)")
            }
            "a_version_column_holds_text" => Some("a container has no columns: what a field holds is what was written"),
            "a_unique_violation_is_deferred" => Some(
                "unique keys hold within a partition key, which is another for each document of the suite \
                      (tests/container.rs instead)",
            ),
            _ => None,
        }
    }
}

fides_testkit::target_conformance!(fixture().await);
fides_testkit::host_conformance!(fixture().await);
