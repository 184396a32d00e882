//! The conformance suites over Microsoft's in-memory emulator of Cosmos DB.

#![allow(clippy::unwrap_used)] // the functions around the tests are tests, too

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use common::Database;
use fides_core::port::Target;
use fides_core::{Kind, Namespace, Value};
use fides_testkit::conformance::Spec;
use fides_testkit::conformance::target::TargetFixture;

struct Fixture {
    target: Arc<dyn Target>,
    database: Database,
}

async fn fixture() -> Fixture {
    let database = Database::create().await;
    database.own().await;
    let target = fides_connector_cosmos::target(database.settings(), 20_000).await.unwrap();
    Fixture { target, database }
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
