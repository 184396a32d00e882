//! Turns of the schedule over several importers: each is taken once, by all of them together.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::{AssertSqlSafe, PgConnection};

use crate::proxy::Weather;
use crate::services::Process;
use crate::stand::Stand;
use crate::until::{MINUTE, until};

const EVERY_MS: u64 = 4_000;
/// Every fourth second.
const SCHEDULE: &str = "schedule: \"*/4 * * * * *\"";

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// When the imports that have ended began, in order: a run is named by that.
fn begun(services: &[Process]) -> Vec<u64> {
    let log: String = services.iter().map(Process::log).collect();
    let mut begun: Vec<u64> = log
        .lines()
        .filter(|line| line.contains("\"import finished\""))
        .map(|line| {
            let told: serde_json::Value = serde_json::from_str(line).unwrap();
            let name = told["fides.run"].as_str().unwrap_or_else(|| panic!("a run has a name: {line}"));
            name.split('-').nth(1).and_then(|started| started.parse().ok()).unwrap_or_else(|| panic!("{name}"))
        })
        .collect();
    begun.sort_unstable();
    begun
}

async fn terminate(services: impl IntoIterator<Item = Process>) {
    for mut service in services {
        let status = service.terminate().await;
        assert!(status.success(), "{}: {status}", service.name);
    }
}

/// Two importers take every turn once; turns that both missed are made up for by one import, although both notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_taken_once_and_missed_turns_are_one() {
    let options = format!("{SCHEDULE}\n    limits: {{ lanes: 2, lease_ms: 1000 }}");
    let stand = Stand::unscheduled("turns", &options).await;
    stand.fill(500).await;
    let consumer = stand.start("publishing-consumer", 0);
    let mut importers = [stand.start("importer", 0), stand.start("importer", 1)];
    until("four turns after the first import", 2 * MINUTE, async || begun(&importers).len() >= 5).await;
    let turns: Vec<u64> = begun(&importers)[1..].iter().map(|began| began / EVERY_MS).collect();
    assert!(turns.windows(2).all(|pair| pair[0] < pair[1]), "a turn was taken twice: {turns:?}");

    for importer in &mut importers {
        assert!(importer.terminate().await.success());
    }
    let before = begun(&importers).len();
    let stopped = now_ms() / EVERY_MS;
    // Two turns pass while nobody is there; right after the third the time until the next one is longest.
    until("turns are missed", MINUTE, async || now_ms() / EVERY_MS >= stopped + 3).await;
    let missed = now_ms() / EVERY_MS;
    for importer in &mut importers {
        importer.restart();
    }
    until("two more turns", MINUTE, async || begun(&importers).len() >= before + 3).await;
    let turns: Vec<u64> = begun(&importers)[before..].iter().map(|began| began / EVERY_MS).collect();
    assert!(turns[0] - missed <= 1, "what was missed is made up for at once: {turns:?} after {missed}");
    let twice = turns.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert_eq!(twice, 0, "missed turns were made up for by one import: {turns:?}");
    terminate(importers.into_iter().chain([consumer])).await;
    stand.close().await;
}

/// One run is read by both importers, and both publish what they read.
#[tokio::test(flavor = "multi_thread")]
async fn two_importers_read_one_run() {
    const ROWS: i64 = 6_000;
    let options = "limits: { lanes: 2, lease_ms: 1000, host_partitions: 2, page_records_max: 100 }";
    let stand = Stand::unscheduled("both", options).await;
    stand.fill(ROWS).await;
    // Slow enough for the second to come before the first has all ranges.
    stand.before_host.set(Weather::Delay(Duration::from_millis(50)));
    let services = [stand.start("importer", 0), stand.start("importer", 1), stand.start("publishing-consumer", 0)];
    let importers = &services[..2];
    until("the import is finished", 3 * MINUTE, async || begun(importers).len() == 1).await;
    stand.before_host.set(Weather::Fair);
    stand.becomes_equal().await;
    let mut total = 0.0;
    for importer in importers {
        for counter in ["fides_records_read_total", "fides_records_published_total"] {
            let count = importer.metric(counter, &[]).await;
            assert!(count > 0.0, "{counter} of one importer");
            total += count;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let expected = 2.0 * ROWS as f64;
    assert!((total - expected).abs() < 0.5, "every record was read and published once: {total}");
    assert_eq!(begun(importers).len(), 1, "by one run");
    terminate(services).await;
    stand.close().await;
}

/// An import of many pages that is asked to stop ends within its grace period, and the next one goes on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn an_importer_that_stops_under_load_is_gone_on_with() {
    const ROWS: i64 = 6_000;
    let options = "limits: { lanes: 2, lease_ms: 1000, host_partitions: 1, page_records_max: 100 }";
    let stand = Stand::unscheduled("leaves", options).await;
    let mut host = stand.fill(ROWS).await;
    stand.before_host.set(Weather::Delay(Duration::from_millis(20)));
    let mut importer = stand.start("importer", 0);
    let consumer = stand.start("publishing-consumer", 0);
    stand.has_copied(1).await;
    let began = std::time::Instant::now();
    let status = importer.terminate().await;
    assert!(status.success() && began.elapsed() < Duration::from_secs(30), "{status} after {:?}", began.elapsed());
    assert_eq!(begun(std::slice::from_ref(&importer)).len(), 0, "it was met in the middle");
    stand.before_host.set(Weather::Fair);
    run(&mut host, "UPDATE items SET stock = 5 WHERE id = 1").await;
    importer.restart();
    until("the run is finished", MINUTE, async || begun(std::slice::from_ref(&importer)).len() == 1).await;
    let stale = consumer.metric("fides_records_stale_total", &[]).await;
    // A page that was published without its cursor may come again, a range at a time; no more than that.
    assert!(stale <= 200.0, "{stale} records were published again");
    terminate([importer, consumer]).await;
    stand.close().await;
}
