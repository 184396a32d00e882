//! What the log does not tell row by row: an import is asked for.

use crate::common::Database;
use crate::support::{Change, described, open, told};

#[tokio::test]
async fn what_empties_or_changes_a_table_is_told_and_the_log_goes_on_by_its_new_form() {
    let database = Database::create().await;
    database
        .execute("CREATE TABLE t (id int PRIMARY KEY, a text); CREATE TABLE other (id int PRIMARY KEY); INSERT INTO t VALUES (1, 'a')")
        .await;
    let host = database.following().await;
    let selection = database.selection(&*host, "t", &["id"], 100).await;
    let mut log = open(&database, &*host, &selection, None).await.log;
    for sql in [
        "TRUNCATE TABLE t",
        "ALTER TABLE t ADD COLUMN first_one int FIRST",
        "CREATE TABLE n LIKE t; RENAME TABLE t TO old, n TO t",
        "DROP TABLE t; CREATE TABLE t (x int, id bigint PRIMARY KEY, a longtext)",
        "CREATE OR REPLACE TABLE t (a varchar(100), id int PRIMARY KEY)",
        "ALTER TABLE t MODIFY id int unsigned",
    ] {
        let changes = told(&database, &mut *log, sql).await;
        assert!(
            !changes.is_empty() && changes.iter().all(|change| change.what == Change::Emptied),
            "{sql}: {changes:?}"
        );
        let changes =
            told(&database, &mut *log, "INSERT INTO t (id, a) VALUES (7, 'seven'); DELETE FROM t WHERE id = 7").await;
        assert!(described(&changes).contains(&"gone 7".to_owned()), "{sql}: {changes:?}");
    }
    for sql in
        ["TRUNCATE TABLE other", "ALTER TABLE other ADD COLUMN t int", "CREATE INDEX i ON t (id)", "ANALYZE TABLE t"]
    {
        // A column that is called like the table is taken for it.
        let expected = usize::from(sql.contains("ADD COLUMN t"));
        assert_eq!(told(&database, &mut *log, sql).await.len(), expected, "{sql}");
    }
}

#[tokio::test]
async fn rows_that_a_statement_changed_are_told_as_untold() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1)").await;
    let host = database.following().await;
    let selection = database.selection(&*host, "t", &["id"], 100).await;
    let mut log = open(&database, &*host, &selection, None).await.log;
    let changes = told(
        &database,
        &mut *log,
        "SET SESSION binlog_format = 'STATEMENT'; BEGIN; UPDATE t SET a = 2; UPDATE t SET a = 3; COMMIT; \
         SET SESSION binlog_format = 'ROW'; UPDATE t SET a = 4",
    )
    .await;
    assert_eq!(described(&changes), ["emptied", "[I64(1), I64(4)]"]);
    // Images of less than the whole row have the key all the same.
    let changes = told(
        &database,
        &mut *log,
        "SET SESSION binlog_row_image = 'MINIMAL'; UPDATE t SET a = 5; UPDATE t SET id = 2; DELETE FROM t",
    )
    .await;
    let keys: Vec<String> = changes.iter().filter_map(|change| change.what.key()).map(ToString::to_string).collect();
    assert!(keys.contains(&"1".to_owned()) && keys.contains(&"2".to_owned()), "{changes:?}");
    assert!(changes.iter().all(|change| matches!(change.what, Change::Gone(_) | Change::Row { .. })), "{changes:?}");
}

#[tokio::test]
async fn a_prepared_transaction_is_told_when_it_is_committed() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1)").await;
    let host = database.following().await;
    let selection = database.selection(&*host, "t", &["id"], 100).await;
    let mut log = open(&database, &*host, &selection, None).await.log;
    let mut connection = database.connect().await;
    let id = &database.name;
    let prepare = format!("XA START '{id}'; DELETE FROM t WHERE id = 1; XA END '{id}'; XA PREPARE '{id}'");
    crate::common::execute(&mut connection, &prepare).await;
    let changes = told(&database, &mut *log, "DO 1").await;
    assert!(changes.iter().all(|change| !matches!(change.what, Change::Gone(_))), "it is not committed: {changes:?}");
    crate::common::execute(&mut connection, &format!("XA COMMIT '{id}'")).await;
    let changes = told(&database, &mut *log, "DO 1").await;
    assert!(changes.iter().any(|change| change.what == Change::Emptied), "{changes:?}");
}
