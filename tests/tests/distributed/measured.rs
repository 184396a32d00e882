//! Every metric that the page names is told by services that have reason to, and so are the lines.

use std::collections::BTreeSet;

use sqlx::AssertSqlSafe;

use crate::proxy::Weather;
use crate::services::Process;
use crate::stand::{Stand, rows};
use crate::until::{MINUTE, until};

const PAGE: &str = include_str!("../../../docs/metrics.md");

/// The names of the page, as Prometheus has them.
fn documented() -> BTreeSet<String> {
    let table = PAGE.split("| OpenTelemetry |").nth(1).unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('|').nth(2).unwrap().trim().trim_matches('`').to_owned()).collect()
}

/// The names that services tell now.
async fn told(services: &[Process]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for service in services {
        let (_, body) = service.probe("/metrics").await;
        let types = body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        names.extend(types.map(ToOwned::to_owned));
    }
    names
}

async fn run(stand: &Stand, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut stand.connect().await).await.unwrap();
}

/// Everything happens that one can measure: a record is refused, too many are gone, the target goes away with changes in
/// hand, somebody gives an order.
#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_the_page_is_told() {
    let stand = Stand::new("measured", "limits: { lanes: 2, lease_ms: 3000 }\n    cleanup: \"*/5 * * * * *\"").await;
    let _host = stand.fill(rows()).await;
    run(
        &stand,
        "CREATE TABLE copy (LIKE items INCLUDING ALL); ALTER TABLE copy ADD CONSTRAINT mild CHECK (name <> 'Gift')",
    )
    .await;
    run(&stand, "UPDATE items SET name = 'Gift' WHERE id = 7").await;
    let services =
        ["importer", "publishing-consumer", "cleanup-scheduler", "event-handler"].map(|name| stand.start(name, 0));
    let [importer, consumer, ..] = &services;
    stand.has_copied(rows() - 1).await;
    let mine = format!("pipeline=\"{}\"", stand.pipeline);
    let above = async |service: &Process, name: &str, least: f64| {
        until(&format!("{name} of {} is above {least}", service.name), 2 * MINUTE, async || {
            service.metric(name, &[&mine]).await > least
        })
        .await;
    };
    above(consumer, "fides_records_dead_total", 0.5).await;
    above(importer, "fides_letters_waiting", 0.5).await;

    // A third of the host is gone: that is refused.
    run(&stand, "CREATE TABLE shelf AS SELECT * FROM items WHERE id % 3 = 0; DELETE FROM items WHERE id % 3 = 0").await;
    above(importer, "fides_cleanup_refused_total", 0.5).await;
    run(&stand, "INSERT INTO items SELECT * FROM shelf").await;

    let (code, stdout, stderr) = stand.fides(&["pause", &stand.pipeline]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let (code, stdout, stderr) = stand.fides(&["resume", &stand.pipeline]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let commands = async |command: &str| importer.metric("fides_commands_total", &[command]).await;
    until("both commands are counted", MINUTE, async || {
        commands("command=\"pause\",status=\"done\"").await > 0.5
            && commands("command=\"resume\",status=\"done\"").await > 0.5
    })
    .await;

    stand.before_target.set(Weather::Refuse);
    run(&stand, "UPDATE items SET stock = -1 WHERE id % 2 = 0").await;
    above(consumer, "fides_lane_lag_seconds", 5.0).await;
    above(importer, "fides_lane_depth", 0.5).await;
    until("the breaker is open", MINUTE, async || {
        consumer.metric("fides_breaker_state", &["target target"]).await > 1.5
    })
    .await;

    let mut missing = documented();
    until("every metric is told", MINUTE, async || {
        let told = told(&services).await;
        assert_eq!(told.difference(&documented()).next(), None, "told, and not on the page");
        missing.retain(|name| !told.contains(name));
        // PostgreSQL never asks for patience, and where nobody listens nothing is tried again at once: the unit tests of
        // metrics tell these.
        missing.iter().all(|name| ["fides_call_throttles_total", "fides_call_retries_total"].contains(&name.as_str()))
    })
    .await;

    stand.before_target.set(Weather::Fair);
    until("nothing lags any more", 2 * MINUTE, async || {
        consumer.metric("fides_lane_lag_seconds", &[&mine]).await < 0.1
    })
    .await;
    for mut service in services {
        assert!(service.terminate().await.success(), "{}", service.name);
    }
    stand.close().await;
}
