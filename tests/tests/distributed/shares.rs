//! Consumers that share the lanes: each lane has one writer, and no key ever goes back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};

use crate::lanes::{Held, lane};
use crate::proxy::Weather;
use crate::services::Process;
use crate::stand::Stand;
use crate::until::{MINUTE, until};

const LEASE: Duration = Duration::from_secs(3);
const LANES: u16 = 8;
const ROWS: i64 = 2_000;

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

/// Records every write of the target: a document's stock, or nothing where it was deleted.
async fn record_writes(target: &mut PgConnection) {
    run(
        target,
        "CREATE TABLE written (at bigserial PRIMARY KEY, id bigint NOT NULL, stock int); \
         CREATE FUNCTION record() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF TG_OP = 'DELETE' THEN INSERT INTO written (id) VALUES (OLD.id); \
         ELSE INSERT INTO written (id, stock) VALUES (NEW.id, NEW.stock); END IF; RETURN NULL; END $$; \
         CREATE TRIGGER record AFTER INSERT OR UPDATE OR DELETE ON copy FOR EACH ROW EXECUTE FUNCTION record()",
    )
    .await;
}

type Written = (i64, i64, Option<i32>);

async fn written(target: &mut PgConnection) -> Vec<Written> {
    sqlx::query_as("SELECT at, id, stock FROM written ORDER BY at").fetch_all(target).await.unwrap()
}

/// The stock of the host only rises, and a record that returns has a greater one than before it was deleted: so must every
/// key's at the target, write by write.
fn assert_order(written: &[Written]) {
    let mut last: BTreeMap<i64, (i32, bool)> = BTreeMap::new();
    for &(at, id, stock) in written {
        let (before, deleted) = last.get(&id).copied().unwrap_or((i32::MIN, false));
        let Some(stock) = stock else {
            last.insert(id, (before, true));
            continue;
        };
        let goes_on = if deleted { before < stock } else { before <= stock };
        assert!(goes_on, "write {at}: record {id} went back from {before} to {stock}, deleted in between: {deleted}");
        last.insert(id, (stock, false));
    }
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

/// Waits until the target is being written, and returns the last write then.
async fn is_moving(target: &mut PgConnection) -> i64 {
    let last = "SELECT coalesce(max(at), 0) FROM written";
    let began: i64 = sqlx::query_scalar(last).fetch_one(&mut *target).await.unwrap();
    let mut now = began;
    until("the target is written", MINUTE, async || {
        now = sqlx::query_scalar(last).fetch_one(&mut *target).await.unwrap();
        now > began
    })
    .await;
    now
}

/// Gives every record the stock of a round; some are deleted in one and return in the next.
async fn change(host: &mut PgConnection, round: i64) {
    let (stock, at) = (10_000 * round, round % 10);
    run(
        host,
        &format!(
            "BEGIN; UPDATE items SET stock = {stock}; \
             INSERT INTO items SELECT i, 'wieder da', 1, {stock}, true, '{{}}', now(), 0 \
               FROM generate_series(1, {ROWS}) i ON CONFLICT DO NOTHING; \
             DELETE FROM items WHERE id % 50 = {at}; COMMIT"
        ),
    )
    .await;
}

/// Three consumers share eight lanes; after one dies amid its writes the others have four each as soon as its lease is
/// over, and write all of them.
#[tokio::test(flavor = "multi_thread")]
async fn consumers_share_the_lanes() {
    let stand = Stand::new("share", "limits: { lanes: 8, lease_ms: 3000, delete_ratio_max: 1 }").await;
    let mut host = stand.fill(ROWS).await;
    let importer = stand.start("importer", 0);
    let mut consumers: Vec<Process> = (0..3).map(|index| stand.start("publishing-consumer", index)).collect();
    stand.becomes_equal().await;
    let mut target = stand.connect().await;
    record_writes(&mut target).await;
    until("three, three and two", 4 * LEASE, async || owned(&consumers).await == [2, 3, 3]).await;

    for round in 1..=3 {
        change(&mut host, round).await;
        is_moving(&mut target).await;
    }
    change(&mut host, 4).await;
    let killed_at = is_moving(&mut target).await;
    assert!(consumers.remove(0).kill());
    // Its life is told thrice in a lease, and looked at as often; then the lanes are taken.
    // On a machine that does nothing else within half a lease more; printed, and not judged.
    let moved = until("four and four", 4 * LEASE, async || owned(&consumers).await == [4, 4]).await;
    println!("four and four {moved:?} after the kill");
    for round in 5..=7 {
        change(&mut host, round).await;
        is_moving(&mut target).await;
    }
    stand.becomes_equal().await;

    let written = written(&mut target).await;
    assert_order(&written);
    let lanes: BTreeSet<u16> =
        written.iter().filter(|(at, ..)| *at > killed_at).map(|(_, id, _)| lane(*id, LANES)).collect();
    assert_eq!(lanes, (0..LANES).collect(), "every lane was written after the kill");
    let deleted = written.iter().filter(|(.., stock)| stock.is_none()).count();
    assert!(deleted > 0, "deletions were written too");
    assert!(written.len() > 4_000, "{} writes were recorded", written.len());
    terminate(consumers.into_iter().chain([importer])).await;
    stand.close().await;
}

/// A consumer that is stopped amid its writes for longer than its lease, and goes on when others have its lanes: what it
/// still writes is refused (L6).
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_wakes_up_late_overwrites_nothing() {
    // The server ends what the sleeper has begun when the time of a write is over.
    let options = "limits: { lanes: 8, lease_ms: 3000, delete_ratio_max: 1, write_timeout_ms_max: 3000 }";
    let stand = Stand::new("asleep", options).await;
    let mut host = stand.fill(ROWS).await;
    let importer = stand.start("importer", 0);
    let mut consumers: Vec<Process> = (0..2).map(|index| stand.start("publishing-consumer", index)).collect();
    stand.becomes_equal().await;
    let mut target = stand.connect().await;
    record_writes(&mut target).await;
    until("four and four", 4 * LEASE, async || owned(&consumers).await == [4, 4]).await;

    let mut asleep = consumers.remove(0);
    for round in 1..=2 {
        // It has a batch in hand when it falls asleep: its write waits for the table.
        let held = stand.hold_writes().await;
        change(&mut host, 2 * round - 1).await;
        // More than the lanes of the other.
        until("it has a batch in hand", MINUTE, async || Held::waiting(&stand).await > 4).await;
        asleep.signal("STOP");
        held.give_back().await;
        until("the other has all lanes", MINUTE, async || owned(&consumers).await == [8]).await;
        change(&mut host, 2 * round).await;
        is_moving(&mut target).await;
        asleep.signal("CONT");
        until("they share again", MINUTE, async || {
            consumers[0].metric("fides_lanes_owned", &[]).await <= 4.0
                && asleep.metric("fides_lanes_owned", &[]).await >= 4.0
        })
        .await;
    }
    stand.becomes_equal().await;
    assert_order(&written(&mut target).await);
    assert!(asleep.is_alive());
    terminate(consumers.into_iter().chain([asleep, importer])).await;
    stand.close().await;
}

/// A consumer that is asked to stop under load settles what it has written, within its grace period: nothing is written
/// or judged twice by whoever takes its lanes.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_stops_under_load_leaves_nothing_half_done() {
    let options = "limits: { lanes: 4, lease_ms: 3000, batch_records_max: 50, apply_records_max: 100 }";
    let stand = Stand::new("drain", options).await;
    let mut host = stand.fill(ROWS).await;
    let importer = stand.start("importer", 0);
    let mut leaving = stand.start("publishing-consumer", 0);
    stand.becomes_equal().await;
    let mut target = stand.connect().await;
    record_writes(&mut target).await;

    // Slow enough to be met in the middle.
    stand.before_target.set(Weather::Delay(Duration::from_millis(20)));
    run(&mut host, "UPDATE items SET stock = 1000000").await;
    is_moving(&mut target).await;
    let began = std::time::Instant::now();
    let status = leaving.terminate().await;
    assert!(status.success() && began.elapsed() < Duration::from_secs(30), "{status} after {:?}", began.elapsed());
    let left = written(&mut target).await.len();
    assert!((1..usize::try_from(ROWS).unwrap()).contains(&left), "it stopped in the middle: {left} writes");

    stand.before_target.set(Weather::Fair);
    let next = stand.start("publishing-consumer", 1);
    stand.becomes_equal().await;
    let written = written(&mut target).await;
    let ids: BTreeSet<i64> = written.iter().map(|(_, id, _)| *id).collect();
    assert_eq!((written.len(), ids.len()), (2_000, 2_000), "every record was written once");
    assert!(next.metric("fides_records_stale_total", &[]).await.abs() < 0.5, "nothing that was written came again");
    terminate([next, importer]).await;
    stand.close().await;
}

async fn terminate(services: impl IntoIterator<Item = Process>) {
    for mut service in services {
        let status = service.terminate().await;
        assert!(status.success(), "{}: {status}", service.name);
    }
}
