//! Keys that rows take from each other, and keys that are none.

use std::collections::BTreeMap;

use fides_core::{Key, Value};

use crate::common::{Database, int, selection};
use crate::support::{Change, Seen, open, read};

/// What a target holds that held nothing but `before`.
fn applied(before: &[i64], changes: &[Seen]) -> BTreeMap<Key, Option<Value<'static>>> {
    let mut held: BTreeMap<Key, Option<Value<'static>>> = before.iter().map(|&id| (int(id), None)).collect();
    for change in changes {
        match &change.what {
            Change::Row { key, values, .. } => drop(held.insert(key.clone(), Some(values[1].clone()))),
            Change::Gone(key) => drop(held.remove(key)),
            Change::Emptied => panic!("nothing was emptied"),
        }
    }
    held
}

fn text(text: &'static str) -> Value<'static> {
    Value::String(text.into())
}

/// Where the index of a key is deferrable, two rows may have one key in the middle of a transaction. What the one leaves
/// is not gone (L8).
#[tokio::test]
async fn a_key_that_another_row_took_is_not_gone() {
    let database = Database::create().await;
    database
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, a text); ALTER TABLE t REPLICA IDENTITY FULL; \
             INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')",
        )
        .await;
    let host = database.host(1).await;
    for page_records_max in [1, 2, 100] {
        let selection = selection(&*host, "t", &["id"], page_records_max).await;
        let mut opened = open(&database, &*host, &selection, None).await;
        database.execute("UPDATE t SET id = 4 - id WHERE id <> 2").await;
        let (changes, _) = read(&mut *opened.log, if page_records_max == 100 { 3 } else { 4 }).await;
        let (first, last) = if page_records_max == 2 { ("a", "c") } else { ("c", "a") };
        let expected = [(int(1), Some(text(first))), (int(2), None), (int(3), Some(text(last)))];
        assert_eq!(applied(&[1, 2, 3], &changes), BTreeMap::from(expected), "{changes:?}");
        // One of two rows of a key is deleted.
        database
            .execute("BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO t VALUES (2, 'd'); DELETE FROM t WHERE a = 'b'; COMMIT")
            .await;
        let (changes, _) = read(&mut *opened.log, 2).await;
        assert_eq!(applied(&[2], &changes), BTreeMap::from([(int(2), Some(text("d")))]), "{changes:?}");
        database.execute("UPDATE t SET a = 'b' WHERE id = 2").await;
        read(&mut *opened.log, 1).await;
    }
}

/// An import tells what became of its row; the log goes on for all others.
#[tokio::test]
async fn a_row_without_a_key_does_not_stop_the_log() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int UNIQUE, a text); ALTER TABLE t REPLICA IDENTITY FULL").await;
    let host = database.host(1).await;
    let selection = selection(&*host, "t", &["id"], 100).await;
    let mut opened = open(&database, &*host, &selection, None).await;
    database.execute("INSERT INTO t VALUES (NULL, 'a'), (NULL, 'b'), (5, 'c')").await;
    let (changes, _) = read(&mut *opened.log, 2).await;
    assert_eq!(changes[0].what, Change::Emptied, "once in a transaction");
    assert_eq!(changes[1].what.key(), &int(5));
    // From no key to one, and back.
    database.execute("UPDATE t SET id = 6 WHERE a = 'a'").await;
    database.execute("UPDATE t SET id = NULL WHERE a = 'c'").await;
    database.execute("DELETE FROM t WHERE id IS NULL").await;
    let (changes, _) = read(&mut *opened.log, 5).await;
    assert_eq!(changes[0].what, Change::Emptied);
    assert_eq!(changes[1].what.values()[0], Value::I64(6));
    assert_eq!(changes[2].what, Change::Emptied);
    assert_eq!(changes[3].what, Change::Gone(int(5)));
    assert_eq!(changes[4].what, Change::Emptied);
}
