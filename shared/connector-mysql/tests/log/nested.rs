//! Records made of several tables.

use std::collections::BTreeSet;

use fides_core::port::{Host, Log};
use fides_core::{Arity, Selection, Value};

use crate::common::{Database, include, int};
use crate::support::{Change, Seen, open, page, position, same_as_scanned, seen, told_in};

/// Orders with their lines, and the lines with their products.
async fn orders(database: &Database, host: &dyn Host) -> Selection {
    database
        .execute(
            "CREATE TABLE o (id int PRIMARY KEY, c int, name varchar(9) CHARACTER SET latin1); \
             CREATE TABLE c (id int PRIMARY KEY, name text); \
             CREATE TABLE l (id int PRIMARY KEY, o bigint, p int, n int); \
             CREATE TABLE p (id int PRIMARY KEY, name text); \
             CREATE TABLE x (id int PRIMARY KEY, name varchar(20) CHARACTER SET latin1, n int); \
             INSERT INTO c VALUES (1, 'Ann'), (2, 'Bob'); INSERT INTO p VALUES (1, 'pen'), (2, 'cap'); \
             INSERT INTO o VALUES (1, 1, 'é'), (2, 1, 'b'), (3, 2, 'b'); \
             INSERT INTO l VALUES (1, 1, 1, 5), (2, 1, 2, 1), (3, 2, 2, 1); INSERT INTO x VALUES (1, 'é', 1), (2, 'b', 1)",
        )
        .await;
    let mut selection = database.selection(host, "o", &["id"], 1_000).await;
    let mut lines = include(database, host, "l", ("o", "id"), Arity::Many).await;
    lines.includes = vec![include(database, host, "p", ("id", "p"), Arity::One).await];
    let customer = include(database, host, "c", ("id", "c"), Arity::One).await;
    selection.includes = vec![lines, customer, include(database, host, "x", ("name", "name"), Arity::Many).await];
    selection
}

async fn roots(database: &Database, log: &mut dyn Log, sql: &str) -> Vec<Seen> {
    told_in(database, "o", log, sql).await.0
}

fn keys(changes: &[Seen]) -> Vec<i64> {
    let key = |change: &Seen| match &change.what {
        Change::Row { values, .. } => match values[0] {
            Value::I64(id) => id,
            ref other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    changes.iter().map(key).collect::<BTreeSet<i64>>().into_iter().collect()
}

#[tokio::test]
async fn a_change_of_what_is_nested_is_a_change_of_its_roots() {
    let database = Database::create().await;
    let host = database.following().await;
    let selection = orders(&database, &*host).await;
    let mut log = open(&database, &*host, &selection, None).await.log;
    for (sql, expected) in [
        ("UPDATE l SET n = 6 WHERE id = 1", &[1][..]),
        ("UPDATE l SET o = 3 WHERE id = 1", &[1, 3]),
        ("DELETE FROM l WHERE id = 1", &[3]),
        ("INSERT INTO l VALUES (1, 1, 1, 5), (4, NULL, 1, 5), (5, 77, 1, 5)", &[1]),
        ("UPDATE p SET name = 'hat' WHERE id = 2", &[1, 2]),
        ("UPDATE c SET name = 'Eve' WHERE id = 1", &[1, 2]),
        ("UPDATE o SET c = 2 WHERE id = 2", &[2]),
        // Joined on texts that are not in UTF-8, and folded by their collation.
        ("UPDATE x SET n = 2 WHERE id = 1", &[1]),
        ("UPDATE x SET name = 'B' WHERE id = 1", &[1, 2, 3]),
        ("BEGIN; UPDATE l SET n = 0; UPDATE p SET name = 'x'; UPDATE c SET name = 'y'; COMMIT", &[1, 2, 3]),
    ] {
        let changes = roots(&database, &mut *log, sql).await;
        assert_eq!(keys(&changes), expected, "{sql}");
        same_as_scanned(&*host, &selection, &changes).await;
    }
    let gone =
        roots(&database, &mut *log, "DELETE FROM l WHERE o = 2; DELETE FROM o WHERE id = 2; DELETE FROM l WHERE o = 3")
            .await;
    assert!(gone.iter().any(|change| change.what == Change::Gone(int(2))), "{gone:?}");
    let emptied = roots(&database, &mut *log, "TRUNCATE l").await;
    assert!(matches!(&emptied[..], [Seen { what: Change::Emptied, .. }]), "{emptied:?}");
}

/// A parent that very many records nest: its page ends in the middle of them.
#[tokio::test]
async fn a_change_with_many_roots_comes_on_many_pages() {
    let database = Database::create().await;
    database
        .execute(
            "CREATE TABLE o (id int PRIMARY KEY, c int, KEY (c)); CREATE TABLE c (id int PRIMARY KEY, name text); \
             INSERT INTO c VALUES (1, 'a'), (2, 'b'); INSERT INTO o SELECT seq, 1 FROM seq_1_to_2500",
        )
        .await;
    let host = database.following().await;
    let mut selection = database.selection(&*host, "o", &["id"], 100).await;
    selection.includes = vec![include(&database, &*host, "c", ("id", "c"), Arity::One).await];
    let mut log = open(&database, &*host, &selection, None).await.log;
    database.execute("BEGIN; UPDATE c SET name = 'z'; INSERT INTO o VALUES (5000, 2); COMMIT").await;
    let mut all: Vec<Seen> = Vec::new();
    while all.len() < 2_501 {
        let page = page(&mut *log).await;
        assert!(page.changes.len() <= 100, "{}", page.changes.len());
        all.extend(seen(&page));
        let is_before = all.first().is_none_or(|first| position(page.place) <= first.position);
        assert!(all.len() >= 2_501 || is_before, "the place waits for the last of them");
    }
    assert_eq!(keys(&all), (1..=2_500).chain([5_000]).collect::<Vec<_>>());
    same_as_scanned(&*host, &selection, &all[all.len() - 20..]).await;
}
