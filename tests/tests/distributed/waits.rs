//! What waits, waits quietly; what is broken stops nothing else; who leaves is replaced.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::asks::ask_until_ended;
use crate::proxy::Weather;
use crate::services::Process;
use crate::stand::{Stand, rows};
use crate::until::{MINUTE, until};

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::query(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

async fn terminate(services: impl IntoIterator<Item = Process>) {
    for mut service in services {
        let status = service.terminate().await;
        assert!(status.success(), "{}: {status}", service.name);
    }
}

/// While the target is away: the breaker is open, the lanes hold their messages, memory is flat, and what was in hand
/// returned once. When it is back, publishing goes on within five seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_away() {
    let stand = Stand::new("away", "limits: { lanes: 4, lease_ms: 3000, batch_records_max: 100 }").await;
    let mut host = stand.fill(rows()).await;
    let services = [stand.start("importer", 0), stand.start("publishing-consumer", 0)];
    let consumer = &services[1];
    stand.becomes_equal().await;
    // It has worked once: what it holds by now it needs to work.
    let memory_kib = consumer.memory_kib();
    let redelivered = async || consumer.metric("fides_messages_redelivered_total", &[]).await;
    let before = redelivered().await;

    stand.before_target.set(Weather::Refuse);
    run(&mut host, "UPDATE items SET stock = -1 WHERE id % 2 = 0").await;
    until("the breaker is open", MINUTE, async || {
        consumer.metric("fides_breaker_state", &["target target"]).await >= 2.0
    })
    .await;
    until("the lanes are paused", MINUTE, async || consumer.metric("fides_lanes_paused", &[]).await >= 4.0).await;
    // The importer is done with what it had, and waits for its next fence.
    let mut held = 0;
    until("the lanes stand still", MINUTE, async || {
        let earlier = std::mem::replace(&mut held, stand.depth());
        tokio::time::sleep(Duration::from_secs(4)).await;
        held > 4 && held == earlier
    })
    .await;
    // Long enough for a loop to show itself: the lanes probe every second.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let depth = stand.depth();
    // The importer may have asked each lane for its marker once more meanwhile.
    assert!((held..=held + 4).contains(&depth), "the lanes hold what could not be written: {held}, then {depth}");
    let grown_kib = consumer.memory_kib().saturating_sub(memory_kib);
    assert!(grown_kib < 16 << 10, "memory grew by {grown_kib} KiB");
    assert!(stand.before_target.struck() > 0, "the target was really cut off");

    let written = consumer.metric("fides_records_written_total", &[]).await;
    stand.before_target.set(Weather::Fair);
    let resumed = until("publishing goes on", Duration::from_secs(5), async || {
        consumer.metric("fides_records_written_total", &[]).await > written
    })
    .await;
    println!("publishing went on {resumed:?} after the target came back");
    stand.becomes_equal().await;
    let returned = redelivered().await - before;
    // Every lane paused with messages in hand: when the target went, and at most once more while it came back and the
    // breaker let the claim of a lane through and not yet its first write.
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let most = 2.0 * held as f64;
    assert!(returned > 0.0 && returned <= most, "{returned} messages came again, of {held} that were held");
    terminate(services).await;
    stand.close().await;
}

/// Records that cannot be delivered among many: one that the target refuses, one that is too large, one whose value is no
/// number. The others arrive, each of the three is one dead letter with its reason and the trace of its message, and once
/// they are mended the services deliver them.
#[tokio::test(flavor = "multi_thread")]
async fn poison_records() {
    let stand = Stand::new("poison", "limits: { lanes: 4, lease_ms: 3000, record_bytes_max: 20000 }").await;
    let text = std::fs::read_to_string(&stand.config).unwrap();
    let mapping = "mapping: { id: id, name: name, grade: { from: code, cast: decimal } }";
    let text = text.replace("columns: '*'", mapping) + "log: { level: debug }\n";
    std::fs::write(&stand.config, text).unwrap();
    let mut host = stand.fill(rows()).await;
    let mut target = stand.connect().await;
    run(&mut target, "CREATE TABLE copy (id bigint PRIMARY KEY, name text, grade numeric)").await;
    run(&mut target, "ALTER TABLE copy ADD CONSTRAINT mild CHECK (name <> 'Gift')").await;
    run(&mut host, "ALTER TABLE items ADD COLUMN code text NOT NULL DEFAULT '7'").await;
    run(&mut host, "UPDATE items SET name = 'Gift' WHERE id = 777").await;
    run(&mut host, "UPDATE items SET name = repeat('x', 30000) WHERE id = 778").await;
    run(&mut host, "UPDATE items SET code = 'sieben' WHERE id = 779").await;
    let services = [stand.start("importer", 0), stand.start("publishing-consumer", 0)];
    let (importer, consumer) = (&services[0], &services[1]);
    stand.has_copied(rows() - 3).await;

    until("three are dead", MINUTE, async || dead(&stand).len() == 3).await;
    let finished = async || importer.log().matches("\"import finished\"").count();
    let before = finished().await;
    until("two more imports", MINUTE, async || finished().await >= before + 2).await;
    let letters = dead(&stand);
    assert_eq!(letters.len(), 3, "{letters:?}");
    for (letter, (id, why)) in letters.iter().zip([("777", "mild"), ("778", "record_bytes_max"), ("779", "sieben")]) {
        let told = letter.to_string();
        assert!(told.contains(id) && told.contains(why), "{id} because of {why}: {told}");
        let trace = letter["trace"].as_str().unwrap_or_default();
        assert!(trace.starts_with("00-") && trace.len() == 55, "{told}");
        let [_, id_of_trace, id_of_span, _] = trace.split('-').collect::<Vec<_>>()[..] else { panic!("{trace}") };
        let published =
            |line: &&str| ["\"publishing\"", id_of_trace, id_of_span].iter().all(|part| line.contains(part));
        // Once for every portion of its page.
        assert!(importer.log().lines().any(|line| published(&line)), "{id} was published under {trace}");
    }
    assert!((consumer.metric("fides_records_dead_total", &[]).await - 3.0).abs() < 0.5, "each died once");

    let written = consumer.metric("fides_records_written_total", &[]).await;
    run(&mut target, "ALTER TABLE copy DROP CONSTRAINT mild").await;
    run(&mut host, "UPDATE items SET name = 'kurz' WHERE id = 778").await;
    run(&mut host, "UPDATE items SET code = '7' WHERE id = 779").await;
    // By a command to the services: `fides dead replay` consumes beside them, and may write some of it itself.
    let replay = json!({ "id": "replay", "requester": "test", "command": "replay", "pipeline": stand.pipeline });
    let answer = ask_until_ended(&stand, &replay).await;
    assert_eq!(answer["status"], "done", "{answer}");
    until("the services deliver all three", MINUTE, async || {
        consumer.metric("fides_records_written_total", &[]).await >= written + 3.0
    })
    .await;
    stand.becomes_equal().await;
    terminate(services).await;
    stand.close().await;
}

/// The dead letters, by key.
fn dead(stand: &Stand) -> Vec<serde_json::Value> {
    let (_, stdout, _) = stand.fides(&["dead", "list", &stand.pipeline, "--json"]);
    serde_json::from_str(&stdout).unwrap_or_default()
}

async fn until_dead(stand: &Stand) {
    until("a record is dead", MINUTE, async || !dead(stand).is_empty()).await;
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

/// Services wait for parts that are not there yet, whichever comes last, and name those and no other.
#[tokio::test(flavor = "multi_thread")]
async fn parts_that_come_later() {
    let stand = Stand::new("later", "limits: { lanes: 2, lease_ms: 3000 }").await;
    stand.fill(100).await;
    let mut services = [stand.start("importer", 0), stand.start("publishing-consumer", 0)];
    for (part, proxy) in [
        ("backplane.amqp", &stand.before_broker),
        ("backplane.redis", &stand.before_redis),
        ("hosts.host", &stand.before_host),
        ("targets.target", &stand.before_target),
    ] {
        proxy.set(Weather::Refuse);
        for service in &mut services {
            service.kill();
            service.restart();
            let named = BTreeSet::from([part.to_owned(), "start".to_owned()]);
            until(&format!("it waits for {part} alone"), MINUTE, async || {
                let waits_for = service.waits_for().await;
                let told = waits_for.get(part).is_some_and(|why| why.contains("refused"));
                told && waits_for.into_keys().collect::<BTreeSet<_>>() == named
            })
            .await;
            assert!(service.probe("/healthz").await.0.contains("200"), "it lives all the same");
        }
        proxy.set(Weather::Fair);
        for service in &services {
            until("it is ready", MINUTE, async || service.waits_for().await.is_empty()).await;
        }
    }
    stand.becomes_equal().await;
    terminate(services).await;
    stand.close().await;
}

/// A part that goes away later is named by the services that need it, and only by them, and not once it is back.
#[tokio::test(flavor = "multi_thread")]
async fn parts_that_go_away() {
    let stand = Stand::new("gone", "limits: { lanes: 2, lease_ms: 3000 }").await;
    stand.fill(100).await;
    let services = [stand.start("importer", 0), stand.start("publishing-consumer", 0)];
    stand.becomes_equal().await;
    for (part, proxy, concerns) in [
        ("hosts.host", &stand.before_host, [true, false]),
        ("targets.target", &stand.before_target, [false, true]),
        ("backplane.redis", &stand.before_redis, [true, true]),
        ("backplane.amqp", &stand.before_broker, [true, true]),
    ] {
        proxy.set(Weather::Refuse);
        for (service, concerns) in services.iter().zip(concerns) {
            if concerns {
                let named = async || service.waits_for().await.into_keys().eq([part.to_owned()]);
                until(&format!("{} waits for {part}", service.name), MINUTE, named).await;
            }
        }
        // Whoever it does not concern has asked its own parts several times by now.
        for (service, _) in services.iter().zip(concerns).filter(|(_, concerns)| !concerns) {
            assert!(service.waits_for().await.is_empty(), "{} does not need {part}", service.name);
        }
        proxy.set(Weather::Fair);
        for service in &services {
            until("it is ready again", MINUTE, async || service.waits_for().await.is_empty()).await;
        }
    }
    terminate(services).await;
    stand.close().await;
}

/// A connection to the broker on which nothing arrives any more is noticed by its heartbeat, also where nothing is to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_falls_silent() {
    /// What the broker is asked for.
    const HEARTBEAT: Duration = Duration::from_secs(10);
    let stand = Stand::unscheduled("silent", "limits: { lanes: 2, lease_ms: 3000 }").await;
    stand.fill(100).await;
    let services = [stand.start("importer", 0), stand.start("publishing-consumer", 0)];
    stand.becomes_equal().await;
    let owned = async || services[1].metric("fides_lanes_owned", &[]).await;
    until("the lanes are consumed", MINUTE, async || owned().await >= 2.0).await;
    stand.before_broker.set(Weather::Silence);
    let noticed = until("it is noticed", 3 * HEARTBEAT, async || owned().await < 1.0).await;
    println!("noticed {noticed:?} after the silence began");
    let log = services[1].log();
    assert!(log.lines().any(|line| line.contains("lane paused") && line.contains("RabbitMQ")), "it is said: {log}");
    stand.before_broker.set(Weather::Fair);
    until("the lanes are consumed again", MINUTE, async || owned().await >= 2.0).await;
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
    until("it says that there is no room", MINUTE, async || services[1].log().contains("dead letters are full")).await;
    let paused = async || services[1].metric("fides_lanes_paused", &[]).await >= 1.0;
    until("its lane is paused", MINUTE, paused).await;
    run(&mut target, "ALTER TABLE copy DROP CONSTRAINT mild").await;
    let (code, stdout, stderr) = stand.fides(&["dead", "replay", &stand.pipeline, "--all"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    stand.becomes_equal().await;
    terminate(services).await;
    stand.close().await;
}
