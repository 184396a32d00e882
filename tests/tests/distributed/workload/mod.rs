//! A workload of everything that a log can tell, about records and the rows that are nested into them, while the services
//! that read it are killed and everything is imported beside it. The target records what is written to it.

mod history;
mod host;

use std::time::Duration;

use futures::future::join_all;

use crate::follows::{followed, nothing_is_planned};
use crate::services::Process;
use crate::stand::Stand;
use crate::until::{MINUTE, until};
use history::History;
use host::Host;

const OPTIONS: &str = "events: log\n    include: \
    { lines: { from: parts, on: { item: id }, as: many, order_by: ['no'] } }\n    limits: { lanes: 4, lease_ms: 3000 }";

/// Rows of the table; each has three lines. One transaction changes all of them.
fn rows() -> i64 {
    match (fides_tests::released(), std::env::var_os("FIDES_TEST_LONG").is_some()) {
        (false, _) => 4_000,
        (true, false) => 40_000,
        (true, true) => 200_000,
    }
}

/// Who is killed, and whether full imports run beside the log.
struct Trouble {
    victims: &'static [&'static str],
    full_imports: bool,
}

const EVERYTHING: Trouble = Trouble { victims: &["event-handler", "importer"], full_imports: true };
/// No import, which begins when an importer starts, heals what the log would have missed.
const READERS: Trouble = Trouble { victims: &["event-handler"], full_imports: false };

#[tokio::test(flavor = "multi_thread")]
async fn of_postgres_beside_full_imports_and_kills() {
    under(Host::postgres("orders", OPTIONS).await, EVERYTHING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_postgres_whose_readers_alone_are_killed() {
    under(Host::postgres("readers", OPTIONS).await, READERS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_mariadb_beside_full_imports_and_kills() {
    under(Host::mariadb("morders", OPTIONS).await, EVERYTHING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_mariadb_whose_readers_alone_are_killed() {
    under(Host::mariadb("mreaders", OPTIONS).await, READERS).await;
}

async fn under((stand, mut host): (Stand, Host), trouble: Trouble) {
    host.fill(rows()).await;
    let mut services = stand.start_all();
    services.push(stand.start("event-handler", 1));
    stand.becomes_equal().await;
    let begun = first_imports(&services).await;
    let history = History::begin(&stand).await;

    let mut clock = Clock(0);
    let mut kills = 0;
    for round in 0..12 {
        for transaction in transactions(round, &mut clock) {
            host.run(&transaction).await;
        }
        if round == 5 {
            host.run(&format!("UPDATE items SET ratio = -id, n = {} WHERE id <= {}", clock.next(), rows())).await;
        }
        if trouble.full_imports && round % 3 == 0 {
            let (code, stdout, stderr) = stand.fides(&["reimport", &stand.pipeline, "--full"]);
            assert_eq!(code, Some(0), "{stdout}{stderr}");
        }
        for service in services.iter_mut().filter(|it| round % 3 == 1 && trouble.victims.contains(&it.name)) {
            kills += usize::from(service.kill());
            service.restart();
        }
    }
    // Two of each, in four rounds.
    assert!(kills >= 6 * trouble.victims.len(), "{kills} kills");
    stand.becomes_equal().await;
    let handlers = services.iter().filter(|service| service.name == "event-handler");
    let told: f64 = join_all(handlers.map(followed)).await.iter().sum();
    assert!(told > 0.0, "the log told something");
    nothing_is_planned(&stand).await;
    if !trouble.full_imports {
        assert_eq!(imports(&services), begun, "no import has healed anything");
    }
    history.was_in_order().await;
    for service in &mut services {
        let status = service.terminate().await;
        assert!(status.success(), "{}: {status}", service.name);
    }
    host.close(&stand).await;
    stand.close().await;
}

/// The first opening of the log owes an import: that is over when no more of them come. How many there were.
async fn first_imports(services: &[Process]) -> usize {
    let mut begun = 0;
    until("the first imports are over", MINUTE, async || {
        let earlier = std::mem::replace(&mut begun, imports(services));
        tokio::time::sleep(Duration::from_secs(4)).await;
        begun > 0 && begun == earlier
    })
    .await;
    begun
}

/// How many imports have come to their end.
fn imports(services: &[Process]) -> usize {
    services.iter().map(|service| service.log().matches("\"import finished\"").count()).sum()
}

/// What every row that is written gets as its `n`, so that of two states of a row the newer is known.
struct Clock(i64);

impl Clock {
    fn next(&mut self) -> i64 {
        self.0 += 1;
        self.0
    }
}

/// The transactions of a round, which touch three hundred records of their own.
fn transactions(round: i64, clock: &mut Clock) -> Vec<String> {
    let at = 1 + round * 300;
    let ten = |from: i64| format!("BETWEEN {} AND {}", at + from, at + from + 9);
    let mut n = || clock.next();
    vec![
        format!("UPDATE items SET stock = {round}, body = repeat('b', 100000), n = {} WHERE id {}", n(), ten(0)),
        // The large value is not in the log of PostgreSQL this time.
        format!("UPDATE items SET name = 'anders № {round}', n = {} WHERE id {}", n(), ten(0)),
        format!("DELETE FROM items WHERE id {}", ten(20)),
        // A record and its lines under another key; then lines that stay behind.
        format!(
            "BEGIN; UPDATE items SET id = id + 100000000, n = {} WHERE id {}; \
             UPDATE parts SET item = item + 100000000, n = {} WHERE item {}; COMMIT",
            n(),
            ten(40),
            n(),
            ten(40)
        ),
        format!("UPDATE items SET id = id + 200000000, n = {} WHERE id {}", n(), ten(60)),
        "BEGIN; UPDATE items SET stock = -1, n = 0 WHERE id <= 10000; DELETE FROM items WHERE id % 2 = 0 AND id <= 10000; \
         UPDATE parts SET item = item + 1, no = no + 1000, n = 0 WHERE item <= 1000; ROLLBACK"
            .to_owned(),
        // One record many times in a transaction, gone and there again.
        format!(
            "BEGIN; UPDATE items SET stock = 1, n = {} WHERE id = {at}; UPDATE items SET stock = 2, n = {} WHERE id = {at}; \
             DELETE FROM items WHERE id = {at}; \
             INSERT INTO items (id, name, stock, ratio, n) VALUES ({at}, 'wieder da', 3, 0.1, {}); COMMIT",
            n(),
            n(),
            n()
        ),
        // There and back again.
        format!("UPDATE items SET stock = 1000, n = {} WHERE id {}", n(), ten(80)),
        format!("UPDATE items SET stock = 7, n = {} WHERE id {}", n(), ten(80)),
        // Lines that come, change, go, and move to another record.
        lines(&mut n, at, 100, 109, "INSERT INTO parts SELECT id, 9, 1, {n} FROM items WHERE id {these}"),
        lines(&mut n, at, 120, 129, "UPDATE parts SET quantity = quantity + 1, n = {n} WHERE no = 2 AND item {these}"),
        lines(&mut n, at, 140, 149, "DELETE FROM parts WHERE no = 1 AND item {these}"),
        lines(
            &mut n,
            at,
            160,
            174,
            "UPDATE parts SET item = item + 5, no = no + 100, n = {n} WHERE no = 1 AND item {these}; \
             UPDATE items SET stock = 12, n = {n} WHERE id {these}",
        ),
        // A move there and back, and records that go with all their lines.
        lines(&mut n, at, 180, 209, "UPDATE parts SET item = item + 20, no = no + 200, n = {n} WHERE no = 2 AND item {these}"),
        lines(&mut n, at, 180, 229, "UPDATE parts SET item = item - 20, no = no - 200, n = {n} WHERE no = 202 AND item {these}"),
        format!("BEGIN; DELETE FROM parts WHERE item {}; DELETE FROM items WHERE id {}; COMMIT", ten(210), ten(210)),
    ]
}

/// A transaction that changes lines of the records from `from` to `to` of a round: `{these}`. Line 0 of each, and of those that a
/// line may move to, tells of it: so that also a state that lacks a line, or has one too many, is known to be older.
fn lines(n: &mut impl FnMut() -> i64, at: i64, from: i64, to: i64, sql: &str) -> String {
    let (n, first, last) = (n(), at + from, at + to);
    let sql = sql.replace("{n}", &n.to_string()).replace("{these}", &format!("BETWEEN {first} AND {last}"));
    format!("BEGIN; {sql}; UPDATE parts SET n = {n} WHERE no = 0 AND item BETWEEN {first} AND {}; COMMIT", last + 20)
}
