//! What cannot be followed is told with what mends it.

use fides_core::{Arity, FaultKind, Value};

use crate::common::{Database, include, selection};
use crate::support::{open, read, reader, refused, scalar, try_page, unread};

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
    let without = fides_connector_postgres::host(&url, 1, true).await.unwrap();
    let selection = selection(&*without, "t", &["id"], 10).await;
    let replication = refused(&database, &*without, &selection).await;
    database.execute(&format!("ALTER ROLE {role} REPLICATION")).await;
    let with = fides_connector_postgres::host(&url, 1, true).await.unwrap();
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
