//! Changes travel by the host's log: there is no schedule here, so that nothing else brings them.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, PgConnection};

use crate::services::Process;
use crate::stand::{Stand, rows};
use crate::until::{MINUTE, until};

const OPTIONS: &str = "events: log\n    limits: { lanes: 4, lease_ms: 3000 }";

pub async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

/// What an import would send now: nothing, if what the log told has the fingerprints of what a scan reads.
pub fn planned(stand: &Stand) -> u64 {
    let (code, stdout, stderr) = stand.fides(&["plan", &stand.pipeline, "--json"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let plan: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    ["create", "change", "delete", "reject"].iter().map(|what| plan[what].as_u64().unwrap()).sum()
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

/// A workload of everything that a log can tell, while the services that read it are killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_under_every_kind_of_change_and_kills() {
    every_kind_of_change("log", &["event-handler", "importer"]).await;
}

/// The same while only the readers of the log are killed: no import, which begins when an importer starts, heals what the
/// log would have missed.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_readers_alone_are_killed() {
    every_kind_of_change("readers", &["event-handler"]).await;
}

async fn every_kind_of_change(name: &str, victims: &[&str]) {
    let stand = Stand::unscheduled(name, OPTIONS).await;
    let mut host = stand.fill(rows()).await;
    run(&mut host, "ALTER TABLE items ADD COLUMN body text; ALTER TABLE items ALTER COLUMN body SET STORAGE EXTERNAL")
        .await;
    let mut services = stand.start_all();
    services.push(stand.start("event-handler", 1));
    stand.becomes_equal().await;
    is_followed(&stand).await;

    // The first opening of the log owes an import: that is over when no more of them come.
    let mut begun = 0;
    until("the first imports are over", MINUTE, async || {
        let earlier = std::mem::replace(&mut begun, imports(&services));
        tokio::time::sleep(Duration::from_secs(4)).await;
        begun > 0 && begun == earlier
    })
    .await;
    let count = rows();
    let mut kills = 0;
    for round in 0..12i64 {
        let at = 1 + round * 300;
        for sql in [
            format!(
                "UPDATE items SET stock = {round}, body = repeat('b', 100000) WHERE id BETWEEN {at} AND {}",
                at + 9
            ),
            // The large value is not in the log this time.
            format!("UPDATE items SET name = 'anders {round}' WHERE id BETWEEN {at} AND {}", at + 9),
            format!("DELETE FROM items WHERE id BETWEEN {} AND {}", at + 20, at + 29),
            format!("UPDATE items SET id = id + 100000000 WHERE id BETWEEN {} AND {}", at + 40, at + 49),
            "BEGIN; UPDATE items SET stock = -1; DELETE FROM items WHERE id % 2 = 0; ROLLBACK".to_owned(),
            format!(
                "BEGIN; UPDATE items SET stock = 1 WHERE id = {at}; UPDATE items SET stock = 2 WHERE id = {at}; \
                 DELETE FROM items WHERE id = {at}; INSERT INTO items SELECT {at}, 'wieder da', 1, 3, true, '{{}}', \
                 now(), 'NaN'; COMMIT"
            ),
        ] {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut host).await.unwrap();
        }
        if round == 5 {
            run(&mut host, &format!("UPDATE items SET ratio = -id WHERE id <= {}", count / 5 * 2)).await;
        }
        for service in services.iter_mut().filter(|it| round % 3 == 1 && victims.contains(&it.name)) {
            kills += usize::from(service.kill());
            service.restart();
        }
    }
    // Two of each, in four rounds.
    assert!(kills >= 6 * victims.len(), "{kills} kills");
    stand.becomes_equal().await;
    let told: Vec<f64> =
        futures::future::join_all(services.iter().filter(|service| service.name == "event-handler").map(followed))
            .await;
    assert!(told.iter().sum::<f64>() > 0.0, "the log told something: {told:?}");
    assert_eq!(planned(&stand), 0, "an import would send nothing");
    if !victims.contains(&"importer") {
        assert_eq!(imports(&services), begun, "no import has healed anything");
    }
    stop(&stand, services).await;
    stand.close().await;
}

/// How many imports have come to their end.
fn imports(services: &[Process]) -> usize {
    services.iter().map(|service| service.log().matches("\"import finished\"").count()).sum()
}

/// Ends the services, and forgets the slot: a database with one cannot be dropped.
pub async fn stop(stand: &Stand, services: Vec<Process>) {
    for mut service in services {
        let status = service.terminate().await;
        assert!(status.success(), "{}: {status}", service.name);
    }
    let mut host = stand.connect_host().await;
    run(
        &mut host,
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
    run(
        &mut host,
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()",
    )
    .await;
    run(&mut host, "UPDATE items SET stock = -7 WHERE id % 10 = 0").await;
    run(&mut host, "DELETE FROM items WHERE id BETWEEN 100 AND 199").await;
    services[handler].restart();
    stand.becomes_equal().await;
    is_followed(&stand).await;
    run(&mut host, "UPDATE items SET stock = -8 WHERE id = 1").await;
    stand.becomes_equal().await;
    let log = services[handler].log();
    assert!(log.contains("an import is due"), "it is said: {log}");
    assert_eq!(planned(&stand), 0);
    stop(&stand, services).await;
    stand.close().await;
}
