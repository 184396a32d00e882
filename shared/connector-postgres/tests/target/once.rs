//! Few rows in a session that knows the table: one statement holds the lane and writes.

use super::*;

/// A writer whose sessions have written before, and a log of the statements that write.
async fn warm(database: &Database) -> Writer {
    let logging = "CREATE TABLE IF NOT EXISTS t (id bigint PRIMARY KEY, name text); CREATE TABLE said (id bigint, statement text); \
         CREATE FUNCTION say() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           INSERT INTO said VALUES (coalesce(new.id, old.id), current_query()); RETURN NULL; END $$; \
         CREATE TRIGGER say AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION say()";
    database.execute(logging).await;
    let writer = Writer::over(&database.url, 60_000).await;
    assert!(all_applied(&writer.apply(1, &[upsert(0, "warm")]).await));
    writer
}

fn deletion(id: i64) -> Change {
    Change { fingerprint: None, op: Op::Delete, ..upsert(id, "") }
}

/// How the rows were written: at once, or in a transaction of several statements.
async fn ways(database: &Database) -> Vec<(i64, bool)> {
    sqlx::query_as("SELECT id, statement LIKE 'WITH held %' FROM said WHERE id > 0 ORDER BY id")
        .fetch_all(&mut database.connect().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn one_statement_writes_what_a_transaction_writes() {
    const TEXTS: [&str; 8] = ["", "\\N", "\\", "a\tb\nc\rd", "\"so\", (and) {so}", "größe ✓", "NULL", "\\\"\"'"];
    let database = Database::create().await;
    let writer = warm(&database).await;
    let named = || (1..).zip(TEXTS);
    let rows: Vec<Change> = named().map(|(id, text)| upsert(id, text)).collect();
    assert!(all_applied(&writer.apply(1, &rows).await));
    let expected: Vec<String> = named().map(|(id, text)| format!("{id}{text}")).collect();
    assert_eq!(names(&mut database.connect().await).await[1..], expected);
    assert!(all_applied(&writer.apply(1, &[upsert(1, "again"), upsert(9, "new")]).await));
    assert!(all_applied(&writer.apply(1, &[deletion(2), deletion(77)]).await));
    assert!(ways(&database).await.iter().all(|(_, at_once)| *at_once), "{:?}", ways(&database).await);
    // A deletion first, and then what takes its place: in one statement neither would come first.
    assert!(all_applied(&writer.apply(1, &[deletion(3), upsert(10, "both")]).await));
    let ways = ways(&database).await;
    assert_eq!(ways.iter().filter(|(_, at_once)| !at_once).map(|(id, _)| *id).collect::<Vec<_>>(), [3, 10]);
    let held = names(&mut database.connect().await).await;
    assert_eq!((held.len(), &*held[1], &*held[2]), (9, "1again", "4a\tb\nc\rd"), "{held:?}");
}

/// L6: the token is compared in the statement that writes.
#[tokio::test]
async fn a_displaced_writer_writes_nothing_at_once() {
    let database = Database::create().await;
    let writer = warm(&database).await;
    let (mut blocker, mut side) = (database.connect().await, database.connect().await);
    // The claim is not committed yet: the write waits for it, and must not take the token as it was.
    execute(&mut blocker, "BEGIN; UPDATE _fides_lane SET token = 2").await;
    let displaced = tokio::spawn({
        let writer = writer.clone();
        async move { writer.apply(1, &[upsert(1, "late")]).await }
    });
    until_blocked(&mut side, 1).await;
    execute(&mut blocker, "COMMIT").await;
    let outcomes = displaced.await.unwrap();
    assert!(matches!(&outcomes[..], [Outcome::Failed(fault)] if fault.kind == FaultKind::Unavailable), "{outcomes:?}");
    let outcomes = writer.apply(1, &[deletion(0)]).await;
    assert!(matches!(&outcomes[..], [Outcome::Failed(fault)] if fault.kind == FaultKind::Unavailable), "{outcomes:?}");
    assert_eq!(names(&mut side).await, ["0warm"]);
}

/// What speaks against a commit comes behind the statement's own answer.
#[tokio::test]
async fn a_constraint_that_waits_for_the_commit_is_heard() {
    let database = Database::create().await;
    let table = "CREATE TABLE t (id bigint PRIMARY KEY, name text UNIQUE DEFERRABLE INITIALLY DEFERRED)";
    database.execute(table).await;
    let writer = warm(&database).await;
    let outcomes = writer.apply(1, &[upsert(1, "warm"), upsert(2, "good")]).await;
    let [Outcome::Failed(taken), Outcome::Applied] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!(taken.kind, FaultKind::Deferred, "{taken}");
    assert_eq!(names(&mut database.connect().await).await, ["0warm", "2good"]);
    assert_eq!(ways(&database).await, [(2, true)]);
}

/// L5: the statement commits by itself, so nobody knows what became of one without an answer.
#[tokio::test]
async fn a_statement_without_an_answer_is_unknown() {
    let database = Database::create().await;
    let writer = warm(&database).await;
    let (mut blocker, mut side) = (database.connect().await, database.connect().await);
    execute(&mut blocker, "BEGIN; SELECT * FROM t WHERE id = 0 FOR UPDATE").await;
    let cut = tokio::spawn(async move { writer.apply(1, &[upsert(0, "cut"), upsert(1, "cut")]).await });
    until_blocked(&mut side, 1).await;
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    execute(&mut side, terminate).await;
    for outcome in cut.await.unwrap() {
        assert!(matches!(&outcome, Outcome::Unknown(fault) if fault.kind == FaultKind::Transient), "{outcome:?}");
    }
}

/// Of a statement that a rule rewrites, PostgreSQL takes some only by themselves.
#[tokio::test]
async fn rules_are_obeyed() {
    let tables = "CREATE TABLE t (id bigint PRIMARY KEY, name text); CREATE TABLE kept (id bigint)";
    let rule = "CREATE RULE keep AS ON DELETE TO t DO ALSO INSERT INTO kept VALUES (old.id)";
    for early in [true, false] {
        let database = Database::create().await;
        database.execute(tables).await;
        if early {
            database.execute(rule).await;
        }
        let writer = warm(&database).await;
        if !early {
            database.execute(rule).await;
        }
        keeps_what_it_deletes(&database, &writer).await;
    }
}

async fn keeps_what_it_deletes(database: &Database, writer: &Writer) {
    assert!(all_applied(&writer.apply(1, &[upsert(1, "one"), upsert(2, "two")]).await));
    assert!(all_applied(&writer.apply(1, &[deletion(1)]).await));
    assert_eq!(names(&mut database.connect().await).await, ["0warm", "2two"]);
    let kept: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM kept").fetch_all(&mut database.connect().await).await.unwrap();
    assert_eq!(kept, [1]);
}
