//! What is mended beside running services: a target that somebody else edited, and a Redis that was flushed.

use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::stand::Stand;

const ROWS: i64 = 2_000;

impl Stand {
    fn json(&self, expected: i32, arguments: &[&str]) -> Value {
        let (code, stdout, stderr) = self.fides(arguments);
        assert_eq!(code, Some(expected), "{arguments:?}: {stdout}{stderr}");
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }

    /// Changes with every write of a document, whatever is written.
    async fn writes(&self) -> String {
        let versions = "SELECT md5(string_agg(xmin::text, ',' ORDER BY id)) FROM copy";
        sqlx::query_scalar(versions).fetch_one(&mut self.connect().await).await.unwrap()
    }
}

async fn execute(target: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(target).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_somebody_edited_is_mended_beside_the_services() {
    let stand = Stand::unscheduled("edited", "limits: { lanes: 4, lease_ms: 3000 }\n    verify: \"* * * * * *\"").await;
    stand.fill(ROWS).await;
    let services = stand.start_all();
    stand.has_copied(ROWS).await;
    stand.becomes_equal().await;

    let edits = "UPDATE copy SET name = 'poison' WHERE id <= 34; DELETE FROM copy WHERE id > 34 AND id <= 67;
        INSERT INTO copy (id, name, active, changed) SELECT 100000 + i, 'stray', true, now() FROM generate_series(1, 33) i";
    execute(&mut stand.connect().await, edits).await;
    let found = stand.json(1, &["verify", &stand.pipeline, "--json", "--limit", "1000"]);
    assert_eq!(found["differences"].as_array().map(Vec::len), Some(100));

    let scheduler = services.iter().find(|service| service.name == "cleanup-scheduler").unwrap();
    let deadline = Instant::now() + Duration::from_mins(2);
    while scheduler.metric("fides_records_drifted_total", &[]).await < 100.0 {
        assert!(Instant::now() < deadline, "no scheduled comparison told of the drift");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(scheduler.log().contains("the target differs from the host"));

    let report = stand.json(0, &["verify", &stand.pipeline, "--repair", "--json"]);
    assert_eq!((&report["mended"], &report["sent"], &report["deleted"]), (&100.into(), &67.into(), &33.into()));
    stand.becomes_equal().await;
    drop(services);
    stand.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_was_flushed_costs_no_write() {
    let stand = Stand::unscheduled("flushed", "limits: { lanes: 4, lease_ms: 3000 }").await;
    stand.fill(ROWS).await;
    let mut services = stand.start_all();
    stand.has_copied(ROWS).await;
    stand.becomes_equal().await;
    let before = stand.writes().await;

    stand.redis.flush().await;
    let deadline = Instant::now() + Duration::from_mins(2);
    let run = loop {
        let run = stand.json(0, &["status", "--json"])[0]["run"].take();
        if run["ended_ms"].is_u64() {
            break run;
        }
        assert!(Instant::now() < deadline, "no import after the loss: {run}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!((&run["counts"]["read"], &run["counts"]["published"]), (&ROWS.into(), &0.into()), "{run}");
    assert_eq!(stand.writes().await, before, "no document was written again");

    // And it is followed by what it always was: a change travels, and nothing else.
    execute(&mut stand.connect().await, "UPDATE items SET stock = 77 WHERE id = 7").await;
    for service in &mut services {
        service.terminate().await;
    }
    let synced = stand.json(0, &["sync", "--once", "--json"]);
    assert_eq!(synced[0]["published"], 1, "{synced}");
    stand.becomes_equal().await;
    stand.close().await;
}
