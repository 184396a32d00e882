//! Where a log begins, and what ends it.

use fides_core::port::Gap;
use fides_core::{FaultKind, Value};

use crate::common::Database;
use crate::support::{described, open, page, refused, seen, told_in, try_page};

#[tokio::test]
async fn what_is_behind_the_stored_place_comes_again_and_nothing_is_missing() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let host = database.following().await;
    let selection = database.selection(&*host, "t", &["id"], 100).await;
    let mut log = open(&database, &*host, &selection, None).await.log;
    let (one, place) = told_in(&database, "t", &mut *log, "INSERT INTO t VALUES (1)").await;
    assert_eq!(one.len(), 1);
    log.release(place).await.unwrap();
    drop(log);
    database.execute("INSERT INTO t VALUES (2); FLUSH BINARY LOGS; FLUSH BINARY LOGS; INSERT INTO t VALUES (3)").await;
    for _ in 0..2 {
        let again = open(&database, &*host, &selection, Some(place)).await;
        assert_eq!((again.from, again.gap), (place, None));
        let mut log = again.log;
        let mut all = Vec::new();
        while all.len() < 2 {
            all.extend(seen(&page(&mut *log).await));
        }
        assert_eq!(described(&all), ["[I64(2)]", "[I64(3)]"]);
    }
}

/// The places of a page that has changes: each may be stored.
#[tokio::test]
async fn every_place_that_is_told_can_be_gone_on_from() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (id int)").await;
    let host = database.following().await;
    let selection = database.selection(&*host, "t", &["id"], 2).await;
    let opened = open(&database, &*host, &selection, None).await;
    let mut places = vec![(opened.from, 0)];
    let mut log = opened.log;
    database
        .execute(
            "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2), (3), (4); INSERT INTO other VALUES (1); \
             FLUSH BINARY LOGS; INSERT INTO t VALUES (5); CREATE TABLE more (id int); FLUSH BINARY LOGS",
        )
        .await;
    let mut count = 0;
    while count < 5 {
        let page = page(&mut *log).await;
        count += page.changes.len();
        places.push((page.place, count));
    }
    // And one that no change led to.
    while places.last().unwrap().0 >> 40 < (places[0].0 >> 40) + 2 {
        places.push((page(&mut *log).await.place, count));
    }
    drop(log);
    database.execute("INSERT INTO t VALUES (6)").await;
    for (place, told) in places {
        let again = open(&database, &*host, &selection, Some(place)).await;
        assert_eq!((again.from, &again.gap), (place, &None));
        let mut log = again.log;
        let mut keys = Vec::new();
        while !keys.contains(&6) {
            for change in seen(&page(&mut *log).await) {
                let Value::I64(id) = change.what.values()[0] else { panic!("{change:?}") };
                keys.push(id);
            }
        }
        let missing: Vec<i64> = (told as i64 + 1..=6).filter(|id| !keys.contains(id)).collect();
        assert!(missing.is_empty(), "behind {told}: {keys:?}");
    }
}

#[tokio::test]
async fn a_place_that_the_log_does_not_have_is_told() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let host = database.following().await;
    let selection = database.selection(&*host, "t", &["id"], 100).await;
    let place = open(&database, &*host, &selection, None).await.from;
    // Behind its end; in a file that there is not yet; in a file that was begun at another time; between two events.
    for (lost, why) in [
        (place | 0x7fff_ffff, "ends before"),
        (place + (5 << 40), "no file with number"),
        (place ^ (1 << 32), "another one under the same number"),
        (place - 1, "no log at the stored place"),
    ] {
        let again = open(&database, &*host, &selection, Some(lost)).await;
        let gap = again.gap.unwrap_or_else(|| panic!("{lost:x}"));
        assert!(matches!(&gap, Gap::Backward(told) if told.contains(why)), "{gap:?}");
        let mut log = again.log;
        let (changes, _) =
            told_in(&database, "t", &mut *log, "INSERT INTO t VALUES (2); DELETE FROM t WHERE id = 2").await;
        assert!(!changes.is_empty(), "it is read from its end on");
    }
}

#[tokio::test]
async fn a_connection_that_ends_is_a_fault_and_a_second_reader_ends_the_first() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let host = database.following().await;
    let selection = database.selection(&*host, "t", &["id"], 100).await;
    let first = open(&database, &*host, &selection, None).await;
    let (from, mut log) = (first.from, first.log);
    let second = open(&database, &*host, &selection, Some(from)).await;
    for _ in 0..2 {
        let mut fault = None;
        while fault.is_none() {
            fault = try_page(&mut *log).await.map(drop).err();
        }
        assert_eq!(fault.as_ref().map(|fault| fault.kind), Some(FaultKind::Transient), "{fault:?}");
    }
    let mut log = second.log;
    assert_eq!(told_in(&database, "t", &mut *log, "INSERT INTO t VALUES (1)").await.0.len(), 1);
}

#[tokio::test]
async fn a_host_that_is_not_followed_has_drawn_versions_and_no_log() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let host = database.host(1).await;
    let selection = database.selection(&*host, "t", &["id"], 100).await;
    let fault = refused(&database, &*host, &selection).await;
    assert_eq!(fault.kind, FaultKind::Permanent);
    assert_eq!(host.lineage().await.unwrap().0, "mysql:drawn");
    assert!(database.following().await.lineage().await.unwrap().0.starts_with("mysql:log:1:"));
}

#[tokio::test]
async fn a_user_without_rights_is_told_what_to_grant() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let user = format!("u{}", &database.name[6..]);
    database
        .execute(&format!(
            "CREATE USER {user}@'127.0.0.1' IDENTIFIED BY 's3cret'; GRANT SELECT ON {}.* TO {user}@'127.0.0.1'",
            database.name
        ))
        .await;
    let url = database.url_as(&user, "s3cret");
    let host = fides_connector_mysql::host(&url, 1, true).await.unwrap();
    let selection = database.selection(&*host, "t", &["id"], 100).await;
    let fault = refused(&database, &*host, &selection).await;
    assert!(fault.to_string().contains("GRANT REPLICATION SLAVE ON *.* TO"), "{fault}");
    database.execute(&format!("GRANT REPLICATION SLAVE ON *.* TO {user}@'127.0.0.1'")).await;
    let host = fides_connector_mysql::host(&url, 1, true).await.unwrap();
    let concerns = host.check_log(&selection, &crate::support::reader(&database)).await.unwrap();
    let stopping: Vec<_> = concerns.iter().filter(|concern| concern.stops).collect();
    assert_eq!(stopping.len(), 1, "{concerns:?}");
    assert!(stopping[0].mend.as_ref().is_some_and(|mend| mend.contains("GRANT BINLOG MONITOR ON *.*")), "{stopping:?}");
    database.execute(&format!("GRANT BINLOG MONITOR ON *.* TO {user}@'127.0.0.1'")).await;
    let host = fides_connector_mysql::host(&url, 1, true).await.unwrap();
    let mut log = open(&database, &*host, &selection, None).await.log;
    assert_eq!(told_in(&database, "t", &mut *log, "INSERT INTO t VALUES (1)").await.0.len(), 1);
    database.execute(&format!("DROP USER {user}@'127.0.0.1'")).await;
}
