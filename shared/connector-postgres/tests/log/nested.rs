//! Records made of several tables.

use std::collections::HashSet;
use std::time::Duration;

use fides_core::port::{Host, Log, Opened};
use fides_core::{Arity, Selection, Value};

use crate::common::{Database, include, int, selection};
use crate::support::{
    Change, Seen, flushed, open, page, read, reader, refused, scalar, scan, seen, slot, try_page, unread,
};

/// Pages without changes may come for ever where one was lost.
const PATIENCE: Duration = Duration::from_mins(1);

/// Orders with their lines, and the lines with their products.
async fn orders(database: &Database, host: &dyn Host) -> Selection {
    database
        .execute(
            "CREATE TABLE o (id int PRIMARY KEY, c int); \
             CREATE TABLE c (id int PRIMARY KEY, name text); \
             CREATE TABLE l (id int PRIMARY KEY, o bigint, p int, n int); ALTER TABLE l REPLICA IDENTITY FULL; \
             CREATE TABLE p (id int PRIMARY KEY, name text); \
             INSERT INTO c VALUES (1, 'Ann'), (2, 'Bob'); INSERT INTO p VALUES (1, 'pen'), (2, 'cap'); \
             INSERT INTO o VALUES (1, 1), (2, 1), (3, 2); INSERT INTO l VALUES (1, 1, 1, 5), (2, 1, 2, 1), (3, 2, 2, 1)",
        )
        .await;
    let mut selection = selection(host, "o", &["id"], 1_000).await;
    let mut lines = include(host, "l", ("o", "id"), Arity::Many).await;
    lines.includes = vec![include(host, "p", ("id", "p"), Arity::One).await];
    selection.includes = vec![lines, include(host, "c", ("id", "c"), Arity::One).await];
    selection
}

/// The roots on the pages until a change of the order 99, which is made and removed behind what is asked for.
async fn roots(database: &Database, log: &mut dyn Log, sql: &str) -> Vec<Seen> {
    database.execute(sql).await;
    database.execute("INSERT INTO o VALUES (99, NULL); DELETE FROM o WHERE id = 99").await;
    let mut all = Vec::new();
    loop {
        for change in seen(&page(log).await) {
            match &change.what {
                Change::Gone(key) if *key == int(99) => return all,
                Change::Row { key, .. } if *key == int(99) => {}
                _ => all.push(change),
            }
        }
    }
}

fn keys(changes: &[Seen]) -> Vec<i64> {
    let keys: std::collections::BTreeSet<i64> = changes
        .iter()
        .map(|change| match &change.what {
            Change::Row { values, .. } => match values[0] {
                Value::I64(id) => id,
                ref other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
        .collect();
    keys.into_iter().collect()
}

#[tokio::test]
async fn a_change_of_what_is_nested_is_a_change_of_its_roots() {
    let database = Database::create().await;
    let host = database.host(2).await;
    let selection = orders(&database, &*host).await;
    let mut opened = open(&database, &*host, &selection, None).await;
    let log = &mut *opened.log;
    for (sql, expected) in [
        ("UPDATE l SET n = 6 WHERE id = 1", &[1][..]),
        ("UPDATE l SET o = 3 WHERE id = 1", &[1, 3]),
        ("DELETE FROM l WHERE id = 1", &[3]),
        ("INSERT INTO l VALUES (1, 1, 1, 5), (4, NULL, 1, 5), (5, 77, 1, 5)", &[1]),
        ("UPDATE p SET name = 'hat' WHERE id = 2", &[1, 2]),
        ("UPDATE c SET name = 'Eve' WHERE id = 1", &[1, 2]),
        ("UPDATE o SET c = 2 WHERE id = 2", &[2]),
        ("BEGIN; UPDATE l SET n = 0; UPDATE p SET name = 'x'; UPDATE c SET name = 'y'; COMMIT", &[1, 2, 3]),
    ] {
        let changes = roots(&database, log, sql).await;
        assert_eq!(keys(&changes), expected, "{sql}");
        let snapshot = scan(&*host, &selection).await;
        for change in changes {
            let Change::Row { key, raw, fingerprint: print, .. } = &change.what else { panic!("{change:?}") };
            let page = snapshot.fetch(std::slice::from_ref(key)).await.unwrap();
            assert_eq!(String::from_utf8_lossy(raw), String::from_utf8_lossy(page.rows.get(0)), "{sql}");
            assert_eq!(*print, page.fingerprints[0]);
        }
    }
    let gone = roots(&database, log, "UPDATE o SET id = 4 WHERE id = 3; DELETE FROM o WHERE id = 4").await;
    let gone: Vec<&Change> =
        gone.iter().map(|change| &change.what).filter(|what| matches!(what, Change::Gone(_))).collect();
    assert_eq!(gone, [&Change::Gone(int(3)), &Change::Gone(int(4))]);
    let emptied = roots(&database, log, "TRUNCATE l").await;
    assert!(matches!(&emptied[..], [Seen { what: Change::Emptied, .. }]), "{emptied:?}");
}

#[tokio::test]
async fn what_is_fetched_late_is_newer_than_what_an_import_read_before() {
    let database = Database::create().await;
    let host = database.host(3).await;
    let mut selection = orders(&database, &*host).await;
    // One change is a page: the later ones are not on the first.
    selection.page_records_max = 1;
    let Opened { mut log, from, .. } = open(&database, &*host, &selection, None).await;
    database.execute("UPDATE l SET n = 10 WHERE id = 1; DELETE FROM o WHERE id = 2").await;
    let import = scan(&*host, &selection).await;
    database.execute("UPDATE l SET n = 20 WHERE id = 1; INSERT INTO o VALUES (2, 2); DELETE FROM o WHERE id = 3").await;
    let mut all = seen(&page(&mut *log).await);
    assert!(matches!(all[..], [Seen { what: Change::Row { .. }, .. }]), "{all:?}");
    // What follows is not in the state that the first page was read from.
    database.execute("UPDATE l SET n = 30 WHERE id = 1").await;
    let count = |all: &[Seen], key: i64| all.iter().filter(|change| change.what.key() == &int(key)).count();
    let rest = async {
        while count(&all, 3) < 1 || count(&all, 1) < 3 {
            all.extend(seen(&page(&mut *log).await));
        }
    };
    tokio::time::timeout(PATIENCE, rest).await.expect("every change is told");
    let later = scan(&*host, &selection).await;
    let order = |change: &Seen| (change.position, change.sequence);
    for change in &all {
        assert!(
            (import.version().position, 0) < order(change),
            "an import that saw less takes nothing back: {change:?}"
        );
        assert!(order(change) < (later.version().position, 0), "one that begins later wins: {change:?}");
    }
    assert!(all.is_sorted_by_key(order), "{all:?}");
    assert!(order(&all[0]) < order(&all[1]), "a later state has a higher label: {all:?}");
    let told = |key: i64| all.iter().filter(move |change| change.what.key() == &int(key)).collect::<Vec<_>>();
    let lines = import.fetch(&[int(1)]).await.unwrap();
    for change in told(1) {
        let Change::Row { raw, .. } = &change.what else { panic!("{change:?}") };
        assert_ne!(raw, lines.rows.get(0), "it is as it was when it was fetched");
    }
    assert_ne!(told(1)[0].what, told(1).last().unwrap().what);
    // It was gone and is back: no deletion overtakes it.
    assert!(!told(2).is_empty() && told(2).iter().all(|change| matches!(change.what, Change::Row { .. })), "{all:?}");
    assert!(matches!(told(3)[..], [Seen { what: Change::Gone(_), .. }]), "{all:?}");

    // What is read again after a crash is as new as what it finds.
    drop(log);
    let mut log = open(&database, &*host, &selection, Some(from)).await.log;
    let again = async {
        loop {
            if let Some(change) = seen(&page(&mut *log).await).into_iter().next() {
                return change;
            }
        }
    };
    let again = tokio::time::timeout(PATIENCE, again).await.expect("what was not released comes again");
    assert!(order(&again) >= order(all.last().unwrap()), "{again:?} {all:?}");
}

/// To a snapshot from before its end, a table that was rewritten is empty.
#[tokio::test]
async fn a_table_that_is_being_rewritten_is_not_taken_for_empty() {
    let database = Database::create().await;
    let host = database.host(1).await;
    let selection = orders(&database, &*host).await;
    let Opened { mut log, from, .. } = open(&database, &*host, &selection, None).await;
    let mut writer = database.connect().await;
    let rewrite = "BEGIN; ALTER TABLE l ADD at timestamptz DEFAULT clock_timestamp()";
    sqlx::raw_sql(rewrite).execute(&mut writer).await.unwrap();
    database.execute("UPDATE o SET c = 2 WHERE id = 1").await;
    let told = tokio::spawn(async move {
        loop {
            // A page that tells only a place may come first.
            match try_page(&mut *log).await {
                Ok(page) if page.changes.is_empty() => {}
                told => return told.map(|page| seen(&page)),
            }
        }
    });
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'l'::regclass";
    while scalar(&database, waiting).await == 0 {
        assert!(!told.is_finished(), "it waits for the table");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sqlx::raw_sql("COMMIT").execute(&mut writer).await.unwrap();
    let fault = told.await.unwrap().unwrap_err();
    assert!(fault.to_string().contains("public.l was rewritten or replaced"), "{fault}");
    // Nothing of it was handed over: it is read again.
    let mut log = open(&database, &*host, &selection, Some(from)).await.log;
    let (told, _) = read(&mut *log, 1).await;
    let [Seen { what: Change::Row { values, .. }, .. }] = &told[..] else { panic!("{told:?}") };
    assert!(format!("{values:?}").contains("pen"), "its lines are there: {values:?}");
}

#[tokio::test]
async fn a_table_may_be_root_and_nested() {
    let database = Database::create().await;
    database
        .execute(
            "CREATE TABLE o (id int PRIMARY KEY, c int); ALTER TABLE o REPLICA IDENTITY FULL; \
             INSERT INTO o VALUES (1, NULL), (2, 1), (3, 1), (4, 2)",
        )
        .await;
    let host = database.host(2).await;
    let mut selection = selection(&*host, "o", &["id"], 1_000).await;
    let mut below = include(&*host, "o", ("c", "id"), Arity::Many).await;
    below.includes = vec![include(&*host, "o", ("c", "id"), Arity::Many).await];
    selection.includes = vec![below];
    let mut opened = open(&database, &*host, &selection, None).await;
    // Itself, the records above, before and after, and those above them.
    let changes = roots(&database, &mut *opened.log, "UPDATE o SET c = 3 WHERE id = 4").await;
    assert_eq!(keys(&changes), [1, 2, 3, 4]);
    let changes = roots(&database, &mut *opened.log, "UPDATE o SET c = NULL WHERE id = 2").await;
    assert_eq!(keys(&changes), [1, 2]);
}

#[tokio::test]
async fn a_change_with_very_many_roots_comes_on_many_pages() {
    let database = Database::create().await;
    let host = database.host(2).await;
    let mut selection = orders(&database, &*host).await;
    selection.page_records_max = 300;
    database.execute("INSERT INTO o SELECT n, 2 FROM generate_series(1000, 2999) n").await;
    let mut opened = open(&database, &*host, &selection, None).await;
    let before = opened.from;
    database.execute("UPDATE c SET name = 'Eve' WHERE id = 2").await;
    database.execute("UPDATE o SET c = 1 WHERE id = 1").await;
    let (mut ids, mut place) = (Vec::new(), before);
    while ids.len() < 2_002 {
        let page = page(&mut *opened.log).await;
        assert!(page.changes.len() <= 300);
        let changes = seen(&page);
        let is_end = changes.iter().any(|change| change.what.values()[0] == Value::I64(1));
        for change in &changes {
            let Value::I64(id) = change.what.values()[0] else { panic!("{change:?}") };
            ids.push(id);
        }
        if !is_end && ids.len() < 2_001 {
            assert_eq!(page.place, place, "the place stays before a change whose roots are not all there");
        }
        place = page.place;
    }
    let distinct: HashSet<i64> = ids.iter().copied().collect();
    assert_eq!((ids.len(), distinct.len()), (2_002, 2_002));
    assert!(place > before);
}

#[tokio::test]
async fn a_publication_that_lacks_a_table_is_widened_and_the_gap_is_told() {
    let database = Database::create().await;
    let host = database.host(2).await;
    let nesting = orders(&database, &*host).await;
    let plain = Selection { includes: Vec::new(), ..nesting.clone() };
    let mut opened = open(&database, &*host, &plain, None).await;
    database.execute("INSERT INTO o VALUES (5, 1)").await;
    let (_, place) = read(&mut *opened.log, 1).await;
    drop(opened);
    let same = open(&database, &*host, &plain, Some(place)).await;
    assert_eq!(same.gap, None);
    drop(same);
    let mut widened = open(&database, &*host, &nesting, Some(place)).await;
    let gap = widened.gap.take().unwrap();
    assert!(gap.why().contains("lacked") && gap.why().contains("\"public\".\"l\""), "{gap:?}");
    assert_eq!(keys(&roots(&database, &mut *widened.log, "UPDATE c SET name = 'z' WHERE id = 2").await), [3]);
    drop(widened);
    // Until a place behind it is stored, the gap is told again.
    let again = open(&database, &*host, &nesting, Some(place)).await;
    assert!(again.gap.is_some());
    drop(again);
    let name = slot(&reader(&database).await);
    unread(&database, &reader(&database).await).await;
    database.execute(&format!("DROP PUBLICATION \"{name}\"; UPDATE o SET c = 1")).await;
    let mut anew = open(&database, &*host, &nesting, Some(flushed(&database).await)).await;
    assert!(anew.gap.is_some_and(|gap| gap.why().contains("there was no publication")));
    assert_eq!(keys(&roots(&database, &mut *anew.log, "UPDATE o SET c = 2 WHERE id = 1").await), [1]);
    drop(anew.log);
    unread(&database, &reader(&database).await).await;
    database.execute(&format!("ALTER PUBLICATION \"{name}\" SET (publish = 'insert')")).await;
    let kinds = open(&database, &*host, &nesting, Some(flushed(&database).await)).await;
    assert!(kinds.gap.is_some_and(|gap| gap.why().contains("some kinds of changes")));
    drop(kinds.log);
    unread(&database, &reader(&database).await).await;
    database.execute(&format!("ALTER PUBLICATION \"{name}\" SET TABLE o (id), l, p, c")).await;
    let fault = refused(&database, &*host, &nesting).await;
    assert!(fault.to_string().contains("SET TABLE \"public\".\"o\""), "{fault}");
}
