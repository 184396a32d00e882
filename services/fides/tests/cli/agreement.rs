//! What `check --connect` lets pass, `sync` can start; what it refuses, `sync` refuses in the same words.

use crate::shop::{CONFIG, Shop};

/// A target table that somebody else made, and what is said of it; nothing when it is right.
const TABLES: &[(&str, &str)] = &[
    ("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT, price DECIMAL TEXT)", ""),
    ("CREATE TABLE items (id TEXT PRIMARY KEY, name TEXT, price TEXT)", "key column id is of type TEXT"),
    (
        "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT, price TEXT, note TEXT NOT NULL)",
        "column note is NOT NULL without a default, and no field fills it",
    ),
    ("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT AS ('x'), price TEXT)", "column name is generated"),
    ("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT)", "column price is missing"),
    ("CREATE TABLE items (id INTEGER, name TEXT, price TEXT)", "no primary key or unique index over exactly (id)"),
    ("CREATE TABLE items (id TEXT COLLATE NOCASE PRIMARY KEY, name TEXT, price TEXT)", "has a collation"),
    ("CREATE TABLE other (id INTEGER)", "it does not exist"),
];

#[test]
fn check_and_sync_agree_about_the_target() {
    for (sql, expected) in TABLES {
        let shop = Shop::new();
        shop.configure(&CONFIG.replace("create: true", "create: false"));
        shop.on_target(sql);
        let checked = shop.run(&["check", "--connect"]);
        let synced = shop.run(&["sync", "--once"]);
        if expected.is_empty() {
            assert_eq!((checked.status, synced.status), (0, 0), "{sql}: {} {}", checked.stdout, synced.stderr);
            continue;
        }
        assert_eq!((checked.status, synced.status), (64, 64), "{sql}: {} {}", checked.stdout, synced.stderr);
        assert!(checked.stdout.contains(expected), "{sql}: {}", checked.stdout);
        assert!(synced.stderr.contains(expected), "{sql}: {}", synced.stderr);
    }
}

#[test]
fn check_changes_nothing() {
    let shop = Shop::new();
    assert_eq!(shop.run(&["check", "--connect"]).status, 0);
    assert!(!shop.path("target.sqlite").exists() && !shop.path("state.fides").exists());
}
