//! Changes come in their order, with positions that compare with snapshots.

use std::collections::{BTreeMap, HashSet};

use fides_core::Value;

use crate::common::{Database, int, rows};
use crate::support::{self, Change, Seen, described, open, page, same_as_scanned, scan, seen, told, told_in};

fn row(id: i64, text: &'static str) -> String {
    format!("{:?}", [Value::I64(id), Value::String(text.into())])
}

#[tokio::test]
async fn changes_come_in_their_order_with_the_record_as_it_is() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a text); CREATE TABLE other (id int)").await;
    let host = database.following().await;
    let selection = database.selection(&*host, "t", &["id"], 100).await;
    let opened = open(&database, &*host, &selection, None).await;
    assert!(opened.gap.as_ref().is_some_and(|gap| gap.why().contains("no place")), "{:?}", opened.gap);
    let (from, mut log) = (opened.from, opened.log);
    let (first, place) =
        told_in(&database, "t", &mut *log, "BEGIN; INSERT INTO t VALUES (1, 'a'); UPDATE t SET a = 'b'; COMMIT").await;
    assert_eq!(described(&first), [row(1, "b")]);
    assert!(from < place);
    assert!(described(&told(&database, &mut *log, "BEGIN; INSERT INTO t VALUES (9, 'no'); ROLLBACK").await).is_empty());
    assert!(described(&told(&database, &mut *log, "INSERT INTO other VALUES (1)").await).is_empty());
    let changes = told(
        &database,
        &mut *log,
        "BEGIN; UPDATE t SET id = 2; INSERT INTO t VALUES (3, 'd'), (4, 'e'); DELETE FROM t WHERE id = 4; COMMIT",
    )
    .await;
    assert_eq!(described(&changes), ["gone 1".to_owned(), row(2, "b"), row(3, "d"), "gone 4".to_owned()]);
    // Of states that have seen all of it, and no later ones than there are now.
    let now = scan(&*host, &selection).await.version().position;
    assert!(changes.is_sorted_by_key(|change| change.position));
    assert!(changes.iter().all(|change| change.position < now && change.sequence == 0));
    assert!(first[0].position < changes[0].position);
    same_as_scanned(&*host, &selection, &changes).await;
    let both = told(&database, &mut *log, "UPDATE t SET a = 'x' WHERE id = 2; UPDATE t SET a = 'y' WHERE id = 3").await;
    assert_eq!(described(&both), [row(2, "x"), row(3, "y")]);
    assert!(both[0].position <= both[1].position && changes[0].position < both[0].position);
}

#[tokio::test]
async fn what_came_back_is_not_gone() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    let host = database.following().await;
    let selection = database.selection(&*host, "t", &["id"], 100).await;
    let mut log = open(&database, &*host, &selection, None).await.log;
    let sql = "BEGIN; DELETE FROM t; INSERT INTO t VALUES (1, 'again'); COMMIT";
    assert_eq!(described(&told(&database, &mut *log, sql).await), ["gone 2".to_owned(), row(1, "again")]);
}

#[tokio::test]
async fn keys_are_those_of_a_scan_under_a_folding_collation() {
    let database = Database::create().await;
    database
        .execute("CREATE TABLE t (id varchar(10) PRIMARY KEY, n int) COLLATE utf8mb4_general_ci; INSERT INTO t VALUES ('a', 1)")
        .await;
    let host = database.following().await;
    let selection = database.selection(&*host, "t", &["id"], 100).await;
    let mut log = open(&database, &*host, &selection, None).await.log;
    database.execute("UPDATE t SET id = 'A'").await;
    let changes = seen(&page(&mut *log).await);
    assert_eq!(described(&changes), ["gone a".to_owned(), "[String(\"A\"), I64(1)]".to_owned()]);
}

#[tokio::test]
async fn a_large_transaction_comes_on_many_pages_and_its_place_at_the_end() {
    const COUNT: usize = 200_000;
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a varchar(100))").await;
    let host = database.following().await;
    let selection = database.selection(&*host, "t", &["id"], 5_000).await;
    let opened = open(&database, &*host, &selection, None).await;
    let (from, mut log) = (opened.from, opened.log);
    database.execute(&format!("INSERT INTO t SELECT seq, repeat('x', 90) FROM seq_1_to_{COUNT}")).await;
    let (mut keys, mut start) = (HashSet::new(), None);
    let mut latest = 0;
    while keys.len() < COUNT {
        // What a cancelled read had received comes with the next one.
        let page = match futures::poll!(Box::pin(log.next())) {
            std::task::Poll::Ready(page) => page.unwrap(),
            std::task::Poll::Pending => page(&mut *log).await,
        };
        assert!(page.changes.len() <= 5_000);
        assert!(page.rows.iter().map(<[u8]>::len).sum::<usize>() < 8 << 20);
        for change in seen(&page) {
            // Each page is a state of its own.
            assert!(change.position >= latest, "no state is older than the one before");
            latest = change.position;
            start.get_or_insert(change.position);
            assert!(keys.insert(change.what.key().unwrap().clone()), "nothing twice");
        }
        let is_before = support::position(page.place) <= start.unwrap_or(u64::MAX);
        assert!(keys.len() == COUNT || is_before, "the place is behind the whole transaction");
    }
    let (changes, place) = told_in(&database, "t", &mut *log, "UPDATE t SET a = 'y' WHERE id = 7").await;
    assert!(place > from);
    same_as_scanned(&*host, &selection, &changes).await;
    assert_eq!(changes.len(), 1);
}

/// Writers write while snapshots are taken: of what the log tells and a snapshot, whichever has the greater version is the newer
/// state. An older label on a newer state would let the snapshot take it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn positions_compare_rightly_with_exact_snapshots() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY, n int)").await;
    let host = database.following().await;
    let selection = database.selection(&*host, "t", &["id"], 10_000).await;
    let mut log = open(&database, &*host, &selection, None).await.log;
    let url = database.url.clone();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers = (0..3).map(|writer: i32| {
        let (url, stopped) = (url.clone(), stopped.clone());
        tokio::spawn(async move {
            let mut connection = <sqlx::MySqlConnection as sqlx::Connection>::connect(&url).await.unwrap();
            let mut n = 0;
            while !*stopped.borrow() {
                n += 1;
                // Each row is written once and never again: what is told of it is what it was.
                let write = "INSERT INTO t VALUES (?, ?)";
                sqlx::query(write).bind(n * 3 + writer).bind(n).execute(&mut connection).await.unwrap();
            }
            n
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut snapshots = Vec::new();
    for _ in 0..8 {
        let snapshot = scan(&*host, &selection).await;
        assert_eq!(snapshot.version().sequence, 0);
        snapshots.push((snapshot.version().position, rows(&*snapshot).await));
    }
    stop.send(true).unwrap();
    let mut total = 0;
    for writer in writers {
        total += writer.await.unwrap() as usize;
    }
    let mut told: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut count = 0;
    while count < total {
        for change in seen(&page(&mut *log).await) {
            count += 1;
            told.entry(change.position).or_default().push(format!("{:?}", change.what.values()));
        }
    }
    assert_eq!(count, total);
    assert!(snapshots.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    for (position, rows) in snapshots {
        let found: HashSet<String> = rows.iter().map(|row| format!("{row:?}")).collect();
        let is_seen = |rows: &Vec<String>| rows.iter().filter(|row| found.contains(*row)).count();
        // A state up to the snapshot's is part of it, and what the snapshot does not see is told of a later state.
        let before = told.range(..=position).map(|(_, rows)| rows);
        assert!(before.clone().all(|rows| is_seen(rows) == rows.len()), "at {position}");
        let before: usize = before.map(Vec::len).sum();
        let seen_behind: usize = told.range(position + 1..).map(|(_, rows)| is_seen(rows)).sum();
        assert_eq!(before + seen_behind, found.len(), "at {position}");
    }
}

/// A change is old, its record is fetched as it is now, and an import has read it in between: its page must not take it back.
#[tokio::test]
async fn what_is_fetched_late_is_newer_than_what_an_import_read_before() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a text)").await;
    let host = database.following().await;
    // One record is a page: the second change is not on the first one.
    let selection = database.selection(&*host, "t", &["id"], 1).await;
    let mut log = open(&database, &*host, &selection, None).await.log;
    database.execute("INSERT INTO t VALUES (1, 'old')").await;
    let import = scan(&*host, &selection).await;
    assert_eq!(rows(&*import).await, [[Value::I64(1), Value::String("old".into())]]);
    database.execute("UPDATE t SET a = 'new'").await;
    let first = seen(&page(&mut *log).await);
    assert_eq!(described(&first), [row(1, "new")]);
    assert!(first[0].position > import.version().position, "{first:?}");
    assert!(seen(&page(&mut *log).await).iter().all(|second| second.position >= first[0].position));
}

#[tokio::test]
async fn a_commit_before_a_snapshot_is_not_beyond_it_and_one_behind_it_is() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let host = database.following().await;
    let selection = database.selection(&*host, "t", &["id"], 100).await;
    let mut log = open(&database, &*host, &selection, None).await.log;
    let first = told(&database, &mut *log, "INSERT INTO t VALUES (1)").await;
    let version = scan(&*host, &selection).await.version();
    let again = scan(&*host, &selection).await.version();
    assert_eq!(version.epoch, 1, "of the version that was drawn");
    // A file begins: numbers of files come first.
    let changes =
        told(&database, &mut *log, "INSERT INTO t VALUES (2); FLUSH BINARY LOGS; INSERT INTO t VALUES (3)").await;
    let later = scan(&*host, &selection).await.version();
    let position = |id: i64| {
        let change = changes.iter().find(|change| change.what.key() == Some(&int(id)));
        change.map(|Seen { position, .. }| *position).unwrap()
    };
    // An import of the same state wins: it may have seen what the log does not tell.
    assert!(first[0].position < version.position && version.position <= again.position);
    assert!(again.position < position(2) && position(2) <= position(3));
    assert!(position(3) < later.position);
    assert!(changes.iter().all(|change| matches!(change.what, Change::Row { .. })));
}
