//! What the outbox keeps, and what waiting for it costs.

use fides_core::port::Gap;
use futures::FutureExt;
use sqlx::sqlite::SqliteJournalMode;

use super::stand::{Stand, all, changes, map, next, reader, told};

const ITEM: &str = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO item VALUES (1, 'a'), (2, 'b')";
const FILL: &str = "UPDATE item SET name = name WHERE id = 1; INSERT INTO item WITH RECURSIVE n (i) AS (VALUES (100) UNION ALL SELECT i + 1 FROM n WHERE i < 5099) SELECT i, '' FROM n";

#[tokio::test]
async fn rows_stay_until_every_reader_has_passed_them() {
    let stand = Stand::new(ITEM).await;
    let mut selection = stand.selection("item", &["id"]).await;
    selection.page_records_max = 10_000;
    let mut fast = stand.follow(&selection).await;
    let mut slow = stand.open(&selection, "b", None).await.unwrap().log;
    stand.run(FILL).await;
    let place = next(&mut *fast).await.unwrap().place;
    fast.release(place).await.unwrap();
    assert!(stand.number("SELECT count(*) FROM _fides_outbox").await > 5000, "somebody else needs them");
    assert_eq!(stand.host.log_lag(&reader("a")).await.unwrap(), Some(0));
    assert!(stand.host.log_lag(&reader("b")).await.unwrap().unwrap() > 5000 * 24);
    let theirs = next(&mut *slow).await.unwrap();
    assert_eq!((theirs.changes.len(), theirs.place), (5001, place));
    slow.release(place).await.unwrap();
    assert_eq!(stand.number("SELECT count(*) FROM _fides_outbox").await, 1, "the row of the place proves the file");
    drop(fast);
    let again = stand.open(&selection, "a", Some(place)).await.unwrap();
    assert_eq!(again.gap, None);
    let after = stand.position(&selection).await;
    assert!(after > place >> 16, "positions go on after rows were removed");
}

#[tokio::test]
async fn a_reader_that_is_forgotten_keeps_nothing_and_learns_of_it() {
    let stand = Stand::new(ITEM).await;
    let selection = stand.selection("item", &["id"]).await;
    let mut log = stand.follow(&selection).await;
    stand.run("UPDATE item SET name = 'x' WHERE id = 1").await;
    let place = next(&mut *log).await.unwrap().place;
    stand.run(FILL).await;
    stand.host.forget_log(&reader("a")).await.unwrap();
    stand.host.forget_log(&reader("a")).await.unwrap();
    assert!(stand.number("SELECT count(*) FROM _fides_outbox").await <= 1);
    assert_eq!(stand.host.log_lag(&reader("a")).await.unwrap(), None);
    assert!(next(&mut *log).await.is_err() && log.release(place).await.is_err());
    let opened = stand.open(&selection, "a", Some(place)).await.unwrap();
    assert!(matches!(opened.gap, Some(Gap::Missing(_))), "{:?}", opened.gap);
}

#[tokio::test]
async fn a_wait_that_is_dropped_loses_nothing() {
    let stand = Stand::new(ITEM).await;
    let selection = stand.selection("item", &["id"]).await;
    let mut log = stand.follow(&selection).await;
    stand.run("UPDATE item SET name = 'x' WHERE id = 1").await;
    // Dropped wherever it stands, each time a little later, until it is done.
    let mut found = Vec::new();
    for turns in 1.. {
        let mut waiting = log.next().boxed();
        for _ in 0..turns {
            if let Some(page) = waiting.as_mut().now_or_never() {
                found = changes(&page.unwrap());
                break;
            }
            tokio::task::yield_now().await;
        }
        if !found.is_empty() {
            break;
        }
    }
    assert_eq!(found, [told("1", r#"1 "x""#)]);
    stand.run("UPDATE item SET name = 'y' WHERE id = 2").await;
    assert_eq!(all(&stand, &mut *log).await, map(&[told("2", r#"2 "y""#)]));
}

#[tokio::test]
async fn a_reader_that_waits_learns_of_a_commit() {
    let stand = Stand::new(ITEM).await;
    let selection = stand.selection("item", &["id"]).await;
    let mut log = stand.follow(&selection).await;
    let waiting = tokio::spawn(async move {
        let page = next(&mut *log).await.unwrap();
        (changes(&page), log)
    });
    tokio::task::yield_now().await;
    stand.run("UPDATE item SET name = 'x' WHERE id = 1").await;
    let (found, _log) = waiting.await.unwrap();
    assert_eq!(found, [told("1", r#"1 "x""#)]);
}

#[tokio::test]
async fn a_file_without_a_write_ahead_log_is_followed_too() {
    let stand = Stand::journaled(ITEM, SqliteJournalMode::Delete).await;
    let selection = stand.selection("item", &["id"]).await;
    let mut log = stand.follow(&selection).await;
    stand.run("UPDATE item SET name = 'x' WHERE id = 1").await;
    let page = next(&mut *log).await.unwrap();
    log.release(page.place).await.unwrap();
    stand.run("DELETE FROM item WHERE id = 2").await;
    assert_eq!(all(&stand, &mut *log).await.len(), 1);
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&stand.side).await.unwrap();
    assert_eq!(journal, "delete", "its journal stays as it is");
}
