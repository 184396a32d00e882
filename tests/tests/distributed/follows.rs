//! Changes travel by the host's log: there is no schedule here, so that nothing else brings them.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, PgConnection};

use crate::services::Process;
use crate::stand::{Stand, dwindles, eventually, rows};

const OPTIONS: &str = "events: log\n    limits: { lanes: 4, lease_ms: 3000 }";

pub async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

/// Waits until an import would send nothing: what the log told has the fingerprints of what a scan reads. A target shows what
/// is written a moment before that is marked.
pub async fn nothing_is_planned(stand: &Stand) {
    dwindles("an import would send them", async || {
        let (code, stdout, stderr) = stand.fides(&["plan", &stand.pipeline, "--json"]);
        if code == Some(75) {
            // Asked for patience: a plan looks whether the target is well.
            return u64::MAX;
        }
        assert_eq!(code, Some(0), "{stdout}{stderr}");
        let plan: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        ["create", "change", "delete", "reject"].iter().map(|what| plan[what].as_u64().unwrap()).sum()
    })
    .await;
}

pub async fn followed(handler: &Process) -> f64 {
    handler.metric("fides_records_followed_total", &[]).await
}

/// Waits until the log is followed: what is committed from now on needs no import.
pub async fn is_followed(stand: &Stand) {
    const ACTIVE: &str = "SELECT EXISTS (SELECT FROM pg_replication_slots \
        WHERE active AND database = current_database() AND NOT temporary)";
    let mut host = stand.connect_host().await;
    let deadline = Instant::now() + Duration::from_mins(1);
    while !sqlx::query_scalar::<_, bool>(ACTIVE).fetch_one(&mut host).await.unwrap() {
        assert!(Instant::now() < deadline, "nobody follows the log");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until consumers have in hand what the host has committed: the log was read so far, and nothing waits in the lanes. Asks
/// nothing of the target, which may be slow.
pub async fn is_taken(stand: &Stand, host: &mut PgConnection) {
    const READ: &str = "SELECT bool_and(confirmed_flush_lsn >= $1::pg_lsn) FROM pg_replication_slots \
        WHERE database = current_database() AND NOT temporary";
    let now = "SELECT pg_current_wal_flush_lsn()::text";
    let committed: String = sqlx::query_scalar(now).fetch_one(&mut *host).await.unwrap();
    eventually("the log is read", async || {
        let read = sqlx::query_scalar::<_, Option<bool>>(READ).bind(&committed).fetch_one(&mut *host).await;
        read.unwrap() == Some(true)
    })
    .await;
    stand.lanes_run_empty().await;
}

/// Ends the services, and forgets the slot.
pub async fn stop(stand: &Stand, services: Vec<Process>) {
    for mut service in services {
        let status = service.terminate().await;
        assert!(status.success(), "{}: {status}", service.name);
    }
    forget_slots(stand).await;
}

/// A database with a slot cannot be dropped.
pub async fn forget_slots(stand: &Stand) {
    run(
        &mut stand.connect_host().await,
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()",
    )
    .await;
}

/// A slot that somebody dropped: nothing is passed over in silence, an import heals, and the log is followed again.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_dropped() {
    let stand = Stand::unscheduled("slot", OPTIONS).await;
    let mut host = stand.fill(rows()).await;
    let mut services = stand.start_all();
    stand.becomes_equal().await;
    is_followed(&stand).await;
    let handler = services.iter().position(|service| service.name == "event-handler").unwrap();
    assert!(services[handler].terminate().await.success());
    forget_slots(&stand).await;
    run(&mut host, "UPDATE items SET stock = -7 WHERE id % 10 = 0").await;
    run(&mut host, "DELETE FROM items WHERE id BETWEEN 100 AND 199").await;
    services[handler].restart();
    stand.becomes_equal().await;
    is_followed(&stand).await;
    run(&mut host, "UPDATE items SET stock = -8 WHERE id = 1").await;
    stand.becomes_equal().await;
    let log = services[handler].log();
    assert!(log.contains("an import is due"), "it is said: {log}");
    nothing_is_planned(&stand).await;
    stop(&stand, services).await;
    stand.close().await;
}
