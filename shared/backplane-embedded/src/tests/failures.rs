use fides_core::port::Expect;
use fides_core::{FaultKind, KeyRange};
use futures::FutureExt;
use sqlx::Row;

use super::{Place, fence, key, lane, mark, pipeline};
use crate::Embedded;

/// Lets the file grow by so many pages: a disk that is full, or has been made room on. The setting is the connection's,
/// which stays the writer's as long as nothing fails.
async fn room_for(open: &Embedded, pages: i64) {
    let mut transaction = open.file.begin().await.unwrap();
    let now: i64 = sqlx::query("PRAGMA page_count").fetch_one(&mut *transaction).await.unwrap().get(0);
    let limit = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {}", now + pages));
    sqlx::query(limit).fetch_one(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_the_same_process_goes_on() {
    let place = Place::new();
    let open = place.open().await;
    let backplane = open.backplane();
    let marks: Vec<_> = (0..20_000).map(|id| (key(id), mark(2))).collect();
    backplane.hashes.advance(&pipeline(), &[(key(1), mark(1))]).await.unwrap();
    let revision = backplane.state.put("k", b"v", Expect::Any).await.unwrap().unwrap();

    room_for(&open, 3).await;
    let fault = backplane.hashes.advance(&pipeline(), &marks).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable);
    assert!(fault.to_string().contains("is full") && fault.to_string().contains("nothing is lost"), "{fault}");
    let held = backplane.hashes.range(&pipeline(), &KeyRange::ALL).await.unwrap();
    assert_eq!(held, [(key(1), mark(1))], "all or nothing");

    // Room again. What is written from now on is there for others, and after a restart.
    assert_eq!(backplane.state.put("k", b"w", Expect::Absent).await.unwrap(), None);
    backplane.hashes.advance(&pipeline(), &marks).await.unwrap();
    backplane.state.put("k", b"w", Expect::Revision(revision)).await.unwrap().unwrap();
    let looker = crate::open_read_only(&place.path()).await.unwrap().backplane();
    assert_eq!(looker.state.get("k").await.unwrap().unwrap().value, b"w");
    drop((open, backplane));
    let held = place.backplane().await.hashes.range(&pipeline(), &KeyRange::ALL).await.unwrap();
    assert_eq!(held, marks);
}

#[tokio::test]
async fn a_publish_that_finds_no_room_gives_its_places_back() {
    let place = Place::new();
    let open = place.open().await;
    let queue = open.backplane().queue;
    for _ in 0..3 {
        room_for(&open, 0).await;
        let messages = super::queue::batches(2, 1 << 20);
        assert_eq!(queue.publish(&messages).await.unwrap_err().kind, FaultKind::Unavailable);
        assert_eq!(queue.depth(&lane()).await.unwrap(), 0);
    }
    queue.publish(&super::queue::batches(2, 1)).await.unwrap();
    assert_eq!(queue.depth(&lane()).await.unwrap(), 2);
}

/// Drops a write after every possible number of polls: it is there whole, or not at all, and the next one works.
#[tokio::test]
async fn a_forsaken_write_is_whole_or_nothing() {
    let place = Place::new();
    let backplane = place.backplane().await;
    let p = pipeline();
    let mut met = [0; 2];
    for polls in 0..60 {
        let before = backplane.hashes.range(&pipeline(), &KeyRange::ALL).await.unwrap();
        let marks: Vec<_> = (0..3_000).map(|id| (key(id), mark(polls + 1))).collect();
        {
            let write = backplane.hashes.advance(&p, &marks);
            tokio::pin!(write);
            for _ in 0..polls {
                if write.as_mut().now_or_never().is_some() {
                    break;
                }
                // Every answer of the writer's thread is one step.
                backplane.state.get("k").await.unwrap();
            }
        }
        // The next write comes behind whatever the forsaken one still does.
        let revision = backplane.state.put("k", b"", Expect::Any).await.unwrap().unwrap();
        let held = backplane.hashes.range(&pipeline(), &KeyRange::ALL).await.unwrap();
        assert!(held == marks || held == before, "after {polls} polls");
        met[usize::from(held == marks)] += 1;
        let looker = crate::open_read_only(&place.path()).await.unwrap().backplane();
        assert_eq!(looker.state.get("k").await.unwrap().unwrap().revision, revision, "after {polls} polls");
    }
    assert!(met[0] > 0, "some were cut off: {met:?}");
}

#[tokio::test]
async fn a_lane_goes_on_after_an_error_of_its_consumer() {
    let place = Place::new();
    let open = place.open().await;
    let queue = open.backplane().queue;
    queue.publish(&[fence(1)]).await.unwrap();
    let mut transaction = open.file.begin().await.unwrap();
    sqlx::query("UPDATE message SET body = x'09'").execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    let mut consumer = queue.consume(&lane()).await.unwrap();
    for _ in 0..3 {
        let fault = consumer.next().await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unavailable, "a newer release wrote it: the lane pauses");
    }
    drop(consumer);
    assert_eq!(queue.depth(&lane()).await.unwrap(), 1, "it waits for a release that can read it");
}
