//! A host that fails over to a standby without its last transactions: positions go backward, and what was copied of the
//! lost transactions was never true (DESIGN §5).

use sqlx::{AssertSqlSafe, PgConnection};

use crate::cluster::Cluster;
use crate::follows::{followed, is_followed, nothing_is_planned, run, stop};
use crate::services::Process;
use crate::stand::{Stand, eventually, rows};
use crate::until::{MINUTE, until};

const OPTIONS: &str = "events: log\n    limits: { lanes: 4, lease_ms: 3000, delete_ratio_max: 0.5 }";
/// Rows that only lost transactions had: keys from here on.
const LOST_FROM: i64 = 10_000_000;
const LOST: i64 = 50;

/// Where the log ends, and on which timeline.
async fn log_end(host: &mut PgConnection) -> (i64, String) {
    const END: &str = "SELECT (pg_current_wal_lsn() - '0/0')::bigint, left(pg_walfile_name(pg_current_wal_lsn()), 8)";
    sqlx::query_as(END).fetch_one(host).await.unwrap()
}

async fn count(connection: &mut PgConnection, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(connection).await.unwrap()
}

/// The latest run of the pipeline.
fn last_run(stand: &Stand) -> serde_json::Value {
    let (code, stdout, stderr) = stand.fides(&["status", "--json"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    serde_json::from_str::<serde_json::Value>(&stdout).unwrap()[0]["run"].clone()
}

/// The rises of the epoch that the services told: from, to, and whose positions count from then on.
fn rises(services: &[Process]) -> Vec<(u64, u64, String)> {
    let logs: Vec<String> = services.iter().map(Process::log).collect();
    let lines = logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains("the epoch has risen"));
    let rise = |line: &str| {
        let told: serde_json::Value = serde_json::from_str(line).unwrap();
        let lineage = told["fides.lineage"].as_str().unwrap().to_owned();
        (told["fides.last"].as_u64().unwrap(), told["fides.epoch"].as_u64().unwrap(), lineage)
    };
    lines.map(rise).collect()
}

/// How much was published by each import that began after `run` and has ended.
fn imports_after(run: &serde_json::Value, services: &[Process]) -> Vec<i64> {
    let logs: Vec<String> = services.iter().map(Process::log).collect();
    let lines = logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains("\"import finished\""));
    let ended = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let later = ended.filter(|ended| ended["fides.run"].as_str().unwrap() > run["id"].as_str().unwrap());
    later.map(|ended| ended["fides.published"].as_i64().unwrap()).collect()
}

/// How many deletions the importers have published.
async fn deletions(services: &[Process]) -> i64 {
    let importers = services.iter().filter(|service| service.name == "importer");
    let each = importers.map(|importer| importer.metric("fides_records_deletions_total", &[]));
    #[expect(clippy::cast_possible_truncation, reason = "a small count")]
    let deletions = futures::future::join_all(each).await.iter().sum::<f64>() as i64;
    deletions
}

/// Changes that the present lives of the readers of the log have told.
async fn told(services: &[Process]) -> f64 {
    let handlers = services.iter().filter(|service| service.name == "event-handler");
    futures::future::join_all(handlers.map(followed)).await.iter().sum()
}

/// How a failover leaves the reader's slot.
#[derive(Clone, Copy)]
enum Slot {
    /// A base backup has none.
    Absent,
    /// Somebody made it again, before the reader came back.
    MadeAnew,
}

async fn fails_over(name: &str, slot: Slot) {
    let mut cluster = Cluster::start(&[]).await;
    let stand = Stand::with_host(name, OPTIONS, cluster.url("postgres")).await;
    let mut host = stand.fill(rows()).await;
    let mut services = stand.start_all();
    services.push(stand.start("event-handler", 1));
    stand.becomes_equal().await;
    is_followed(&stand).await;
    assert_eq!(rises(&services), [], "nothing has happened yet");
    let before = last_run(&stand);
    assert_eq!(deletions(&services).await, 0, "no import has deleted anything yet");

    let backup = cluster.back_up();
    let slots = "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()";
    let slot_name: String = sqlx::query_scalar(slots).fetch_one(&mut host).await.unwrap();
    for sql in [
        "UPDATE items SET name = 'verloren' WHERE id <= 500".to_owned(),
        "DELETE FROM items WHERE id BETWEEN 601 AND 650".to_owned(),
        format!(
            "INSERT INTO items SELECT {LOST_FROM} + i, 'nur hier', 1, 1, true, '{{}}', now(), 0 \
             FROM generate_series(1, {LOST}) i"
        ),
    ] {
        run(&mut host, &sql).await;
    }
    let mut target = stand.connect().await;
    eventually("the lost transactions reach the target", async || {
        count(&mut target, "SELECT count(*) FROM copy WHERE name IN ('verloren', 'nur hier')").await == 500 + LOST
            && count(&mut target, "SELECT count(*) FROM copy WHERE id BETWEEN 601 AND 650").await == 0
    })
    .await;
    let (lost_end, lost_timeline) = log_end(&mut host).await;

    cluster.kill();
    cluster.fail_over_to(&backup).await;
    let mut host = stand.connect_host().await;
    let (end, timeline) = log_end(&mut host).await;
    assert_ne!(timeline, lost_timeline, "the timeline is another one");
    assert!(end < lost_end, "positions have gone backward: {lost_end} to {end}");
    let lost = "SELECT count(*) FROM items WHERE name IN ('verloren', 'nur hier')";
    assert_eq!(count(&mut host, lost).await, 0, "the host has lost them");
    if let Slot::MadeAnew = slot {
        let make = format!("SELECT pg_create_logical_replication_slot('{slot_name}', 'pgoutput')");
        // The reader may be faster, and make it itself.
        let _ = sqlx::query(AssertSqlSafe(make)).execute(&mut host).await;
    }
    // Some of the keys get other values; what is left of them is only in the target.
    run(&mut host, "UPDATE items SET name = 'neu' WHERE id <= 250").await;
    run(&mut host, "UPDATE items SET stock = -5 WHERE id BETWEEN 601 AND 620").await;

    stand.becomes_equal().await;
    let stale = "SELECT count(*) FROM copy WHERE name IN ('verloren', 'nur hier')";
    assert_eq!(count(&mut target, stale).await, 0);
    assert_eq!(count(&mut target, "SELECT count(*) FROM copy WHERE id BETWEEN 601 AND 650").await, 50);
    risen_once(&services, &timeline);
    until("the import that was owed ends", MINUTE, async || !imports_after(&before, &services).is_empty()).await;
    let rebuilt = |service: &Process| service.log().contains("marks rebuilt from both sides");
    assert!(services.iter().any(rebuilt), "no mark of the lost timeline was trusted");
    assert_eq!(deletions(&services).await, LOST, "what only the lost transactions had was judged, and deleted");

    goes_on(&stand, &mut host, &services).await;
    imports_nothing(&stand, services).await;
    stand.close().await;
}

/// The epoch has risen once, to the new timeline, whoever noticed; and the reader said that an import is due.
fn risen_once(services: &[Process], timeline: &str) {
    let rises = rises(services);
    let [(last, epoch, lineage)] = rises.as_slice() else { panic!("the epoch rises once: {rises:?}") };
    assert!(epoch > last, "{rises:?}");
    let number = u32::from_str_radix(timeline, 16).unwrap();
    assert!(lineage.ends_with(&format!(":{number}:lsn")), "{lineage}: timeline {number}");
    assert!(services.iter().any(|service| service.log().contains("an import is due")), "it is said");
}

/// Events flow under the new epoch: what is written arrives although no import begins meanwhile.
async fn goes_on(stand: &Stand, host: &mut PgConnection, services: &[Process]) {
    is_followed(stand).await;
    let mut target = stand.connect().await;
    let mut round = 0;
    // An import that is still owed may be faster: then once more.
    eventually("the log brings what is written", async || {
        round += 1;
        let (run_before, told_before) = (last_run(stand), told(services).await);
        run(host, &format!("UPDATE items SET name = 'danach', stock = {round} WHERE id <= 100")).await;
        eventually("it is written", async || {
            let written = format!("SELECT count(*) FROM copy WHERE name = 'danach' AND stock = {round}");
            count(&mut target, &written).await == 100
        })
        .await;
        told(services).await >= told_before + 100.0 && last_run(stand)["id"] == run_before["id"]
    })
    .await;
    run(host, "DELETE FROM items WHERE id BETWEEN 401 AND 410").await;
    stand.becomes_equal().await;
}

/// Ends the services; an import by hand then finds nothing to send.
async fn imports_nothing(stand: &Stand, services: Vec<Process>) {
    nothing_is_planned(stand).await;
    stop(stand, services).await;
    let (code, stdout, stderr) = stand.fides(&["sync", "--once", "--json"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let rows: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&rows[0]["published"], &rows[0]["error"]), (&0.into(), &serde_json::Value::Null), "{rows}");
    assert!(rows[0]["read"].as_u64().unwrap() > 0, "{rows}");
}

/// The standby that takes over never had the last transactions, nor the slot of the reader.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_lacks_the_last_transactions() {
    fails_over("failover", Slot::Absent).await;
}

/// The same, and the slot is there again: it keeps nothing of what was between.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_whose_slot_somebody_made_anew() {
    fails_over("failslot", Slot::MadeAnew).await;
}
