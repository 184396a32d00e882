//! kill -9 at random moments: every restart continues, nothing is lost, and only what was in flight is sent again.

use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::time::Duration;

use fides_tests::released;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::time::Instant;

use crate::stand::{Stand, count, rows, run, start, sync, verify};

const KILLS: i64 = 20;
/// Every round changes this share of the rows, so that there is always work to interrupt.
const SHARE: i64 = 20;
const LIMITS: &str = "{ lanes: 2, host_partitions: 2, page_records_max: 2048, apply_records_max: 2000 }";
/// Per kill: a page being published per range, and a write per lane whose mark was not advanced yet.
const IN_FLIGHT: i64 = 2 * 2048 + 2 * 2000;

#[tokio::test]
async fn a_sync_survives_twenty_kills() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let stand = Stand::new("killed").await;
    let mut host = stand.fill(rows()).await;
    let url = stand.url();
    let config = stand.configure(&format!("{{ kind: postgres, url: \"{url}\" }}"), "public.items", LIMITS);
    let longest_ms = if released() { 2_500 } else { 1_200 };
    let (mut struck, mut changed) = (0, 0);
    while struck < KILLS {
        let mut child = start(&config);
        tokio::time::sleep(Duration::from_millis(rng.u64(20..longest_ms))).await; // the moment of the kill is the test
        if child.try_wait().unwrap().is_none() {
            struck += 1;
        }
        // SIGKILL; a process that had finished is only collected.
        child.kill().unwrap();
        child.wait().unwrap();
        let touched = sqlx::query("UPDATE items SET stock = stock + 1 WHERE id % $1 = $2")
            .bind(SHARE)
            .bind(rng.i64(0..SHARE))
            .execute(&mut host)
            .await
            .unwrap();
        changed += touched.rows_affected() as i64;
    }
    let last = run(&config, &["sync", "--once"]);
    assert_eq!(last.code, Some(0), "{}{}", last.stdout, last.stderr);
    // A resumed run compared some pages before the last change: one more run sees it.
    let again = run(&config, &["sync", "--once"]);
    assert_eq!(again.code, Some(0), "{}{}", again.stdout, again.stderr);
    verify(&config, rows());

    let written = statistics(&mut host, rows()).await;
    let bound = rows() + changed + KILLS * IN_FLIGHT;
    println!("{KILLS} kills: {written} rows written for {} rows and {changed} changes; bound {bound}", rows());
    assert!(written <= bound, "{written} rows were written, at most {bound} were due");
    drop(host);
    stand.close().await;
}

/// Rows inserted into or updated in the copy, once the server's statistics know of all of them.
async fn statistics(host: &mut PgConnection, at_least: i64) -> i64 {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        sqlx::query("SELECT pg_stat_clear_snapshot()").execute(&mut *host).await.unwrap();
        let sql = "SELECT coalesce(n_tup_ins + n_tup_upd, 0) FROM pg_stat_user_tables WHERE relname = 'copy'";
        let written = count(host, sql).await;
        if written >= at_least || Instant::now() > deadline {
            return written;
        }
        tokio::time::sleep(Duration::from_millis(50)).await; // awaits the server's statistics
    }
}

/// Rows of the table whose host rests.
const TABLE: i64 = 200_000;
const LANES: i64 = 2;
const PARTITIONS: i64 = 2;
const PAGE: i64 = 500;
const APPLY: i64 = 500;
/// A write per lane that was durable, and its mark not. Pages in flight are not in it: behind the fence that a resumed
/// run begins with (L7) they meet the marks of whatever had been published of them.
const REPEATED_PER_KILL: i64 = LANES * APPLY;
/// Per range the page that was being published when its cursor had not moved (L3).
const PAGES_IN_FLIGHT: i64 = PARTITIONS * PAGE;
/// How long a process may take to write the rows to the next moment.
const PATIENCE: Duration = Duration::from_mins(5);
const SIGKILL: i32 = 9;

/// The host is at rest, so what is written twice is what was in flight. The moments are drawn as numbers of rows written,
/// not as times: every one strikes a process at work, on a fast machine and on a slow one alike.
#[tokio::test]
async fn twenty_kills_repeat_only_what_was_in_flight() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let stand = Stand::new("in_flight").await;
    let mut host = stand.fill(TABLE).await;
    count_writes(&mut host).await;
    let limits = format!(
        "{{ lanes: {LANES}, host_partitions: {PARTITIONS}, page_records_max: {PAGE}, apply_records_max: {APPLY}, \
         batch_records_max: 100, lane_depth_batches_max: 4 }}"
    );
    let url = stand.url();
    let config = stand.configure(&format!("{{ kind: postgres, url: \"{url}\" }}"), "public.items", &limits);

    let mut moments: Vec<i64> = (0..KILLS).map(|_| rng.i64(0..TABLE * 9 / 10)).collect();
    moments.sort_unstable();
    for (kill, moment) in moments.into_iter().enumerate() {
        let before = written(&mut host).await;
        let mut child = start(&config);
        until_written(&mut host, &mut child, moment.max(before + 1)).await;
        tokio::time::sleep(Duration::from_micros(rng.u64(0..20_000))).await; // the moment of the kill is the test
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(SIGKILL), "kill {kill} struck a process that had ended: {status}");
        until_alone(&mut host).await;
        let copied = count(&mut host, "SELECT count(*) FROM copy").await;
        assert!(copied < TABLE, "kill {kill} came after the work was done");
        println!("kill {kill}: {copied} rows copied, {} written", written(&mut host).await);
    }

    let (last, _) = sync(&config);
    verify(&config, TABLE);
    let written = written(&mut host).await;
    let bound = TABLE + KILLS * REPEATED_PER_KILL;
    println!("{KILLS} kills: {written} rows written for {TABLE}; bound {bound}; last run {last}");
    assert!((TABLE..=bound).contains(&written), "{written} rows were written, {TABLE} to {bound} were due");

    // One run, from the first start to the last: no page whose cursor was saved was read again.
    let status = run(&config, &["status", "--json"]).json();
    let run = &status[0]["run"];
    assert_eq!(run["counts"]["read"], TABLE, "{run}");
    let told = run["counts"]["published"].as_i64().unwrap();
    let least = TABLE - KILLS * PAGES_IN_FLIGHT;
    assert!((least..=TABLE).contains(&told), "{told} rows in saved pages; {least} to {TABLE} were due");
    assert!((1..=KILLS).contains(&run["resumed"].as_i64().unwrap()), "{run}");

    // What the killed processes had marked is true and complete.
    let (nothing, _) = sync(&config);
    assert_eq!(nothing["published"], 0, "{nothing}");
    drop(host);
    stand.close().await;
}

/// Makes the copy, and a trigger that counts what is durably written to it: a row once for every time.
async fn count_writes(host: &mut PgConnection) {
    let sql = "CREATE TABLE copy (LIKE items INCLUDING ALL);
        CREATE TABLE written (rows bigint NOT NULL);
        CREATE FUNCTION count_written() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO written SELECT count(*) FROM fresh; RETURN NULL; END';
        CREATE TRIGGER inserted AFTER INSERT ON copy REFERENCING NEW TABLE AS fresh
            FOR EACH STATEMENT EXECUTE FUNCTION count_written();
        CREATE TRIGGER updated AFTER UPDATE ON copy REFERENCING NEW TABLE AS fresh
            FOR EACH STATEMENT EXECUTE FUNCTION count_written()";
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(host).await.unwrap();
}

async fn written(host: &mut PgConnection) -> i64 {
    count(host, "SELECT coalesce(sum(rows), 0)::bigint FROM written").await
}

/// Waits until so many rows were written by a process that is at work.
async fn until_written(host: &mut PgConnection, child: &mut Child, rows: i64) {
    let deadline = Instant::now() + PATIENCE;
    while written(host).await < rows {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "the process ended before {rows} rows were written: {ended:?}");
        assert!(Instant::now() < deadline, "{rows} rows were not written in {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(1)).await; // awaits the process
    }
}

/// Waits until the server has ended every session of the process that was killed, one way or the other.
async fn until_alone(host: &mut PgConnection) {
    let others = "SELECT count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND backend_type <> 'autovacuum worker' AND pid <> pg_backend_pid()";
    let deadline = Instant::now() + PATIENCE;
    while count(host, others).await > 0 {
        assert!(Instant::now() < deadline, "the server keeps sessions of a process that was killed");
        tokio::time::sleep(Duration::from_millis(5)).await; // awaits the server
    }
}
