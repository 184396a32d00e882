use std::io::{Seek, SeekFrom, Write};

use fides_core::port::Expect;
use fides_core::{FaultKind, KeyRange, Limits};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Row};

use super::{Place, fence, key, lane, mark, pipeline};

async fn refused(place: &Place) -> fides_core::Fault {
    crate::open(&place.path(), &Limits::default()).await.map(drop).unwrap_err()
}

async fn raw(place: &Place) -> SqliteConnection {
    SqliteConnectOptions::new().filename(place.path()).create_if_missing(true).connect().await.unwrap()
}

#[tokio::test]
async fn a_second_owner_is_refused_by_name_until_the_first_is_gone() {
    let place = Place::new();
    let first = place.backplane().await;
    let fault = refused(&place).await;
    assert_eq!(fault.kind, FaultKind::Unavailable);
    let (path, pid) = (place.path().display().to_string(), std::process::id());
    assert!(fault.to_string().contains(&format!("{path} is in use by process {pid}")), "{fault}");
    assert!(fault.advice.is_some());
    // Any port that is still held owns the file; a consumer too.
    let consumer = first.queue.consume(&lane()).await.unwrap();
    drop(first);
    assert_eq!(refused(&place).await.kind, FaultKind::Unavailable);
    drop(consumer);
    place.backplane().await.state.put("k", b"", Expect::Absent).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_looker_sees_what_the_owner_does_and_writes_nothing() {
    let place = Place::new();
    let empty = crate::open_read_only(&place.path()).await.unwrap().backplane();
    assert_eq!(empty.queue.depth(&lane()).await.unwrap(), 0);
    assert_eq!(empty.hashes.incarnation().await.unwrap(), None);
    assert!(!place.path().exists(), "looking makes no file");

    let owner = place.backplane().await;
    let looker = crate::open_read_only(&place.path()).await.unwrap().backplane();
    owner.queue.publish(&[fence(1), fence(2), fence(3)]).await.unwrap();
    owner.hashes.advance(&pipeline(), &[(key(1), mark(1))]).await.unwrap();
    owner.state.put("k", b"v", Expect::Any).await.unwrap();
    assert_eq!(looker.queue.depth(&lane()).await.unwrap(), 3);
    assert_eq!(looker.hashes.range(&pipeline(), &KeyRange::ALL).await.unwrap(), [(key(1), mark(1))]);
    assert_eq!(looker.state.get("k").await.unwrap().unwrap().value, b"v");

    let faults = [
        looker.queue.publish(&[fence(4)]).await.unwrap_err(),
        looker.queue.consume(&lane()).await.map(drop).unwrap_err(),
        looker.hashes.advance(&pipeline(), &[(key(1), mark(2))]).await.unwrap_err(),
        looker.hashes.distrust(&pipeline(), &[key(1)]).await.unwrap_err(),
        looker.hashes.create_incarnation("x").await.unwrap_err(),
        looker.state.put("k", b"w", Expect::Any).await.unwrap_err(),
        looker.state.remove("k").await.unwrap_err(),
        looker.state.lease("l", "a", 1).await.unwrap_err(),
        looker.state.next_position(&pipeline()).await.unwrap_err(),
        looker.dead.remove(&pipeline(), &[key(1)]).await.unwrap_err(),
    ];
    for fault in faults {
        assert_eq!(fault.kind, FaultKind::Permanent);
        assert!(fault.to_string().contains("reading only"), "{fault}");
    }
    // It stands in nobody's way, and reads on when the owner is gone.
    drop(owner);
    place.backplane().await.state.put("k", b"w", Expect::Any).await.unwrap();
    assert_eq!(looker.state.get("k").await.unwrap().unwrap().value, b"w");
}

#[tokio::test]
async fn a_looker_waits_for_no_place_in_a_full_lane() {
    let place = Place::new();
    let messages: Vec<_> = (0..100).map(fence).collect();
    place.backplane().await.queue.publish(&messages).await.unwrap();
    let looker = crate::open_read_only(&place.path()).await.unwrap().backplane();
    assert_eq!(looker.queue.publish(&super::queue::batches(1, 1)).await.unwrap_err().kind, FaultKind::Permanent);
}

#[tokio::test]
async fn a_foreign_format_is_refused_and_left_alone() {
    let place = Place::new();
    drop(place.backplane().await);
    let mut connection = raw(&place).await;
    sqlx::query("UPDATE meta SET value = 9 WHERE name = 'format'").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let looked = crate::open_read_only(&place.path()).await.map(drop).unwrap_err();
    for fault in [refused(&place).await, looked] {
        assert_eq!(fault.kind, FaultKind::Permanent);
        assert!(fault.to_string().contains("has format 9; this release reads 1"), "{fault}");
    }
}

#[tokio::test]
async fn somebody_elses_database_is_refused_and_left_alone() {
    let place = Place::new();
    let mut connection = raw(&place).await;
    sqlx::query("CREATE TABLE meta (name TEXT)").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let before = std::fs::read(place.path()).unwrap();
    let looked = crate::open_read_only(&place.path()).await.map(drop).unwrap_err();
    for fault in [refused(&place).await, looked] {
        assert_eq!(fault.kind, FaultKind::Permanent);
        assert!(fault.to_string().contains("not a state file"), "{fault}");
    }
    assert_eq!(std::fs::read(place.path()).unwrap(), before);
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_left_alone() {
    let place = Place::new();
    let text = "hosts:\n  shop: { kind: sqlite }\n".repeat(100);
    std::fs::write(place.path(), &text).unwrap();
    let fault = refused(&place).await;
    assert_eq!(fault.kind, FaultKind::Permanent);
    assert!(fault.to_string().contains("is not a state file"), "{fault}");
    assert_eq!(std::fs::read_to_string(place.path()).unwrap(), text);
}

#[tokio::test]
async fn a_damaged_file_says_so() {
    let place = Place::new();
    let owner = place.backplane().await;
    let marks: Vec<_> = (0..5_000).map(|id| (key(id), mark(1))).collect();
    owner.hashes.advance(&pipeline(), &marks).await.unwrap();
    drop(owner);
    // Reading everything through the log first empties it into the file.
    let mut connection = raw(&place).await;
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await.unwrap();
    let root: i64 = sqlx::query("SELECT rootpage FROM sqlite_schema WHERE name = 'bucket_by_lower'")
        .fetch_one(&mut connection)
        .await
        .unwrap()
        .get(0);
    connection.close().await.unwrap();
    let mut file = std::fs::OpenOptions::new().write(true).open(place.path()).unwrap();
    file.seek(SeekFrom::Start((root.cast_unsigned() - 1) * 4_096)).unwrap();
    file.write_all(&[0xaa; 4_096]).unwrap();
    let fault = place.backplane().await.hashes.get(&pipeline(), &[key(1)]).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Permanent);
    assert!(fault.to_string().contains("is damaged"), "{fault}");
}

#[tokio::test]
async fn a_missing_folder_says_what_to_do() {
    let place = Place::new();
    let path = place.path().join("nowhere").join("state.db");
    let fault = crate::open(&path, &Limits::default()).await.map(drop).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable);
    assert!(fault.to_string().contains(path.to_str().unwrap()), "{fault}");
    assert!(fault.to_string().contains("the folder must exist and be writable"), "{fault}");
}

#[tokio::test]
async fn every_commit_is_synced() {
    let place = Place::new();
    let owner = place.open().await;
    let mut transaction = owner.file.begin().await.unwrap();
    let setting = async |transaction: &mut SqliteConnection, of: &'static str| {
        sqlx::query(of).fetch_one(transaction).await.unwrap()
    };
    assert_eq!(setting(&mut transaction, "PRAGMA synchronous").await.get::<i64, _>(0), 2, "FULL (L11)");
    assert_eq!(setting(&mut transaction, "PRAGMA journal_mode").await.get::<String, _>(0), "wal");
    transaction.roll_back().await.unwrap();
    // Also on the connection that takes the place of a failed one.
    drop(owner.file.begin().await.unwrap());
    let mut transaction = owner.file.begin().await.unwrap();
    assert_eq!(setting(&mut transaction, "PRAGMA synchronous").await.get::<i64, _>(0), 2, "FULL (L11)");
}
