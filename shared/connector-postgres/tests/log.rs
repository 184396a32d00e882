//! The log of a selection: every change in its order, with the bytes of a scan, from where it was left.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use common::cases::table_of_types;
use common::{Database, execute, include, int, rows, selection};
use fides_core::port::{Host, Log, LogPage, Opened, Snapshot, What};
use fides_core::{
    Arity, Fault, FaultKind, Fingerprint, Key, KeyRange, PipelineId, Selection, Value, Version, fingerprint,
};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

/// A change, taken from its page.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    position: u64,
    sequence: u32,
    what: Change,
}

#[derive(Clone, Debug, PartialEq)]
enum Change {
    Row { key: Key, raw: Vec<u8>, fingerprint: Fingerprint, values: Vec<Value<'static>> },
    Gone(Key),
    Emptied,
}

impl Change {
    fn values(&self) -> &[Value<'static>] {
        let Self::Row { values, .. } = self else { panic!("{self:?} is no row") };
        values
    }
}

fn seen(page: &LogPage) -> Vec<Seen> {
    assert_eq!(page.rows.len(), page.fingerprints.len());
    let change = |what: &What| match what {
        What::Row { key, at } => {
            let mut values = Vec::new();
            page.decoder.decode(page.rows.get(*at), &mut values).unwrap();
            Change::Row {
                key: key.clone(),
                raw: page.rows.get(*at).to_vec(),
                fingerprint: page.fingerprints[*at],
                values: values.into_iter().map(Value::into_owned).collect(),
            }
        }
        What::Gone(key) => Change::Gone(key.clone()),
        What::Emptied => Change::Emptied,
    };
    let logged = page.changes.iter();
    logged
        .map(|logged| Seen { position: logged.position, sequence: logged.sequence, what: change(&logged.what) })
        .collect()
}

async fn page(log: &mut dyn Log) -> LogPage {
    try_page(log).await.unwrap()
}

async fn try_page(log: &mut dyn Log) -> Result<LogPage, Fault> {
    tokio::time::timeout(Duration::from_secs(30), log.next()).await.expect("the log says something")
}

/// Reads until `count` changes were seen, and the end of the last one's transaction; what they are, and the place.
async fn read(log: &mut dyn Log, count: usize) -> (Vec<Seen>, u64) {
    let (mut all, mut place) = (Vec::<Seen>::new(), 0);
    while all.len() < count || all.last().is_some_and(|last| last.position >= place) {
        let page = page(log).await;
        assert!(page.place >= place, "a place never goes backward");
        place = page.place;
        all.extend(seen(&page));
    }
    assert_eq!(all.len(), count, "{all:?}");
    (all, place)
}

/// Reads until the place is at or behind the present end of the log; nothing of what comes is a change.
async fn silence(database: &Database, log: &mut dyn Log) -> u64 {
    let end = flushed(database).await;
    loop {
        let page = page(log).await;
        assert!(page.changes.is_empty(), "{:?}", seen(&page));
        if page.place >= end {
            return page.place;
        }
    }
}

async fn flushed(database: &Database) -> u64 {
    let lsn = "SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint";
    let lsn: i64 = sqlx::query_scalar(lsn).fetch_one(&mut database.connect().await).await.unwrap();
    lsn.unsigned_abs()
}

async fn scalar(database: &Database, sql: &str) -> i64 {
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    sqlx::query_scalar(sql).fetch_one(&mut database.connect().await).await.unwrap()
}

/// The name of a slot lives in the whole cluster: each test has its own.
async fn reader(database: &Database) -> PipelineId {
    let name: String =
        sqlx::query_scalar("SELECT current_database()::text").fetch_one(&mut database.connect().await).await.unwrap();
    PipelineId::new(&name.replace('_', "-"))
}

fn slot(reader: &PipelineId) -> String {
    format!("fides_{}", reader.as_str().replace('-', "_2d_"))
}

/// Awaits the end of whoever read the slot before.
async fn unread(database: &Database, reader: &PipelineId) {
    let sql = format!("SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name = '{}'", slot(reader));
    for _ in 0..3_000 {
        if scalar(database, &sql).await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the slot is still being read");
}

async fn open(database: &Database, host: &dyn Host, selection: &Selection, after: Option<u64>) -> Opened {
    let reader = reader(database).await;
    unread(database, &reader).await;
    host.log(selection, &reader, after).await.unwrap()
}

async fn refused(database: &Database, host: &dyn Host, selection: &Selection) -> Fault {
    host.log(selection, &reader(database).await, None).await.map(drop).unwrap_err()
}

async fn scan(host: &dyn Host, selection: &Selection) -> Arc<dyn Snapshot> {
    host.snapshot(selection, Version::scan(1, 1)).await.unwrap()
}

/// Whether the rows of the log are those of a scan, byte for byte.
async fn same_as_scanned(host: &dyn Host, selection: &Selection, changes: &[Seen]) {
    let snapshot = scan(host, selection).await;
    let page = snapshot.scan(&KeyRange::ALL, None).await.unwrap();
    assert_eq!(page.len(), changes.len());
    for change in changes {
        let Change::Row { key, raw, fingerprint: print, values } = &change.what else { panic!("{change:?}") };
        let at = page.find(key.as_bytes()).unwrap();
        assert_eq!(String::from_utf8_lossy(raw), String::from_utf8_lossy(page.rows.get(at)));
        assert_eq!(raw, page.rows.get(at));
        assert_eq!(*print, page.fingerprints[at]);
        assert_eq!(*print, fingerprint(raw, selection.seed));
        assert_eq!(format!("{values:?}"), format!("{:?}", page.values(at).unwrap()));
    }
}

#[tokio::test]
async fn every_type_has_the_bytes_of_a_scan() {
    let database = Database::create().await;
    table_of_types(&database).await;
    let host = database.host(1).await;
    let mut selection = selection(&*host, "a", &["id"], 10).await;
    // The key in the middle, and another order than the table's.
    selection.columns.rotate_left(7);
    selection.seed = 77;
    let mut opened = open(&database, &*host, &selection, None).await;
    database
        .execute("CREATE TEMP TABLE b AS TABLE a; DELETE FROM a; INSERT INTO a TABLE b; UPDATE a SET id = id")
        .await;
    let (changes, _) = read(&mut *opened.log, 6).await;
    assert!(changes[..2].iter().all(|change| matches!(change.what, Change::Gone(_))), "{changes:?}");
    same_as_scanned(&*host, &selection, &changes[2..4]).await;
    same_as_scanned(&*host, &selection, &changes[4..]).await;
}

#[tokio::test]
async fn any_text_has_the_bytes_of_a_scan() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (a text, b text[], n numeric, f float8, g float4, PRIMARY KEY (a))").await;
    let host = database.host(1).await;
    let selection = selection(&*host, "t", &["a"], 100_000).await;
    let mut opened = open(&database, &*host, &selection, None).await;
    let mut runner = TestRunner::deterministic();
    let text = proptest::prop_oneof!["[^\\x00]{0,12}", "[\\\\\\x01-\\x20\\x7fN{},\"']{0,9}"];
    let strategy = (text, proptest::num::f64::ANY, proptest::num::f32::ANY, "-?[0-9]{1,40}(\\.[0-9]{0,20})?");
    let mut keys = HashSet::new();
    let mut connection = database.connect().await;
    execute(&mut connection, "BEGIN").await;
    for _ in 0..500 {
        let (a, f, g, n) = strategy.new_tree(&mut runner).unwrap().current();
        let insert = "INSERT INTO t VALUES ($1, ARRAY[$1, NULL, $1], $2::numeric, $3, $4) ON CONFLICT DO NOTHING";
        sqlx::query(insert).bind(&a).bind(&n).bind(f).bind(g).execute(&mut connection).await.unwrap();
        keys.insert(a);
    }
    execute(&mut connection, "UPDATE t SET n = NULL WHERE length(a) % 2 = 0; COMMIT").await;
    let updated = keys.iter().filter(|key| key.chars().count() % 2 == 0).count();
    let (changes, _) = read(&mut *opened.log, keys.len() + updated).await;
    let mut last: HashMap<Key, Seen> = HashMap::new();
    for change in changes {
        let Change::Row { key, .. } = &change.what else { panic!("{change:?}") };
        last.insert(key.clone(), change);
    }
    same_as_scanned(&*host, &selection, &last.into_values().collect::<Vec<_>>()).await;
}

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
async fn an_unchanged_value_outside_of_its_row_is_kept() {
    let database = Database::create().await;
    for name in ["d", "f"] {
        database
            .execute(&format!(
                "CREATE TABLE {name} (id int PRIMARY KEY, big text, n int); \
                 ALTER TABLE {name} ALTER big SET STORAGE EXTERNAL; \
                 INSERT INTO {name} SELECT n, repeat('x', 100000) || n, 0 FROM generate_series(1, 3) n"
            ))
            .await;
    }
    database.execute("ALTER TABLE f REPLICA IDENTITY FULL").await;
    let host = database.host(1).await;
    for name in ["d", "f"] {
        let selection = selection(&*host, name, &["id"], 100).await;
        let reader = PipelineId::new(&format!("{}-{name}", reader(&database).await));
        let mut opened = host.log(&selection, &reader, None).await.unwrap();
        database.execute(&format!("UPDATE {name} SET n = id")).await;
        let (changes, _) = read(&mut *opened.log, 3).await;
        same_as_scanned(&*host, &selection, &changes).await;
        // The latest of several, and none of a record that was deleted afterwards.
        database
            .execute(&format!(
                "BEGIN; UPDATE {name} SET n = 5 WHERE id = 1; UPDATE {name} SET n = 6 WHERE id = 1; \
                 UPDATE {name} SET n = 7 WHERE id = 2; DELETE FROM {name} WHERE id = 2; COMMIT"
            ))
            .await;
        let (mut last, mut changes) = (None, Vec::new());
        while last != Some(Change::Gone(int(2))) {
            changes.extend(seen(&page(&mut *opened.log).await));
            last = changes.last().map(|change| change.what.clone());
        }
        let is_one = |change: &&Seen| matches!(&change.what, Change::Row { key, .. } if *key == int(1));
        let newest = changes.iter().rfind(is_one).unwrap();
        assert_eq!(newest.sequence, 2);
        assert_eq!(newest.what.values()[2], Value::I64(6));
    }
}

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
async fn a_change_with_very_many_roots_comes_on_many_pages() {
    let database = Database::create().await;
    let host = database.host(2).await;
    let selection = orders(&database, &*host).await;
    database.execute("INSERT INTO o SELECT n, 2 FROM generate_series(1000, 2999) n").await;
    let mut opened = open(&database, &*host, &selection, None).await;
    let before = opened.from;
    database.execute("UPDATE c SET name = 'Eve' WHERE id = 2").await;
    database.execute("UPDATE o SET c = 1 WHERE id = 1").await;
    let (mut ids, mut place) = (Vec::new(), before);
    while ids.len() < 2_002 {
        let page = page(&mut *opened.log).await;
        assert!(page.changes.len() <= 1_100);
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
async fn what_was_not_released_comes_again_and_nothing_is_missing() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let host = database.host(1).await;
    let selection = selection(&*host, "t", &["id"], 100).await;
    let first = open(&database, &*host, &selection, None).await;
    assert!(first.gap.as_ref().is_some_and(|gap| gap.contains("there was no replication slot")), "{:?}", first.gap);
    let mut log = first.log;
    database.execute("INSERT INTO t VALUES (1)").await;
    let (_, one) = read(&mut *log, 1).await;
    log.release(one).await.unwrap();
    database.execute("INSERT INTO t VALUES (2)").await;
    let (two, behind_two) = read(&mut *log, 1).await;
    // The server keeps what it is told.
    let confirmed = format!(
        "SELECT (confirmed_flush_lsn - '0/0')::bigint FROM pg_replication_slots WHERE slot_name = '{}'",
        slot(&reader(&database).await)
    );
    while scalar(&database, &confirmed).await.unsigned_abs() < one {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(log);
    database.execute("INSERT INTO t VALUES (3)").await;
    let again = open(&database, &*host, &selection, Some(one)).await;
    assert_eq!((again.from, again.gap), (one, None));
    let mut log = again.log;
    let (changes, end) = read(&mut *log, 2).await;
    assert_eq!((&changes[0], changes[1].what.values()), (&two[0], &[Value::I64(3)][..]));
    log.release(end).await.unwrap();
    log.release(one).await.unwrap();
    while scalar(&database, &confirmed).await.unsigned_abs() < end {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(log);

    // A place from before what was released: somebody else has read on.
    let behind = open(&database, &*host, &selection, Some(behind_two)).await;
    assert!(behind.gap.as_ref().is_some_and(|gap| gap.contains("read on by somebody else")), "{:?}", behind.gap);
    assert!(behind.from >= end);
    drop(behind);
    let unknown = open(&database, &*host, &selection, None).await;
    assert!(unknown.gap.is_some_and(|gap| gap.contains("no place")));
    drop(unknown.log);
    unread(&database, &reader(&database).await).await;
    database.execute(&format!("SELECT pg_drop_replication_slot('{}')", slot(&reader(&database).await))).await;
    let dropped = open(&database, &*host, &selection, Some(end)).await;
    assert!(dropped.gap.is_some_and(|gap| gap.contains("there was no replication slot")));
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

#[tokio::test]
async fn what_cannot_be_followed_is_told_with_what_mends_it() {
    let database = Database::create().await;
    database
        .execute(
            "CREATE TABLE bare (id int NOT NULL UNIQUE); CREATE TABLE t (id int PRIMARY KEY, big text); \
             CREATE TABLE child (id int PRIMARY KEY, t int); CREATE VIEW v AS TABLE t; \
             CREATE UNLOGGED TABLE u (id int PRIMARY KEY); \
             CREATE TABLE g (a int, id int GENERATED ALWAYS AS (a + 1) STORED PRIMARY KEY)",
        )
        .await;
    let host = database.host(1).await;
    let mut nesting = selection(&*host, "t", &["id"], 10).await;
    nesting.includes = vec![include(&*host, "child", ("t", "id"), Arity::Many).await];
    let cases = [
        (selection(&*host, "bare", &["id"], 10).await, "ALTER TABLE public.bare REPLICA IDENTITY FULL"),
        (nesting.clone(), "ALTER TABLE public.child REPLICA IDENTITY FULL"),
        (selection(&*host, "v", &["id"], 10).await, "only tables have a log"),
        (selection(&*host, "u", &["id"], 10).await, "SET LOGGED"),
        (selection(&*host, "g", &["id"], 10).await, "is generated"),
    ];
    for (selection, part) in cases {
        let fault = refused(&database, &*host, &selection).await;
        assert_eq!(fault.kind, FaultKind::Permanent, "{fault}");
        assert!(fault.to_string().contains(part), "{fault}");
    }
    assert_eq!(scalar(&database, "SELECT count(*) FROM pg_publication").await, 0, "nothing was made on the server");
    database.execute("ALTER TABLE public.child REPLICA IDENTITY FULL").await;
    drop(open(&database, &*host, &nesting, None).await);
}

#[tokio::test]
async fn missing_rights_are_told() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let mut admin = database.connect().await;
    let role: String =
        sqlx::query_scalar("SELECT current_database() || '_reader'").fetch_one(&mut admin).await.unwrap();
    database.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 's3cret'; GRANT SELECT ON t TO {role}")).await;
    let url = database.url_as(&role, "s3cret");
    let without = fides_connector_postgres::host(&url, 1).await.unwrap();
    let selection = selection(&*without, "t", &["id"], 10).await;
    let replication = refused(&database, &*without, &selection).await;
    database.execute(&format!("ALTER ROLE {role} REPLICATION")).await;
    let with = fides_connector_postgres::host(&url, 1).await.unwrap();
    let publication = refused(&database, &*with, &selection).await;
    // What it says helps.
    let mend = publication.to_string();
    let mend = mend.split("run: ").nth(1).unwrap().trim_end_matches(')').to_owned() + ")";
    database.execute(&mend).await;
    let mut opened = open(&database, &*with, &selection, None).await;
    database.execute("INSERT INTO t VALUES (1)").await;
    let (changes, _) = read(&mut *opened.log, 1).await;
    drop(opened);
    drop((with, without));
    unread(&database, &reader(&database).await).await;
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    assert_eq!(changes[0].what.values(), [Value::I64(1)]);
    assert_eq!(replication.kind, FaultKind::Permanent, "{replication}");
    assert!(replication.to_string().contains(&format!("ALTER ROLE \"{role}\" REPLICATION")), "{replication}");
    assert_eq!(publication.kind, FaultKind::Permanent, "{publication}");
    assert!(publication.to_string().contains("CREATE PUBLICATION"), "{publication}");
    assert!(!format!("{replication:?}{publication:?}").contains("s3cret"));
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
    assert!(gap.contains("lacked") && gap.contains("\"public\".\"l\""), "{gap}");
    assert_eq!(keys(&roots(&database, &mut *widened.log, "UPDATE c SET name = 'z' WHERE id = 2").await), [3]);
}

#[tokio::test]
async fn a_table_that_no_longer_fits_is_told() {
    let database = Database::create().await;
    for (change, write, parts) in [
        (
            "ALTER TABLE t ALTER n TYPE text",
            "INSERT INTO t VALUES (2, 'x')",
            &["column n is text", "expected: integer"],
        ),
        ("ALTER TABLE t DROP n", "INSERT INTO t VALUES (2)", &["column n is not in the log", "expected: integer"]),
        ("ALTER TABLE t RENAME TO s", "INSERT INTO s VALUES (2)", &["public.t", "is called public.s"]),
    ] {
        database.execute("DROP TABLE IF EXISTS t, s; CREATE TABLE t (id int PRIMARY KEY, n int, m int)").await;
        let host = database.host(1).await;
        let mut selection = selection(&*host, "t", &["id"], 100).await;
        selection.columns.pop();
        let mut opened = open(&database, &*host, &selection, None).await;
        database.execute("INSERT INTO t VALUES (1)").await;
        // A column that is not read does not matter.
        database.execute("ALTER TABLE t DROP m; ALTER TABLE t ADD q int").await;
        database.execute("UPDATE t SET id = 1").await;
        read(&mut *opened.log, 2).await;
        database.execute(change).await;
        database.execute(write).await;
        let fault = loop {
            if let Err(fault) = try_page(&mut *opened.log).await {
                break fault;
            }
        };
        assert_eq!(fault.kind, FaultKind::Permanent, "{fault}");
        assert!(parts.iter().all(|part| fault.to_string().contains(part)), "{fault}");
    }
}

#[tokio::test]
async fn partitions_and_generated_columns_are_followed() {
    let database = Database::create().await;
    database
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a * 2) STORED) PARTITION BY RANGE (id); \
             CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10); \
             CREATE TABLE t2 (b int GENERATED ALWAYS AS (a * 2) STORED, a int, id int NOT NULL); \
             ALTER TABLE t ATTACH PARTITION t2 FOR VALUES FROM (10) TO (20)",
        )
        .await;
    let host = database.host(1).await;
    let selection = selection(&*host, "t", &["id"], 100).await;
    let mut opened = open(&database, &*host, &selection, None).await;
    database.execute("INSERT INTO t VALUES (1, 3), (11, 4)").await;
    let (changes, _) = read(&mut *opened.log, 2).await;
    same_as_scanned(&*host, &selection, &changes).await;
    database.execute("UPDATE t SET id = 12 WHERE id = 1").await;
    let (changes, _) = read(&mut *opened.log, 2).await;
    assert_eq!(changes[0].what, Change::Gone(int(1)));
    assert_eq!(changes[1].what.values(), [Value::I64(12), Value::I64(3), Value::I64(6)]);
}
