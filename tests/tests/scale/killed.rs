//! kill -9 at random moments: every restart continues, nothing is lost, and only what was in flight is sent again.

use std::time::Duration;

use crate::stand::{ROWS, Stand, count, run, start, verify};

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
    let mut host = stand.fill(ROWS).await;
    let url = stand.url();
    let config = stand.configure(&format!("{{ kind: postgres, url: \"{url}\" }}"), "public.items", LIMITS);
    let longest_ms = if cfg!(debug_assertions) { 1_200 } else { 2_500 };
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
    verify(&config, ROWS);

    let written = written(&mut host, ROWS).await;
    let bound = ROWS + changed + KILLS * IN_FLIGHT;
    println!("{KILLS} kills: {written} rows written for {ROWS} rows and {changed} changes; bound {bound}");
    assert!(written <= bound, "{written} rows were written, at most {bound} were due");
    drop(host);
    stand.close().await;
}

/// Rows inserted into or updated in the copy, once the server's statistics know of all of them.
async fn written(host: &mut sqlx::PgConnection, at_least: i64) -> i64 {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        sqlx::query("SELECT pg_stat_clear_snapshot()").execute(&mut *host).await.unwrap();
        let sql = "SELECT coalesce(n_tup_ins + n_tup_upd, 0) FROM pg_stat_user_tables WHERE relname = 'copy'";
        let written = count(host, sql).await;
        if written >= at_least || tokio::time::Instant::now() > deadline {
            return written;
        }
        tokio::time::sleep(Duration::from_millis(50)).await; // awaits the server's statistics
    }
}
