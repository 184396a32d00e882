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
        "SET STATEMENT max_statement_time = 60 FOR TRUNCATE TABLE t",
        "SET STATEMENT lock_wait_timeout = 60, sql_mode = '' FOR ALTER TABLE t ADD COLUMN between_us int AFTER id",
        "ALTER /* deploy 17 */ TABLE t ADD COLUMN first_two int FIRST",
        "/*!50000 ALTER */ TABLE t /* again */ DROP COLUMN first_two",
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
    // A number that the column could not hold when the log was opened.
    let sql = "INSERT INTO t (id, a) VALUES (3000000000, 'large'); DELETE FROM t WHERE id = 3000000000";
    let changes = described(&told(&database, &mut *log, sql).await);
    assert!(changes.contains(&"gone 3000000000".to_owned()), "{changes:?}");
    for sql in
        ["TRUNCATE TABLE other", "ALTER TABLE other ADD COLUMN t int", "CREATE INDEX i ON t (id)", "ANALYZE TABLE t"]
    {
        // A column that is called like the table is taken for it.
        let expected = usize::from(sql.contains("ADD COLUMN t"));
        assert_eq!(told(&database, &mut *log, sql).await.len(), expected, "{sql}");
    }
}
