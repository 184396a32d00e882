//! A commit that the log tells of before any snapshot sees it: with a synchronous standby that does not answer, a server
//! keeps what it has committed from its readers for as long as it waits (DESIGN §5).

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::cluster::Cluster;
use crate::follows::{is_followed, run, stop};
use crate::proxy::Weather;
use crate::services::Process;
use crate::stand::{Stand, eventually, rows};

const OPTIONS: &str = "events: log\n    limits: { lanes: 4, lease_ms: 3000, page_records_max: 250 }";

fn latest_run(stand: &Stand) -> Value {
    let (code, stdout, stderr) = stand.fides(&["status", "--json"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    serde_json::from_str::<Value>(&stdout).unwrap()[0]["run"].take()
}

/// The stock of the last row: what every import reads last.
async fn stock(connection: &mut PgConnection, table: &str) -> i32 {
    let sql = format!("SELECT stock FROM {table} WHERE id = {}", rows());
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

fn says(services: &[Process], text: &str) -> bool {
    services.iter().any(|service| service.log().contains(text))
}

/// An import reads and sends the old row after the log has brought the new one, and another import begins while the commit
/// still waits: the newer value wins, and stays.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_tells_before_it_is_visible_is_not_reverted() {
    let cluster = Cluster::start(&[]).await;
    let stand = Stand::with_host("window", OPTIONS, cluster.url("postgres")).await;
    let mut host = stand.fill(rows()).await;
    let mut target = stand.connect().await;
    let services = stand.start_all();
    stand.becomes_equal().await;
    is_followed(&stand).await;
    let before = latest_run(&stand);
    let old = stock(&mut host, "items").await;

    stand.before_host.set(Weather::Delay(std::time::Duration::from_millis(200)));
    reimport(&stand);
    eventually("a full import reads", async || {
        let run = latest_run(&stand);
        run["id"] != before["id"] && run["counts"]["published"].as_i64() > Some(0)
    })
    .await;
    await_standby(&mut host, "nobody").await;
    let mut writer = stand.connect_host().await;
    let write = format!("UPDATE items SET stock = -77 WHERE id = {}", rows());
    let writing = tokio::spawn(async move { run(&mut writer, &write).await });
    eventually("the log brings the new value", async || stock(&mut target, "copy").await == -77).await;
    assert_eq!(stock(&mut host, "items").await, old, "no snapshot sees it yet");
    assert!(latest_run(&stand)["ended_ms"].is_null(), "the import is still under way");

    stand.before_host.set(Weather::Fair);
    eventually("the import ends", async || latest_run(&stand)["ended_ms"].is_u64()).await;
    let run = latest_run(&stand);
    assert_eq!(run["counts"]["published"], rows(), "it has sent the old row: {run}");
    eventually("what it sent is written", async || {
        let (_, stdout, _) = stand.fides(&["status", "--json"]);
        let status = serde_json::from_str::<Value>(&stdout).unwrap();
        status[0]["lanes"].as_array().unwrap().iter().all(|lane| lane["depth"] == 0)
    })
    .await;
    assert_eq!(stock(&mut host, "items").await, old, "the commit still waits");
    assert_eq!(stock(&mut target, "copy").await, -77, "the newer value has won");

    // No exact position can be had now: an import that begins waits for it, and says for what.
    reimport(&stand);
    eventually("it is said what an import waits for", async || {
        says(&services, "a new slot waits until transactions that write have ended")
    })
    .await;
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
