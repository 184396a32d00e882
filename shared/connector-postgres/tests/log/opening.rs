//! Where a log begins, and who reads it.

use std::time::Duration;

use fides_core::{FaultKind, Value};

use crate::common::{Database, selection};
use crate::support::{open, read, reader, refused, slot, try_page, unread, until_released};

#[tokio::test]
async fn what_was_not_released_comes_again_and_nothing_is_missing() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let host = database.host(1).await;
    let selection = selection(&*host, "t", &["id"], 100).await;
    let first = open(&database, &*host, &selection, None).await;
    assert!(
        first.gap.as_ref().is_some_and(|gap| gap.why().contains("there was no replication slot")),
        "{:?}",
        first.gap
    );
    let mut log = first.log;
    database.execute("INSERT INTO t VALUES (1)").await;
    let (_, one) = read(&mut *log, 1).await;
    log.release(one).await.unwrap();
    database.execute("INSERT INTO t VALUES (2)").await;
    let (two, behind_two) = read(&mut *log, 1).await;
    until_released(&database, one).await;
    drop(log);
    database.execute("INSERT INTO t VALUES (3)").await;
    let again = open(&database, &*host, &selection, Some(one)).await;
    assert_eq!((again.from, again.gap), (one, None));
    let mut log = again.log;
    let (changes, end) = read(&mut *log, 2).await;
    assert_eq!((&changes[0], changes[1].what.values()), (&two[0], &[Value::I64(3)][..]));
    log.release(end).await.unwrap();
    log.release(one).await.unwrap();
    until_released(&database, end).await;
    drop(log);

    // A place from before what was released: somebody else has read on.
    let behind = open(&database, &*host, &selection, Some(behind_two)).await;
    assert!(behind.gap.as_ref().is_some_and(|gap| gap.why().contains("only behind the place")), "{:?}", behind.gap);
    assert!(behind.from >= end);
    drop(behind);
    let unknown = open(&database, &*host, &selection, None).await;
    assert!(unknown.gap.is_some_and(|gap| gap.why().contains("no place")));
    drop(unknown.log);
    unread(&database, &reader(&database).await).await;
    database.execute(&format!("SELECT pg_drop_replication_slot('{}')", slot(&reader(&database).await))).await;
    let dropped = open(&database, &*host, &selection, Some(end)).await;
    assert!(dropped.gap.is_some_and(|gap| gap.why().contains("there was no replication slot")));
    let mut log = dropped.log;
    database.execute("INSERT INTO t VALUES (4)").await;
    assert_eq!(read(&mut *log, 1).await.0[0].what.values(), [Value::I64(4)]);
}

#[tokio::test]
async fn a_slot_has_one_reader() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let host = database.host(1).await;
    let selection = selection(&*host, "t", &["id"], 100).await;
    let opened = open(&database, &*host, &selection, None).await;
    let fault = refused(&database, &*host, &selection).await;
    assert_eq!(fault.kind, FaultKind::Transient, "{fault}");
    assert!(fault.to_string().contains("is being read by process"), "{fault}");
    drop(opened);
    let reader = reader(&database).await;
    unread(&database, &reader).await;
    let name = slot(&reader);
    database.execute(&format!("SELECT pg_drop_replication_slot('{name}')")).await;
    database.execute(&format!("SELECT pg_create_logical_replication_slot('{name}', 'test_decoding')")).await;
    let fault = refused(&database, &*host, &selection).await;
    assert_eq!(fault.kind, FaultKind::Permanent, "{fault}");
    assert!(fault.to_string().contains(&format!("SELECT pg_drop_replication_slot('{name}')")), "{fault}");
    assert!(fault.to_string().contains("test_decoding"), "{fault}");
}

#[tokio::test]
async fn a_connection_that_ends_is_a_fault() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let host = database.host(1).await;
    let selection = selection(&*host, "t", &["id"], 100).await;
    let mut opened = open(&database, &*host, &selection, None).await;
    let end = format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{}'",
        slot(&reader(&database).await)
    );
    database.execute(&end).await;
    for _ in 0..2 {
        let mut fault = None;
        while fault.is_none() {
            fault = try_page(&mut *opened.log).await.map(drop).err();
        }
        assert_eq!(fault.as_ref().map(|fault| fault.kind), Some(FaultKind::Transient), "{fault:?}");
    }
}

/// Of a table that took the name of the one that is followed nothing comes: it is noticed, and opened anew with a gap.
#[tokio::test]
async fn a_table_that_took_the_name_is_noticed() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY)").await;
    let host = database.host(1).await;
    let selection = selection(&*host, "t", &["id"], 100).await;
    let mut opened = open(&database, &*host, &selection, None).await;
    database.execute("INSERT INTO t VALUES (1)").await;
    let (_, mut place) = read(&mut *opened.log, 1).await;
    opened.log.release(place).await.unwrap();
    database.execute("ALTER TABLE t RENAME TO old; ALTER TABLE other RENAME TO t; INSERT INTO t VALUES (7)").await;
    let noticed = async {
        loop {
            // Something is always in the log of a server.
            database.execute("CREATE TABLE IF NOT EXISTS busy (x int); INSERT INTO busy VALUES (1)").await;
            let page = opened.log.next().await.unwrap();
            assert!(page.changes.is_empty(), "nothing comes of it");
            place = page.place;
            if let Err(fault) = opened.log.release(place).await {
                return fault;
            }
        }
    };
    let fault = tokio::time::timeout(Duration::from_mins(1), noticed).await.expect("it is noticed");
    assert_eq!(fault.kind, FaultKind::Transient, "{fault}");
    drop(opened.log);
    unread(&database, &reader(&database).await).await;
    let anew = open(&database, &*host, &selection, Some(place)).await;
    assert!(anew.gap.is_some_and(|gap| gap.why().contains("lacked")), "an import is due");
}
