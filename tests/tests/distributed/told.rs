//! What is wrong with a host's log is told twice, by `check --connect` and while the services run, with what mends it.

use sqlx::PgConnection;

use crate::cluster::Cluster;
use crate::follows::{is_followed, nothing_is_planned, run, stop};
use crate::proxy::Weather;
use crate::services::Process;
use crate::stand::{Stand, eventually};

const OPTIONS: &str = "events: log\n    limits: { lanes: 2, lease_ms: 3000 }";

/// Runs `check --connect`: its exit status, and what it says of the log.
fn checked(stand: &Stand) -> (Option<i32>, Vec<serde_json::Value>) {
    let (code, stdout, stderr) = stand.fides(&["check", "--connect", "--json"]);
    let findings: Vec<serde_json::Value> =
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    (code, findings.into_iter().filter(|found| found["path"].as_str().unwrap().ends_with(".events")).collect())
}

/// What `check --connect` says of `part`: how bad it is, and what mends it.
fn told(stand: &Stand, part: &str) -> (Option<i32>, String, String) {
    let (code, findings) = checked(stand);
    let found = findings.iter().find(|found| found["message"].as_str().unwrap().contains(part));
    let found = found.unwrap_or_else(|| panic!("{part} is not told: {findings:?}"));
    (code, found["severity"].as_str().unwrap().to_owned(), found["advice"].as_str().unwrap_or_default().to_owned())
}

async fn says(service: &Process, part: &str) {
    eventually(&format!("it says {part}"), async || service.log().contains(part)).await;
}

async fn flag(host: &mut PgConnection, sql: &str) -> bool {
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(host).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_keeps_no_logical_log() {
    let mend = "ALTER SYSTEM SET wal_level = logical";
    let mut cluster = Cluster::start(&["wal_level = replica"]).await;
    let stand = Stand::with_host("level", OPTIONS, cluster.url("postgres")).await;
    let mut host = stand.fill(100).await;
    let (code, severity, advice) = told(&stand, "wal_level is replica, not logical");
    assert_eq!((code, severity.as_str()), (Some(64), "error"));
    assert!(advice.contains(mend), "{advice}");
    let handler = stand.start("event-handler", 0);
    says(&handler, mend).await;
    drop(handler);

    // What it says helps.
    run(&mut host, mend).await;
    drop(host);
    cluster.stop_and_start().await;
    let (code, findings) = checked(&stand);
    assert_eq!(code, Some(0), "{findings:?}");
    stand.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_free_slot() {
    let cluster = Cluster::start(&["max_replication_slots = 2"]).await;
    let stand = Stand::with_host("slots", OPTIONS, cluster.url("postgres")).await;
    let mut host = stand.fill(100).await;
    run(&mut host, "SELECT pg_create_physical_replication_slot('one'), pg_create_physical_replication_slot('two')")
        .await;
    let (code, severity, advice) = told(&stand, "2 of 2 replication slots are in use; expected: 2 that are free");
    assert_eq!((code, severity.as_str()), (Some(64), "error"));
    assert!(advice.contains("ALTER SYSTEM SET max_replication_slots = 4"), "{advice}");
    assert!(advice.contains("SELECT pg_drop_replication_slot"), "{advice}");
    let handler = stand.start("event-handler", 0);
    says(&handler, "all replication slots are in use: raise max_replication_slots").await;
    run(&mut host, "SELECT pg_drop_replication_slot('one'), pg_drop_replication_slot('two')").await;
    is_followed(&stand).await;
    let (code, findings) = checked(&stand);
    assert_eq!(code, Some(0), "{findings:?}");
    stop(&stand, vec![handler]).await;
    stand.close().await;
}

/// A slot that lost log it still needed: it is told, made anew, and an import closes the gap.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_filled() {
    const LOST: &str = "SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name LIKE 'fides_%'";
    let mend = "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'";
    let cluster =
        Cluster::start(&["max_slot_wal_keep_size = 16MB", "max_wal_size = 32MB", "min_wal_size = 32MB"]).await;
    let stand = Stand::with_host("filled", OPTIONS, cluster.url("postgres")).await;
    let mut host = stand.fill(1_000).await;
    let mut services = stand.start_all();
    stand.becomes_equal().await;
    is_followed(&stand).await;
    assert_eq!(checked(&stand).1, [serde_json::Value::Null; 0], "nothing is wrong");
    let handler = services.iter().position(|service| service.name == "event-handler").unwrap();
    assert!(services[handler].terminate().await.success());

    run(&mut host, "UPDATE items SET stock = -1 WHERE id <= 100; CREATE TABLE noise (t text)").await;
    eventually("the slot is lost", async || {
        run(&mut host, "INSERT INTO noise SELECT repeat(md5(i::text), 30) FROM generate_series(1, 10000) i").await;
        run(&mut host, "SELECT pg_switch_wal()").await;
        run(&mut host, "CHECKPOINT").await;
        flag(&mut host, LOST).await
    })
    .await;
    let (code, severity, advice) = told(&stand, "has removed log that replication slot");
    assert_eq!((code, severity.as_str()), (Some(0), "warning"));
    assert!(advice.contains("an import follows") && advice.contains(mend), "{advice}");
    services[handler].restart();
    says(&services[handler], mend).await;
    stand.becomes_equal().await;
    is_followed(&stand).await;
    assert_eq!(checked(&stand).1, [serde_json::Value::Null; 0], "it is well again");
    stop(&stand, services).await;
    stand.close().await;
}

/// A broker that is away: what waits in the log is measured, and given up above the limit; an import finds it.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_waits_for_too_long() {
    const OPTIONS: &str =
        "events: log\n    limits: { lanes: 2, lease_ms: 3000, slot_lag_bytes_max: 4194304, slot_lag_action: drop }";
    let stand = Stand::unscheduled("lag", OPTIONS).await;
    let mut host = stand.fill(1_000).await;
    let services = stand.start_all();
    stand.becomes_equal().await;
    is_followed(&stand).await;
    let handler = services.iter().find(|service| service.name == "event-handler").unwrap();
    let lag = async || handler.metric("fides_log_lag_bytes", &[]).await;

    stand.before_broker.set(Weather::Refuse);
    run(&mut host, "UPDATE items SET stock = -1; CREATE TABLE noise (t text)").await;
    run(&mut host, "INSERT INTO noise SELECT repeat(md5(i::text), 30) FROM generate_series(1, 2000) i").await;
    eventually("the lag is seen", async || lag().await > 1_000_000.0).await;
    eventually("it is given up", async || {
        run(&mut host, "INSERT INTO noise SELECT repeat(md5(i::text), 30) FROM generate_series(1, 2000) i").await;
        handler.log().contains("slot_lag_bytes_max allows 4194304: it was dropped")
    })
    .await;
    run(&mut host, "DELETE FROM items WHERE id <= 10").await;
    stand.before_broker.set(Weather::Fair);
    stand.becomes_equal().await;
    is_followed(&stand).await;
    eventually("the log is read", async || lag().await < 4_194_304.0).await;
    nothing_is_planned(&stand).await;
    stop(&stand, services).await;
    stand.close().await;
}
