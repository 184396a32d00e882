//! What `check` tells of a log, and that what it says helps.

use fides_core::Arity;
use fides_core::port::Concern;

use crate::common::{Database, include, selection};
use crate::support::{open, reader, scalar, slot, unread};

/// What is told of `part`, if anything is.
fn about<'c>(concerns: &'c [Concern], part: &str) -> Option<&'c Concern> {
    concerns.iter().find(|concern| concern.what.contains(part))
}

/// The statement that a concern names.
fn statement(concern: &Concern) -> String {
    concern.mend.as_ref().unwrap().rsplit_once("run: ").unwrap().1.to_owned()
}

#[tokio::test]
async fn all_that_is_in_the_way_is_told_at_once_and_helps() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY, t int)").await;
    let mut admin = database.connect().await;
    let role: String =
        sqlx::query_scalar("SELECT current_database() || '_checked'").fetch_one(&mut admin).await.unwrap();
    database.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 's3cret'; GRANT SELECT ON t, child TO {role}")).await;
    let host = fides_connector_postgres::host(&database.url_as(&role, "s3cret"), 1, true).await.unwrap();
    let mut selection = selection(&*host, "t", &["id"], 10).await;
    selection.includes = vec![include(&*host, "child", ("t", "id"), Arity::Many).await];
    let reader = reader(&database).await;
    let check = async || host.check_log(&selection, &reader).await.unwrap();

    let concerns = check().await;
    let stopping: Vec<&Concern> = concerns.iter().filter(|concern| concern.stops).collect();
    assert_eq!(stopping.len(), 3, "{concerns:?}");
    let replication = about(&concerns, "lacks the attribute REPLICATION").unwrap();
    assert_eq!(statement(replication), format!("ALTER ROLE \"{role}\" REPLICATION"));
    let identity = about(&concerns, "replica identity of public.child does not contain t").unwrap();
    assert_eq!(statement(identity), "ALTER TABLE public.child REPLICA IDENTITY FULL");
    let publication = about(&concerns, "may not publish").unwrap();
    assert!(statement(publication).starts_with("CREATE PUBLICATION"), "{publication:?}");
    assert!(about(&concerns, "there is no replication slot").is_some_and(|concern| !concern.stops), "{concerns:?}");
    assert_eq!(scalar(&database, "SELECT count(*) FROM pg_publication").await, 0, "nothing was made");

    for told in stopping {
        database.execute(&statement(told)).await;
    }
    let concerns = check().await;
    assert!(concerns.iter().all(|concern| !concern.stops), "{concerns:?}");
    drop(open(&database, &*host, &selection, None).await);
    unread(&database, &reader).await;
    let concerns = check().await;
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    for part in ["replication slot", "publication", "identity"] {
        assert!(about(&concerns, part).is_none(), "{concerns:?}");
    }
}

#[tokio::test]
async fn what_was_dropped_or_is_somebody_elses_is_told() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY, n int)").await;
    let host = database.host(1).await;
    let selection = selection(&*host, "t", &["id"], 10).await;
    let reader = reader(&database).await;
    let name = slot(&reader);
    let check = async || host.check_log(&selection, &reader).await.unwrap();
    let opened = open(&database, &*host, &selection, None).await;
    assert!(about(&check().await, &name).is_none(), "it is being read, and well");
    drop(opened);
    unread(&database, &reader).await;

    // Its owner may publish: Fides would mend both by itself, and says so.
    database.execute(&format!("SELECT pg_drop_replication_slot('{name}'); DROP PUBLICATION {name}")).await;
    let concerns = check().await;
    let dropped = about(&concerns, "there is no replication slot").unwrap();
    let publication = about(&concerns, "there was no publication").unwrap();
    assert!(!dropped.stops && !publication.stops, "{concerns:?}");
    for told in [publication, dropped] {
        assert!(told.mend.as_ref().unwrap().contains("an import follows"), "{told:?}");
        database.execute(&statement(told)).await;
    }
    assert!(about(&check().await, &name).is_none());

    database.execute(&format!("ALTER PUBLICATION {name} SET TABLE t (id)")).await;
    let concerns = check().await;
    let filtered = about(&concerns, "leaves rows or columns out").unwrap();
    assert!(filtered.stops && statement(filtered).starts_with("ALTER PUBLICATION"), "{filtered:?}");
    database.execute(&statement(filtered)).await;

    let other = format!(
        "SELECT pg_drop_replication_slot('{name}'); SELECT pg_create_logical_replication_slot('{name}', 'test_decoding')"
    );
    database.execute(&other).await;
    let concerns = check().await;
    let taken = about(&concerns, "in use for something else").unwrap();
    assert!(taken.stops && taken.mend.as_ref().unwrap().contains("pg_drop_replication_slot"), "{taken:?}");
}
