//! Changes come in their order, numbered, with positions that compare with snapshots.

use std::collections::{HashMap, HashSet};

use fides_core::{PipelineId, Selection, Value};

use crate::common::{Database, int, rows, selection};
use crate::support::{Change, Seen, flushed, open, page, read, reader, same_as_scanned, scan, seen, silence};

#[tokio::test]
async fn changes_come_in_their_order_and_are_numbered_in_their_transaction() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a text); CREATE TABLE other (id int)").await;
    let host = database.host(1).await;
    let selection = selection(&*host, "t", &["id"], 100).await;
    let mut opened = open(&database, &*host, &selection, None).await;
    database.execute("BEGIN; INSERT INTO t VALUES (1, 'a'); UPDATE t SET a = 'b'; UPDATE t SET a = 'c'; COMMIT").await;
    database.execute("BEGIN; INSERT INTO t VALUES (9, 'never'); ROLLBACK").await;
    database.execute("INSERT INTO other VALUES (1)").await;
    database
        .execute("BEGIN; UPDATE t SET id = 2; INSERT INTO t VALUES (3, 'd'); DELETE FROM t WHERE id = 2; COMMIT")
        .await;
    database.execute("TRUNCATE t").await;
    let (changes, place) = read(&mut *opened.log, 8).await;
    let told: Vec<(u32, String)> = changes
        .iter()
        .map(|change| {
            let what = match &change.what {
                Change::Row { values, .. } => format!("{values:?}"),
                Change::Gone(key) => format!("gone {key}"),
                Change::Emptied => "emptied".to_owned(),
            };
            (change.sequence, what)
        })
        .collect();
    let row = |id: i64, text: &'static str| format!("{:?}", [Value::I64(id), Value::String(text.into())]);
    let expected = [
        (1, row(1, "a")),
        (2, row(1, "b")),
        (3, row(1, "c")),
        (1, "gone 1".to_owned()),
        (2, row(2, "c")),
        (3, row(3, "d")),
        (4, "gone 2".to_owned()),
        (1, "emptied".to_owned()),
    ];
    assert_eq!(told, expected);
    let positions: Vec<u64> = changes.iter().map(|change| change.position).collect();
    assert_eq!(positions[..3], [positions[0]; 3]);
    assert_eq!(positions[3..7], [positions[3]; 4]);
    assert!(positions[0] < positions[3] && positions[3] < positions[7], "{positions:?}");
    assert!(opened.from <= positions[0] && positions[7] < place, "{} {positions:?} {place}", opened.from);
    database.execute("INSERT INTO other SELECT generate_series(1, 1000)").await;
    assert!(silence(&database, &mut *opened.log).await > place, "the place follows other tables, too");
}

#[tokio::test]
async fn the_old_row_of_a_full_identity_tells_a_key_that_changed() {
    let database = Database::create().await;
    database
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, a text); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t VALUES (1, 'a')",
        )
        .await;
    let host = database.host(1).await;
    let selection = selection(&*host, "t", &["id"], 100).await;
    let mut opened = open(&database, &*host, &selection, None).await;
    database.execute("UPDATE t SET a = 'b'; UPDATE t SET id = 2; DELETE FROM t").await;
    let (changes, _) = read(&mut *opened.log, 4).await;
    assert_eq!(changes[0].what.values(), [Value::I64(1), Value::String("b".into())]);
    assert_eq!(changes[1].what, Change::Gone(int(1)));
    assert_eq!(changes[2].what.values(), [Value::I64(2), Value::String("b".into())]);
    assert_eq!(changes[3].what, Change::Gone(int(2)));
}

#[tokio::test]
async fn a_page_holds_no_more_than_was_asked_for() {
    let database = Database::create().await;
    database
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, a text); ALTER TABLE t ALTER a SET STORAGE EXTERNAL; \
             INSERT INTO t SELECT n, repeat('x', 10000) FROM generate_series(1, 20) n",
        )
        .await;
    let host = database.host(1).await;
    for page_records_max in [1, 2, 3] {
        let selection = selection(&*host, "t", &["id"], page_records_max).await;
        let reader = PipelineId::new(&format!("{}-{page_records_max}", reader(&database).await));
        let mut opened = host.log(&selection, &reader, None).await.unwrap();
        // Of each record: gone, its row fetched, and a row that the log has whole.
        database.execute("BEGIN; UPDATE t SET id = id + 1000; UPDATE t SET a = 'y' || id; COMMIT").await;
        let (mut changes, mut place) = (Vec::new(), opened.from);
        while changes.last().is_none_or(|last: &Seen| last.position >= place) {
            let page = page(&mut *opened.log).await;
            assert!(page.changes.len() <= page_records_max);
            place = page.place;
            changes.extend(seen(&page));
        }
        assert!(changes.iter().map(|change| change.sequence).is_sorted());
        let gone = changes.iter().filter(|change| matches!(change.what, Change::Gone(_))).count();
        let last: Vec<Seen> = changes[changes.len() - 20..].to_vec();
        let whole = Selection { page_records_max: 100, ..selection };
        same_as_scanned(&*host, &whole, &last).await;
        assert_eq!(gone, 20);
        database.execute("UPDATE t SET id = id - 1000, a = repeat('x', 10000)").await;
    }
}

#[tokio::test]
async fn a_large_transaction_comes_on_many_pages_and_its_place_at_the_end() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a text)").await;
    let host = database.host(1).await;
    let mut selection = selection(&*host, "t", &["id"], 1_000).await;
    let mut opened = open(&database, &*host, &selection, None).await;
    let before = flushed(&database).await;
    database.execute("INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(1, 50000) n").await;
    let (mut count, mut position) = (0, None);
    while count < 50_000 {
        let page = page(&mut *opened.log).await;
        assert!(page.changes.len() <= 1_000);
        for change in &page.changes {
            count += 1;
            assert_eq!(change.sequence, count);
            assert_eq!(*position.get_or_insert(change.position), change.position);
        }
        assert!(count == 50_000 || page.place <= position.unwrap_or(before), "{} {position:?}", page.place);
    }
    assert!(silence(&database, &mut *opened.log).await > position.unwrap());

    // A page ends at four mebibytes, too; what a cancelled read had received comes with the next one.
    selection.page_records_max = 100_000;
    drop(opened);
    let mut opened = open(&database, &*host, &selection, None).await;
    database.execute("UPDATE t SET a = repeat('y', 10000) WHERE id <= 2000").await;
    let mut ids = Vec::new();
    while ids.len() < 2_000 {
        let polled = futures::poll!(Box::pin(opened.log.next()));
        let page = match polled {
            std::task::Poll::Ready(page) => page.unwrap(),
            std::task::Poll::Pending => page(&mut *opened.log).await,
        };
        assert!(page.rows.iter().map(<[u8]>::len).sum::<usize>() < (4 << 20) + 20_000);
        ids.extend(seen(&page).iter().map(|change| change.what.values()[0].clone()));
    }
    // Nothing twice, nothing left out.
    let distinct: HashSet<String> = ids.iter().map(|id| format!("{id:?}")).collect();
    assert_eq!(distinct.len(), ids.len());
}

#[tokio::test]
async fn positions_compare_rightly_with_exact_snapshots() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY, n int)").await;
    let host = database.host(2).await;
    let selection = selection(&*host, "t", &["id"], 10_000).await;
    let mut opened = open(&database, &*host, &selection, None).await;
    let url = database.url.clone();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers = (0..3).map(|writer: i32| {
        let (url, stopped) = (url.clone(), stopped.clone());
        tokio::spawn(async move {
            let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
            let mut n = 0;
            while !*stopped.borrow() {
                n += 1;
                let write = "INSERT INTO t VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET n = excluded.n";
                sqlx::query(write).bind(writer * 10 + n % 10).bind(n).execute(&mut connection).await.unwrap();
            }
            n
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut snapshots = Vec::new();
    for _ in 0..6 {
        let snapshot = scan(&*host, &selection).await;
        snapshots.push((snapshot.version().position, rows(&*snapshot).await));
    }
    stop.send(true).unwrap();
    let mut total = 0;
    for writer in writers {
        total += writer.await.unwrap() as usize;
    }
    let (changes, _) = read(&mut *opened.log, total).await;
    let mut compared = 0;
    for (position, rows) in snapshots {
        // What a reader that compares versions holds after the snapshot's changes, and what the snapshot holds.
        let mut state: HashMap<String, Vec<Value<'static>>> = HashMap::new();
        for change in changes.iter().filter(|change| change.position < position) {
            let values = change.what.values().to_vec();
            state.insert(format!("{:?}", values[0]), values);
        }
        assert_eq!(state.len(), rows.len());
        for row in rows {
            compared += 1;
            assert_eq!(state.get(&format!("{:?}", row[0])), Some(&row), "at {position}");
        }
    }
    assert!(compared > 0, "the writers wrote before the last snapshot");
}
