//! How the rows of a write come to the server, and what they may hold.

use fides_core::port::Outcome;
use fides_core::{Change, FaultKind, Op, Version};

use crate::common::Database;
use crate::{Writer, all_applied, names, upsert};

/// A deletion has nothing but a key.
#[tokio::test]
async fn a_domain_that_refuses_null_keeps_nothing_from_being_deleted() {
    let database = Database::create().await;
    database
        .execute(
            "CREATE DOMAIN said AS varchar(3) CHECK (VALUE IS NOT NULL AND VALUE <> 'bad'); \
             CREATE TABLE t (id bigint PRIMARY KEY, name said)",
        )
        .await;
    let writer = Writer::over(&database.url, 10_000).await;
    let outcomes = writer.apply(1, &[upsert(1, "a"), upsert(2, "bad"), upsert(3, "long"), upsert(4, "b")]).await;
    let [Outcome::Applied, Outcome::Failed(bad), Outcome::Failed(long), Outcome::Applied] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!((bad.kind, long.kind), (FaultKind::Permanent, FaultKind::Permanent));
    let deletion = Change { fingerprint: None, op: Op::Delete, ..upsert(1, "") };
    assert!(all_applied(&writer.apply(1, &[deletion]).await));
    assert_eq!(names(&mut database.connect().await).await, ["4b"]);
}

/// The statement tells which way its rows came.
#[tokio::test]
async fn only_many_rows_come_by_copy() {
    let database = Database::create().await;
    database
        .execute(
            "CREATE TABLE t (id bigint PRIMARY KEY, name text); \
             CREATE FUNCTION way() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               new.name := CASE WHEN current_query() LIKE '%unnest(%' THEN 'few' ELSE 'many' END; RETURN new; END $$; \
             CREATE TRIGGER way BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION way()",
        )
        .await;
    let writer = Writer::over(&database.url, 10_000).await;
    let rows = |ids: std::ops::Range<i64>| ids.map(|id| upsert(id, "")).collect::<Vec<_>>();
    assert!(all_applied(&writer.apply(1, &rows(0..500)).await));
    assert!(all_applied(&writer.apply(1, &rows(1_000..1_501)).await));
    let ways: Vec<(String, i64)> = sqlx::query_as("SELECT name, count(*) FROM t GROUP BY name ORDER BY name")
        .fetch_all(&mut database.connect().await)
        .await
        .unwrap();
    assert_eq!(ways, [("few".to_owned(), 500), ("many".to_owned(), 501)]);
}

/// A few rows travel with the statement, many by COPY: what is written, and told, is the same.
#[tokio::test]
async fn few_rows_and_many_are_written_alike() {
    const TEXTS: [&str; 9] =
        ["", "\\N", "\\", "a\tb\nc\rd", "\"so\", (and) {so}", "größe ✓", "NULL", " spaces ", "\\\"\"'"];
    let rows = |round: i64| -> Vec<Change> {
        let change = |id: i64| {
            // Of the second round a third is older, and a third are deletions.
            let (position, is_deletion) = match (round, id % 3) {
                (0, _) => (5, false),
                (_, 0) => (4, false),
                (_, rest) => (6, rest == 1),
            };
            let text = TEXTS[usize::try_from((id + round) % 9).unwrap()];
            let version = Version::scan(1, position);
            if is_deletion {
                Change { version, fingerprint: None, op: Op::Delete, ..upsert(id, "") }
            } else {
                Change { version, ..upsert(id, text) }
            }
        };
        (0..900).map(change).collect()
    };
    let mut seen = Vec::new();
    for at_a_time in [3, 900] {
        let database = Database::create().await;
        database.execute("CREATE TABLE t (id bigint PRIMARY KEY, name varchar(20), v text)").await;
        let mut writer = Writer::over(&database.url, 20_000).await;
        writer.sink.version_field = Some("v".to_owned());
        let mut outcomes = Vec::new();
        for changes in [rows(0), rows(1)] {
            for part in changes.chunks(at_a_time) {
                outcomes.extend(writer.apply(1, part).await.iter().map(|outcome| format!("{outcome:?}")));
            }
        }
        let held: Vec<(i64, String, String)> = sqlx::query_as("SELECT id, name, v FROM t ORDER BY id")
            .fetch_all(&mut database.connect().await)
            .await
            .unwrap();
        seen.push((outcomes, held));
    }
    assert_eq!(seen[0], seen[1]);
    let (outcomes, held) = &seen[0];
    let stale = outcomes.iter().filter(|outcome| *outcome == "Stale").count();
    assert_eq!((stale, outcomes.iter().filter(|outcome| *outcome == "Applied").count(), held.len()), (300, 1500, 600));
    for (id, name, version) in held {
        let round = i64::from(id % 3 != 0);
        assert_eq!(name, TEXTS[usize::try_from((id + round) % 9).unwrap()], "{id} {version}");
    }
}
