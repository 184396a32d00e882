//! What waits, waits quietly; what is broken stops nothing else; who leaves is replaced.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, PgConnection};

use crate::proxy::Weather;
use crate::services::Process;
use crate::stand::{Stand, rows};

/// Waits for a condition.
async fn until(what: &str, within: Duration, mut condition: impl AsyncFnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    started.elapsed()
}

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::query(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

async fn terminate(services: impl IntoIterator<Item = Process>) {
    for mut service in services {
        let status = service.terminate().await;
        assert!(status.success(), "{}: {status}", service.name);
    }
}

/// While the target is away: the breaker is open, the lanes hold their messages, memory is flat, nothing is redelivered
/// in a loop. When it is back, publishing goes on within five seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_away() {
    let stand = Stand::new("away", "limits: { lanes: 4, lease_ms: 3000 }").await;
    let mut host = stand.fill(rows()).await;
    let services = [stand.start("importer", 0), stand.start("publishing-consumer", 0)];
    let consumer = &services[1];
    stand.becomes_equal().await;

    stand.before_target.set(Weather::Refuse);
    run(&mut host, "UPDATE items SET stock = -1 WHERE id % 2 = 0").await;
    let minute = Duration::from_mins(1);
    until("the breaker is open", minute, async || {
        consumer.metric("fides_breaker_state", &["target target"]).await >= 2.0
    })
    .await;
    until("the lanes are paused", minute, async || consumer.metric("fides_lanes_paused", &[]).await >= 4.0).await;
    let redelivered = consumer.metric("fides_messages_redelivered_total", &[]).await;
    let memory_kib = consumer.memory_kib();
    // Long enough for a loop to show itself: the lanes probe every second.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let queued: serde_json::Value = serde_json::from_str(&stand.fides(&["status", "--json"]).1).unwrap();
    assert!(queued.to_string().contains("\"depth\""), "{queued}");
    let depth: u64 = depths(&queued);
    assert!(depth > 0, "the lanes hold what could not be written: {queued}");
    assert!(
        consumer.metric("fides_messages_redelivered_total", &[]).await <= redelivered + 4.0,
        "nothing is redelivered in a loop"
    );
    let grown_kib = consumer.memory_kib().saturating_sub(memory_kib);
    assert!(grown_kib < 8 << 10, "memory grew by {grown_kib} KiB");
    assert!(stand.before_target.struck() > 0, "the target was really cut off");

    let written = consumer.metric("fides_records_written_total", &[]).await;
    stand.before_target.set(Weather::Fair);
    let resumed = until("publishing goes on", Duration::from_secs(5), async || {
        consumer.metric("fides_records_written_total", &[]).await > written
    })
    .await;
    println!("publishing went on {resumed:?} after the target came back");
    stand.becomes_equal().await;
    terminate(services).await;
    stand.close().await;
}

fn depths(status: &serde_json::Value) -> u64 {
    match status {
        serde_json::Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| if name == "depth" { value.as_u64().unwrap_or(0) } else { depths(value) })
            .sum(),
        serde_json::Value::Array(items) => items.iter().map(depths).sum(),
        _ => 0,
    }
}

/// One record that the target refuses among many: the others arrive, it is a dead letter with its reason, and once the
/// target takes it a replay delivers it.
#[tokio::test(flavor = "multi_thread")]
async fn a_poison_record() {
    let stand = Stand::new("poison", "limits: { lanes: 4, lease_ms: 3000 }").await;
    let mut host = stand.fill(rows()).await;
    let mut target = stand.connect().await;
    run(&mut target, "CREATE TABLE copy (LIKE items INCLUDING ALL, CONSTRAINT mild CHECK (name <> 'Gift'))").await;
    run(&mut host, "UPDATE items SET name = 'Gift' WHERE id = 777").await;
    let services = [stand.start("importer", 0), stand.start("publishing-consumer", 0)];
    stand.has_copied(rows() - 1).await;

    let dead = until_dead(&stand).await;
    let letter = dead.as_array().and_then(|letters| letters.first()).unwrap().clone();
    assert!(letter.to_string().contains("777") && letter.to_string().contains("mild"), "{letter}");
    run(&mut target, "ALTER TABLE copy DROP CONSTRAINT mild").await;
    let (code, stdout, stderr) = stand.fides(&["dead", "replay", &stand.pipeline, "--all"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    stand.becomes_equal().await;
    terminate(services).await;
    stand.close().await;
}

async fn until_dead(stand: &Stand) -> serde_json::Value {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let (_, stdout, _) = stand.fides(&["dead", "list", &stand.pipeline, "--json"]);
        let letters: serde_json::Value = serde_json::from_str(&stdout).unwrap_or_default();
        if letters.as_array().is_some_and(|letters| !letters.is_empty()) {
            return letters;
        }
        assert!(Instant::now() < deadline, "no dead letter: {stdout}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Three consumers share eight lanes; after one dies the others have four each within a lease. Every write of the target
/// is recorded: no key ever goes back.
#[tokio::test(flavor = "multi_thread")]
async fn consumers_share_the_lanes() {
    let lease = Duration::from_secs(3);
    let stand = Stand::new("share", "limits: { lanes: 8, lease_ms: 3000 }").await;
    let mut host = stand.fill(2_000).await;
    let importer = stand.start("importer", 0);
    let mut consumers: Vec<Process> = (0..3).map(|index| stand.start("publishing-consumer", index)).collect();
    stand.becomes_equal().await;
    let mut target = stand.connect().await;
    run(&mut target, "CREATE TABLE written (at bigserial, id bigint, stock int)").await;
    run(
        &mut target,
        "CREATE FUNCTION record() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         INSERT INTO written (id, stock) VALUES (NEW.id, NEW.stock); RETURN NEW; END $$",
    )
    .await;
    run(&mut target, "CREATE TRIGGER record AFTER INSERT OR UPDATE ON copy FOR EACH ROW EXECUTE FUNCTION record()")
        .await;

    until("three, three and two", 4 * lease, async || owned(&consumers).await == [2, 3, 3]).await;
    // Stock only rises: whatever the target records must rise too.
    for round in 1..=12 {
        run(&mut host, &format!("UPDATE items SET stock = {}", 10_000 * round)).await;
        if round == 6 {
            assert!(consumers.remove(0).kill());
            let moved = until("four and four", lease + lease / 2, async || owned(&consumers).await == [4, 4]).await;
            println!("four and four {moved:?} after the kill");
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    stand.becomes_equal().await;
    let rows: Vec<(i64, i32)> =
        sqlx::query_as("SELECT id, stock FROM written ORDER BY at").fetch_all(&mut target).await.unwrap();
    let mut last: BTreeMap<i64, i32> = BTreeMap::new();
    for (id, stock) in &rows {
        let before = last.insert(*id, *stock).unwrap_or(0);
        assert!(before <= *stock, "record {id} went back from {before} to {stock}");
    }
    assert!(rows.len() > 4_000, "{} writes were recorded", rows.len());
    terminate(consumers.into_iter().chain([importer])).await;
    stand.close().await;
}

async fn owned(consumers: &[Process]) -> Vec<u64> {
    let mut owned = Vec::new();
    for consumer in consumers {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
        owned.push(consumer.metric("fides_lanes_owned", &[]).await as u64);
    }
    owned.sort_unstable();
    owned
}

/// Redis is emptied while a lane still holds an old upsert whose newer delete was applied: nothing is resurrected, and
/// what only the target has goes (L11).
#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_resurrects_nothing() {
    let mut stand = Stand::new("tombstone", "limits: { lanes: 1, lease_ms: 3000, delete_ratio_max: 0.5 }").await;
    let mut host = stand.fill(2_000).await;
    let importer = stand.start("importer", 0);
    let mut consumer = stand.start("publishing-consumer", 0);
    stand.becomes_equal().await;

    // What is queued while nobody consumes becomes old when everything is lost.
    assert!(consumer.kill());
    run(&mut host, "UPDATE items SET name = 'alt' WHERE id <= 500").await;
    let minute = Duration::from_mins(1);
    until("the updates are queued", minute, async || {
        depths(&serde_json::from_str(&stand.fides(&["status", "--json"]).1).unwrap_or_default()) > 0
    })
    .await;
    run(&mut host, "DELETE FROM items WHERE id <= 250").await;
    let mut target = stand.connect().await;
    run(&mut target, "DELETE FROM copy WHERE id <= 100").await;
    stand.redis.lose_everything().await;
    consumer.restart();
    stand.becomes_equal().await;
    let risen: i64 =
        sqlx::query_scalar("SELECT count(*) FROM copy WHERE id <= 250").fetch_one(&mut target).await.unwrap();
    assert_eq!(risen, 0);
    assert!((importer.log() + &consumer.log()).contains("the epoch has risen"));
    terminate([importer, consumer]).await;
    stand.close().await;
}

/// Six cuts of all connections while one batch is in hand dead-letter nothing.
#[tokio::test(flavor = "multi_thread")]
async fn six_cuts_on_one_batch() {
    let stand = Stand::new("cuts", "limits: { lanes: 1, lease_ms: 3000 }").await;
    let mut host = stand.fill(2_000).await;
    let services = [stand.start("importer", 0), stand.start("publishing-consumer", 0)];
    let consumer = &services[1];
    stand.becomes_equal().await;
    // The batch cannot be settled while the target is silent.
    stand.before_target.set(Weather::Refuse);
    run(&mut host, "UPDATE items SET stock = -7").await;
    let minute = Duration::from_mins(1);
    until("the lane is paused", minute, async || consumer.metric("fides_lanes_paused", &[]).await >= 1.0).await;
    for _ in 0..6 {
        let before = stand.before_broker.struck();
        until("a connection is cut", minute, async || {
            stand.before_broker.cut();
            stand.before_broker.struck() > before
        })
        .await;
    }
    stand.before_target.set(Weather::Fair);
    stand.becomes_equal().await;
    terminate(services).await;
    stand.close().await;
}

/// A Redis that may forget what it confirmed is refused by `check`, unless the setting is accepted by its name (L11).
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_forgets_is_refused() {
    let stand = Stand::new("check", "").await;
    stand.fill(10).await;
    let (code, stdout, stderr) = stand.fides(&["check", "--connect"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    stand.redis.set("appendfsync", "everysec").await;
    let (code, stdout, stderr) = stand.fides(&["check", "--connect"]);
    let told = stdout + &stderr;
    assert!(code == Some(64) && told.contains("backplane.redis") && told.contains("appendfsync"), "{code:?} {told}");
    let text = std::fs::read_to_string(&stand.config).unwrap();
    std::fs::write(&stand.config, text.replace("/0\" }", "/0\", accept: [appendfsync] }")).unwrap();
    let (code, stdout, stderr) = stand.fides(&["check", "--connect"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    stand.close().await;
}

/// Services wait for parts that are not there yet, and say what for.
#[tokio::test(flavor = "multi_thread")]
async fn parts_that_come_later() {
    let stand = Stand::new("later", "limits: { lanes: 2, lease_ms: 3000 }").await;
    stand.fill(100).await;
    stand.before_broker.set(Weather::Refuse);
    let services = [stand.start("importer", 0), stand.start("publishing-consumer", 0)];
    let minute = Duration::from_mins(1);
    until("it says what it waits for", minute, async || {
        let (status, body) = services[0].probe("/readyz").await;
        status.contains("503") && body.contains("backplane.amqp")
    })
    .await;
    assert!(services[0].probe("/healthz").await.0.contains("200"), "it lives all the same");
    stand.before_broker.set(Weather::Fair);
    stand.becomes_equal().await;
    until("it is ready", minute, async || services[0].probe("/readyz").await.0.contains("200")).await;
    terminate(services).await;
    stand.close().await;
}

/// A store of dead letters that is full pauses the lane and says so; nothing is dropped, and room lets it go on.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_that_find_no_room() {
    let stand = Stand::new("full", "limits: { lanes: 1, lease_ms: 3000 }").await;
    let text = std::fs::read_to_string(&stand.config).unwrap();
    std::fs::write(&stand.config, text.replace("/0\" }", "/0\", dead_letters_max: 1 }")).unwrap();
    let mut host = stand.fill(500).await;
    let mut target = stand.connect().await;
    run(&mut target, "CREATE TABLE copy (LIKE items INCLUDING ALL, CONSTRAINT mild CHECK (name <> 'Gift'))").await;
    let services = [stand.start("importer", 0), stand.start("publishing-consumer", 0)];
    stand.has_copied(500).await;
    // One after the other: the first takes the only place.
    run(&mut host, "UPDATE items SET name = 'Gift' WHERE id = 7").await;
    until_dead(&stand).await;
    run(&mut host, "UPDATE items SET name = 'Gift' WHERE id IN (8, 9)").await;
    until("it says that there is no room", Duration::from_mins(1), async || {
        services[1].log().contains("dead letters are full")
    })
    .await;
    assert!(services[1].metric("fides_lanes_paused", &[]).await >= 1.0);
    run(&mut target, "ALTER TABLE copy DROP CONSTRAINT mild").await;
    let (code, stdout, stderr) = stand.fides(&["dead", "replay", &stand.pipeline, "--all"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    stand.becomes_equal().await;
    terminate(services).await;
    stand.close().await;
}
