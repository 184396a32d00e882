//! A commit that the log tells of before any snapshot sees it: with a synchronous standby that does not answer, a server
//! keeps what it has committed from its readers for as long as it waits (DESIGN §5).

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::cluster::Cluster;
use crate::follows::{is_followed, run, stop};
use crate::services::Process;
use crate::stand::{Stand, eventually};

const ROWS: i64 = 20_000;

/// Small pages, so that an import takes its time; and a lease that outlasts a reader that is held.
const OPTIONS: &str =
    "events: log\n    limits: { lanes: 4, lease_ms: 60000, page_records_max: 50, host_partitions: 1 }";

fn latest_run(stand: &Stand) -> Value {
    let (code, stdout, stderr) = stand.fides(&["status", "--json"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    serde_json::from_str::<Value>(&stdout).unwrap()[0]["run"].take()
}

/// The stock of the last row: what every import reads last.
async fn stock(connection: &mut PgConnection, table: &str) -> i64 {
    let sql = format!("SELECT stock::bigint FROM {table} WHERE id = {ROWS}");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await.unwrap()
}

/// Lets every commit of the host wait for a standby that there is not, or for none.
async fn await_standby(host: &mut PgConnection, standby: &str) {
    run(host, &format!("ALTER SYSTEM SET synchronous_standby_names = '{standby}'")).await;
    run(host, "SELECT pg_reload_conf()").await;
    eventually("the setting counts", async || {
        let setting: String = sqlx::query_scalar("SHOW synchronous_standby_names").fetch_one(&mut *host).await.unwrap();
        setting == standby
    })
    .await;
}

fn reimport(stand: &Stand) {
    let (code, stdout, stderr) = stand.fides(&["reimport", &stand.pipeline, "--full"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
}

/// Whether somebody waits for a position that no open transaction can change any more.
async fn is_waited_for(host: &mut PgConnection) -> bool {
    const WAITING: &str = "SELECT EXISTS (SELECT FROM pg_replication_slots JOIN pg_stat_activity ON pid = active_pid \
        WHERE temporary AND slot_name LIKE 'fides_snapshot_%' AND wait_event_type = 'Lock')";
    sqlx::query_scalar(WAITING).fetch_one(host).await.unwrap()
}

/// An import reads and sends the old row after the log has brought the new one, and another import begins while the commit
/// still waits: the newer value wins, and stays.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_tells_before_it_is_visible_is_not_reverted() {
    let cluster = Cluster::start(&[]).await;
    let stand = Stand::with_host("window", OPTIONS, cluster.url("postgres")).await;
    let mut host = stand.fill(ROWS).await;
    let mut target = stand.connect().await;
    // One importer: another one would want a snapshot of its own.
    let services: Vec<Process> =
        ["importer", "publishing-consumer", "event-handler"].map(|name| stand.start(name, 0)).into();
    stand.becomes_equal().await;
    is_followed(&stand).await;
    let old = stock(&mut host, "items").await;

    let (importer, consumer) = (&services[0], &services[1]);
    let stale = async || consumer.metric("fides_records_stale_total", &[]).await;
    let stale_before = stale().await;
    let read = importer.metric("fides_records_read_total", &[]).await;
    reimport(&stand);
    // It has its snapshot, and is held before it reads the last row.
    eventually("a full import reads", async || importer.metric("fides_records_read_total", &[]).await > read).await;
    importer.signal("STOP");
    await_standby(&mut host, "nobody").await;
    let mut writer = stand.connect_host().await;
    let write = format!("UPDATE items SET stock = -77 WHERE id = {ROWS}");
    let writing = tokio::spawn(async move { run(&mut writer, &write).await });
    eventually("the log brings the new value", async || stock(&mut target, "copy").await == -77).await;
    assert_eq!(stock(&mut host, "items").await, old, "no snapshot sees it yet");
    assert!(latest_run(&stand)["ended_ms"].is_null(), "the import is still under way");

    importer.signal("CONT");
    eventually("the import ends", async || latest_run(&stand)["ended_ms"].is_u64()).await;
    let run = latest_run(&stand);
    assert_eq!(run["counts"]["published"], ROWS, "it has sent the old row: {run}");
    // Not that the lanes are empty: what the consumer has in hand would not be seen.
    eventually("the old row is met and left out", async || stale().await > stale_before).await;
    assert_eq!(stock(&mut host, "items").await, old, "the commit still waits");
    assert_eq!(stock(&mut target, "copy").await, -77, "the newer value has won");

    // No exact position can be had now: an import that begins waits until there is one.
    reimport(&stand);
    eventually("a slot of the import waits", async || is_waited_for(&mut host).await).await;
    assert!(!writing.is_finished());
    assert_eq!(stock(&mut target, "copy").await, -77);

    await_standby(&mut host, "").await;
    writing.await.unwrap();
    eventually("the second import ends", async || {
        let last = latest_run(&stand);
        last["id"] != run["id"] && last["ended_ms"].is_u64()
    })
    .await;
    stand.becomes_equal().await;
    assert_eq!((stock(&mut host, "items").await, stock(&mut target, "copy").await), (-77, -77));
    stop(&stand, services).await;
    stand.close().await;
}
