//! Orders with their lines, from two tables into one document each in Cosmos DB, whose partition key is no part of the key:
//! an order moves with its region. The account is busy, answers 503, and loses connections after it has written.

use serde_json::json;

use crate::emulator::Emulator;
use crate::follows::{followed, is_followed, is_taken, nothing_is_planned, run, stop};
use crate::services::Process;
use crate::stand::Stand;

const OPTIONS: &str = "events: log\n    include: \
    { lines: { from: lines, on: { order_id: id }, as: many, order_by: ['no'] } }\n    \
    limits: { lanes: 4, lease_ms: 3000, write_timeout_ms_max: 10000, page_records_max: 5000 }";

/// What is tried: so many orders, of two lines each, against an account that grants so many request units per second, or all
/// that it is asked for.
struct Scale {
    orders: i64,
    units_per_second: Option<u32>,
}

fn is_long() -> bool {
    std::env::var_os("FIDES_TEST_LONG").is_some()
}

async fn fill(stand: &Stand, orders: i64) -> sqlx::PgConnection {
    let mut host = stand.connect_host().await;
    let sql = format!(
        "CREATE TABLE orders (id bigint PRIMARY KEY, region text NOT NULL, customer text, total numeric(12,2));
         CREATE TABLE lines (order_id bigint, no int, sku text, price numeric(12,2), PRIMARY KEY (order_id, no));
         INSERT INTO orders SELECT i, 'region ' || i % 7, 'Kunde № ' || i % 1000, i / 100.0
             FROM generate_series(1, {orders}) i;
         INSERT INTO lines SELECT i, n, 'sku/' || n || '#' || i % 50, (i % 5000) / 100.0
             FROM generate_series(1, {orders}) i, generate_series(1, 2) n;
         ANALYZE orders; ANALYZE lines"
    );
    run(&mut host, &sql).await;
    host
}

fn start(stand: &Stand) -> Vec<Process> {
    let consumers = (0..2).map(|index| stand.start("publishing-consumer", index));
    let others = ["importer", "cleanup-scheduler", "event-handler"].map(|name| stand.start(name, 0));
    consumers.chain(others).collect()
}

/// Of each kind of trouble some, all the time.
fn trouble(emulator: &Emulator) {
    let writes = json!(["create", "replace"]);
    for rule in [
        json!({ "operations": writes, "status": 429, "substatus": 3200, "retry_after_ms": 10, "every": 11 }),
        json!({ "operations": writes, "status": 503, "every": 997 }),
        json!({ "operations": writes, "drop": "after", "every": 331 }),
        json!({ "operations": writes, "drop": "before", "every": 397 }),
        json!({ "operations": ["query"], "status": 429, "substatus": 3200, "retry_after_ms": 10, "every": 13 }),
    ] {
        emulator.breaks(rule);
    }
}

/// Kills a consumer as kill -9 does, once it has written this life.
async fn kill_at_work(emulator: &Emulator, consumer: &mut Process) {
    let written = || emulator.stats()["operations"]["create"].as_u64().unwrap_or(0);
    let before = written();
    crate::until::until("the target is written", crate::until::MINUTE, async || written() > before + 200).await;
    assert!(consumer.kill(), "it was alive");
    consumer.restart();
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_and_their_lines_become_documents_that_move() {
    let stand = Stand::unscheduled("cosmos", OPTIONS).await;
    let orders = if is_long() { 100_000 } else { 1_000 };
    orders_become_documents(stand, Scale { orders, units_per_second: None }).await;
}

/// What an account grants is what it gets: it answers 429 to everything beyond, and no record is lost.
#[tokio::test(flavor = "multi_thread")]
async fn orders_become_documents_in_an_account_of_few_request_units() {
    let stand = Stand::unscheduled("throttled", OPTIONS).await;
    let (orders, units) = if is_long() { (5_000, 400) } else { (1_000, 800) };
    orders_become_documents(stand, Scale { orders, units_per_second: Some(units) }).await;
}

async fn orders_become_documents(stand: Stand, scale: Scale) {
    let emulator = Emulator::target_of(&stand);
    let mut host = fill(&stand, scale.orders).await;
    if let Some(units) = scale.units_per_second {
        emulator.grants(units);
    }
    trouble(&emulator);
    let mut services = start(&stand);
    for consumer in services.iter_mut().take(2) {
        kill_at_work(&emulator, consumer).await;
    }
    stand.has_marked(scale.orders.unsigned_abs()).await;
    stand.becomes_equal().await;
    is_followed(&stand).await;
    the_log_is_followed(&stand, &mut host, &services).await;
    let handler = services.iter().position(|service| service.name == "event-handler").unwrap();
    assert!(services[handler].terminate().await.success());
    what_nobody_told_is_found(&stand, &mut host).await;

    let fired = emulator.fired();
    assert!(fired.iter().all(|&times| times > 0), "every kind of trouble took place: {fired:?}");
    if scale.units_per_second.is_some() {
        let stats = emulator.stats();
        assert!(stats["throttled"].as_u64().unwrap() > 0, "{stats}");
    }
    for log in services.iter().map(Process::log) {
        assert!(!log.contains("has lost a marker"), "a slow target loses nothing: {log}");
    }
    for consumer in services.iter().filter(|service| service.name == "publishing-consumer") {
        let state = consumer.metric("fides_breaker_state", &["target"]).await;
        assert!(state.abs() < f64::EPSILON, "429 never opens a breaker: {state}");
    }
    services[handler].restart();
    stop(&stand, services).await;
    stand.close().await;
}

/// An event on a line updates its order's document; a region that changes moves it.
async fn the_log_is_followed(stand: &Stand, host: &mut sqlx::PgConnection, services: &[Process]) {
    run(host, "UPDATE lines SET price = price + 1 WHERE order_id % 10 = 0 AND no = 2").await;
    run(host, "UPDATE orders SET region = 'region ' || (id % 7 + 1) % 7 WHERE id % 10 = 3").await;
    run(host, "UPDATE orders SET region = 'südlich', total = total + 1 WHERE id % 20 = 3").await;
    run(host, "DELETE FROM lines WHERE order_id % 100 = 1; DELETE FROM orders WHERE id % 100 = 1").await;
    run(host, "INSERT INTO orders VALUES (1, 'region 6', 'wieder da', 1)").await;
    is_taken(stand, host).await;
    // Only what looks at the target slows it down.
    nothing_is_planned(stand).await;
    stand.becomes_equal().await;
    let handler = services.iter().find(|service| service.name == "event-handler").unwrap();
    assert!(followed(handler).await > 0.0, "the log told something");
}

/// Without the event handler a clean-up finds what is gone, and an import what is new.
async fn what_nobody_told_is_found(stand: &Stand, host: &mut sqlx::PgConnection) {
    run(host, "DELETE FROM lines WHERE order_id % 100 = 2; DELETE FROM orders WHERE id % 100 = 2").await;
    run(host, "UPDATE orders SET region = 'nördlich' WHERE id % 100 = 4").await;
    for command in ["cleanup", "reimport"] {
        let (_, stdout, stderr) = stand.fides(&[command, &stand.pipeline, "--wait", "--timeout", "1200", "--json"]);
        let answer: serde_json::Value = serde_json::from_str(&stdout).unwrap_or_default();
        assert_eq!(answer["status"], "done", "{command}: {stdout}{stderr}");
    }
    stand.lanes_run_empty().await;
    nothing_is_planned(stand).await;
    stand.becomes_equal().await;
}
