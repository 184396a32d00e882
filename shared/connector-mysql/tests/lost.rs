//! What concerns every reader of a server's log: it removes files, begins anew, is set otherwise, does not tell rows. In a
//! binary of its own, and one after the other, because other tests read the same server's log.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "log/support.rs"]
mod support;

use std::sync::Arc;

use common::Database;
use fides_core::port::{Gap, Host, Log};
use fides_core::{FaultKind, Selection, Value};
use sqlx::MySqlConnection;
use support::{Change, Seen, described, open, reader, refused, told, told_in, try_page};
use tokio::sync::Mutex;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn a_place_that_was_purged_is_a_gap_and_the_log_goes_on_at_its_end() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let host = database.following().await;
    let selection = database.selection(&*host, "t", &["id"], 100).await;
    let opened = open(&database, &*host, &selection, None).await;
    let place = opened.from;
    drop(opened);
    database.execute("INSERT INTO t VALUES (1); FLUSH BINARY LOGS; INSERT INTO t VALUES (2); FLUSH BINARY LOGS").await;
    let last: (String, u64) = last_file(&database).await;
    // A file that is still being sent is not removed: the dead reader's connection is noticed in its time.
    let mut tries = 0;
    let again = loop {
        database.execute(&format!("PURGE BINARY LOGS TO '{}'", last.0)).await;
        let again = open(&database, &*host, &selection, Some(place)).await;
        tries += 1;
        if again.gap.is_some() || tries > 600 {
            break again;
        }
        drop(again);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert!(matches!(&again.gap, Some(Gap::Missing(why)) if why.contains("has removed")), "{:?}", again.gap);
    assert!(again.from > place);
    let mut log = again.log;
    let (changes, place) = told_in(&database, "t", &mut *log, "INSERT INTO t VALUES (3)").await;
    assert_eq!(described(&changes), ["[I64(3)]"]);
    assert_eq!(open(&database, &*host, &selection, Some(place)).await.gap, None);
}

async fn last_file(database: &Database) -> (String, u64) {
    use sqlx::Row;
    let row = sqlx::query("SHOW MASTER STATUS").fetch_one(&mut database.connect().await).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn a_log_that_begins_anew_ends_its_readers_and_is_told_as_backward() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY); FLUSH BINARY LOGS; FLUSH BINARY LOGS").await;
    let host = database.following().await;
    let selection = database.selection(&*host, "t", &["id"], 100).await;
    let mut log = open(&database, &*host, &selection, None).await.log;
    let (_, place) = told_in(&database, "t", &mut *log, "INSERT INTO t VALUES (1)").await;
    let lineage = host.lineage().await.unwrap();
    database.execute("RESET MASTER").await;
    let mut fault = None;
    while fault.is_none() {
        // Something is always in the log of a server.
        database.execute("INSERT INTO t VALUES (7); DELETE FROM t WHERE id = 7").await;
        fault = try_page(&mut *log).await.map(drop).err();
    }
    assert_eq!(fault.as_ref().map(|fault| fault.kind), Some(FaultKind::Transient), "{fault:?}");
    assert_eq!(host.lineage().await.unwrap(), lineage, "the server is the same");
    let again = open(&database, &*host, &selection, Some(place)).await;
    assert!(matches!(&again.gap, Some(Gap::Backward(_))), "{:?}", again.gap);
    // Also when it has grown beyond the place again, under the same numbers.
    let mut filler = database.connect().await;
    common::execute(&mut filler, "CREATE TABLE filler (a longtext)").await;
    while last_file(&database).await.0 < format!("binlog.{:06}", place >> 40) {
        common::execute(&mut filler, "FLUSH BINARY LOGS").await;
    }
    while last_file(&database).await.1 <= u64::from(place as u32) {
        common::execute(&mut filler, "INSERT INTO filler VALUES (repeat('x', 100000))").await;
    }
    let again = open(&database, &*host, &selection, Some(place)).await;
    assert!(matches!(&again.gap, Some(Gap::Backward(_))), "{:?}", again.gap);
    let mut log = again.log;
    assert_eq!(told(&database, &mut *log, "INSERT INTO t VALUES (3)").await.len(), 1);
}

#[tokio::test]
async fn settings_that_hide_rows_are_refused_with_the_statement_that_mends_them() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let plain = database.host(1).await;
    let selection = database.selection(&*plain, "t", &["id"], 100).await;
    for (name, bad) in [("binlog_format", "MIXED"), ("binlog_row_image", "MINIMAL"), ("binlog_row_metadata", "NO_LOG")]
    {
        database.execute(&format!("SET GLOBAL {name} = '{bad}'")).await;
        let host = database.following().await;
        let concerns = host.check_log(&selection, &reader(&database)).await.unwrap();
        let stopping: Vec<_> = concerns.iter().filter(|concern| concern.stops).collect();
        let fault = refused(&database, &*host, &selection).await;
        let lineage = host.lineage().await.unwrap();
        let mend = stopping[0].mend.clone().unwrap();
        let statement = mend.strip_prefix("run: ").unwrap().split_once(';').unwrap().0.to_owned();
        database.execute(&statement).await;
        assert_eq!(stopping.len(), 1, "{concerns:?}");
        assert!(stopping[0].what.contains(&format!("{name} is {bad}")), "{concerns:?}");
        assert_eq!(fault.kind, FaultKind::Permanent);
        assert!(fault.to_string().contains(&statement), "{fault}");
        assert_eq!(lineage.0, "mysql:drawn", "versions are drawn then");
        let host = database.following().await;
        let concerns = host.check_log(&selection, &reader(&database)).await.unwrap();
        assert!(concerns.iter().all(|concern| !concern.stops), "{concerns:?}");
    }
    database.execute("SET GLOBAL binlog_expire_logs_seconds = 3600").await;
    let concerns = database.following().await.check_log(&selection, &reader(&database)).await.unwrap();
    database.execute("SET GLOBAL binlog_expire_logs_seconds = 0").await;
    assert!(concerns.iter().any(|concern| concern.what.contains("removes its log after 3600 s")), "{concerns:?}");
}

#[tokio::test]
async fn rows_that_a_statement_changed_are_told_as_untold() {
    let _turn = ONE_AT_A_TIME.lock().await;
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
    let changes = told(
        &database,
        &mut *log,
        "SET SESSION binlog_format = 'STATEMENT'; SET STATEMENT max_statement_time = 60 FOR UPDATE t SET a = 7; \
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
    let _turn = ONE_AT_A_TIME.lock().await;
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1)").await;
    let host = database.following().await;
    let selection = database.selection(&*host, "t", &["id"], 100).await;
    let mut log = open(&database, &*host, &selection, None).await.log;
    let mut connection = database.connect().await;
    common::execute(&mut connection, "CREATE TABLE other (id int)").await;
    let foreign =
        "XA START 'f', 'b'; INSERT INTO other VALUES (1); XA END 'f', 'b'; XA PREPARE 'f', 'b'; XA COMMIT 'f', 'b'";
    common::execute(&mut connection, foreign).await;
    assert!(told(&database, &mut *log, "DO 1").await.is_empty(), "of another table");
    let id = &database.name;
    let prepare = format!("XA START '{id}'; DELETE FROM t WHERE id = 1; XA END '{id}'; XA PREPARE '{id}'");
    common::execute(&mut connection, &prepare).await;
    let changes = told(&database, &mut *log, "DO 1").await;
    assert!(changes.iter().all(|change| !matches!(change.what, Change::Gone(_))), "it is not committed: {changes:?}");
    common::execute(&mut connection, &format!("XA COMMIT '{id}'")).await;
    let changes = told(&database, &mut *log, "DO 1").await;
    assert!(changes.iter().any(|change| change.what == Change::Emptied), "{changes:?}");
}

/// Runs a statement on a server that waits for a replica which never answers, and `meanwhile` beside it. What that found, and
/// the number that the first row has then.
async fn beside<T>(
    database: &Database,
    writer: &mut MySqlConnection,
    sql: &str,
    meanwhile: impl Future<Output = T>,
) -> (T, i32) {
    database
        .execute(
            "SET GLOBAL rpl_semi_sync_master_wait_point = 'AFTER_SYNC', rpl_semi_sync_master_timeout = 1500, \
             rpl_semi_sync_master_wait_no_slave = ON, rpl_semi_sync_master_enabled = ON",
        )
        .await;
    let mut looking = database.connect().await;
    let begun = std::time::Instant::now();
    let reading = async {
        let found = meanwhile.await;
        (found, sqlx::query_scalar("SELECT a FROM t").fetch_one(&mut looking).await.unwrap())
    };
    let ((), found) = tokio::join!(common::execute(writer, sql), reading);
    let took = begun.elapsed();
    database.execute("SET GLOBAL rpl_semi_sync_master_enabled = OFF").await;
    assert!(took.as_millis() >= 1_400, "{sql}: the server waited: {took:?}");
    found
}

/// What is told first of such a statement.
async fn told_late(
    database: &Database,
    log: &mut dyn Log,
    writer: &mut MySqlConnection,
    sql: &str,
) -> (Vec<Seen>, i32) {
    let reading = async {
        let mut all = Vec::new();
        while all.is_empty() {
            all = support::seen(&support::page(log).await);
        }
        all
    };
    beside(database, writer, sql, reading).await
}

/// A server that waits for a replica has the transaction in its log before anybody sees it.
#[tokio::test]
async fn what_is_in_the_log_and_not_visible_yet_is_waited_for() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1)").await;
    let host = database.following().await;
    let selection = database.selection(&*host, "t", &["id"], 100).await;
    let mut log = open(&database, &*host, &selection, None).await.log;
    let mut writer = database.connect().await;
    let (changes, visible) = told_late(&database, &mut *log, &mut writer, "UPDATE t SET a = 2").await;
    assert_eq!((described(&changes), visible), (vec!["[I64(1), I64(2)]".to_owned()], 2));
    // Also where the log does not tell what changed: an import that comes too early would have paid for it.
    common::execute(&mut writer, "SET SESSION binlog_format = 'STATEMENT'").await;
    let (changes, visible) = told_late(&database, &mut *log, &mut writer, "UPDATE t SET a = 3").await;
    assert_eq!((described(&changes), visible), (vec!["emptied".to_owned()], 3));
    let id = &database.name;
    let prepare = format!(
        "SET SESSION binlog_format = 'ROW'; XA START '{id}'; UPDATE t SET a = 4; XA END '{id}'; XA PREPARE '{id}'"
    );
    common::execute(&mut writer, &prepare).await;
    // Its rows are told when it is prepared, as they were before.
    while support::seen(&support::page(&mut *log).await).is_empty() {}
    let (changes, visible) = told_late(&database, &mut *log, &mut writer, &format!("XA COMMIT '{id}'")).await;
    assert_eq!((described(&changes), visible), (vec!["emptied".to_owned()], 4));
}

/// A table of one row in a database of its own, whose server begins a new file of the log behind every large transaction.
struct Rotating {
    database: Database,
    host: Arc<dyn Host>,
    selection: Selection,
    writer: MySqlConnection,
}

impl Rotating {
    async fn create() -> Self {
        let database = Database::create().await;
        database
            .execute(
                "CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1); CREATE TABLE other (text text); \
                 SET GLOBAL max_binlog_size = 4096",
            )
            .await;
        let host = database.following().await;
        let selection = database.selection(&*host, "t", &["id"], 100).await;
        let writer = database.connect().await;
        Self { database, host, selection, writer }
    }

    /// The log from now on.
    async fn log(&self) -> Box<dyn Log> {
        open(&self.database, &*self.host, &self.selection, None).await.log
    }

    /// The row's number, of a snapshot that is taken now.
    async fn scanned(&self) -> Value<'static> {
        let snapshot = support::scan(&*self.host, &self.selection).await;
        snapshot.fetch(&[common::int(1)]).await.unwrap().values(0).unwrap()[1].clone().into_owned()
    }

    /// Returns once there is another file than `before`.
    async fn has_rotated(&self, before: &str) {
        while last_file(&self.database).await.0 == before {}
    }

    /// Puts the limit of a file's length back.
    async fn end(self) {
        self.database.execute("SET GLOBAL max_binlog_size = 1073741824").await;
    }
}

/// A transaction that is larger than a file of the log may be: the next file begins behind it.
fn large(n: i32) -> String {
    format!("BEGIN; UPDATE t SET a = {n}; INSERT INTO other VALUES ('{}'); COMMIT", "x".repeat(5_000))
}

/// A new file of the log is named before the last transaction of the old one is visible: the place of a snapshot between the
/// two says that it has seen what it has not.
#[tokio::test]
async fn what_a_file_of_the_log_ends_with_is_waited_for() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let mut it = Rotating::create().await;
    let mut log = it.log().await;
    let (changes, visible) = told_late(&it.database, &mut *log, &mut it.writer, &large(2)).await;
    assert_eq!((described(&changes), visible), (vec!["[I64(1), I64(2)]".to_owned()], 2));
    common::execute(&mut it.writer, "SET SESSION binlog_format = 'STATEMENT'").await;
    let (changes, visible) = told_late(&it.database, &mut *log, &mut it.writer, &large(3)).await;
    assert_eq!((described(&changes), visible), (vec!["emptied".to_owned()], 3));
    it.end().await;
}

#[tokio::test]
async fn a_snapshot_behind_the_end_of_a_file_has_seen_it() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let it = Rotating::create().await;
    let (before, _) = last_file(&it.database).await;
    let scanned = Box::pin(async {
        it.has_rotated(&before).await;
        it.scanned().await
    });
    let found = beside(&it.database, &mut it.database.connect().await, &large(2), scanned).await;
    assert_eq!(found, (Value::I64(2), 2));
    it.end().await;
}

#[tokio::test]
async fn a_log_that_begins_behind_the_end_of_a_file_is_opened_when_imports_see_it() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let it = Rotating::create().await;
    let (before, _) = last_file(&it.database).await;
    let opened = Box::pin(async {
        it.has_rotated(&before).await;
        it.host.log(&it.selection, &reader(&it.database), None).await.unwrap()
    });
    let (_, visible) = beside(&it.database, &mut it.database.connect().await, &large(2), opened).await;
    assert_eq!(visible, 2);
    it.end().await;
}

/// What the server writes by itself behind the first transaction of a file moves the place, whoever sees that one.
#[tokio::test]
async fn what_waits_behind_a_new_file_is_waited_for() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let mut it = Rotating::create().await;
    let mut log = it.log().await;
    let update = |n: i32| format!("FLUSH BINARY LOGS; UPDATE t SET a = {n}");
    for n in 2..5 {
        let (changes, visible) = told_late(&it.database, &mut *log, &mut it.writer, &update(n)).await;
        assert_eq!((described(&changes), visible), (vec![format!("[I64(1), I64({n})]")], n));
    }
    let scanned = Box::pin(async {
        let waits = "SELECT variable_value FROM information_schema.global_status \
            WHERE variable_name = 'Rpl_semi_sync_master_wait_sessions'";
        let mut looking = it.database.connect().await;
        while sqlx::query_scalar::<_, String>(waits).fetch_one(&mut looking).await.unwrap() == "0" {}
        it.scanned().await
    });
    let found = beside(&it.database, &mut it.database.connect().await, &update(5), scanned).await;
    assert_eq!(found, (Value::I64(5), 5));
    it.end().await;
}

/// Where nothing is written any more the last transaction is visible, and the place stands still.
#[tokio::test]
async fn a_file_behind_which_nothing_comes_is_believed_after_a_while() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let it = Rotating::create().await;
    it.database.execute("FLUSH BINARY LOGS").await;
    for _ in 0..2 {
        assert_eq!(it.scanned().await, Value::I64(1));
    }
    it.end().await;
}
