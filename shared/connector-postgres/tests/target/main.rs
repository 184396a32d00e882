//! What is PostgreSQL's own about the target: fencing by a lock, unknown outcomes, timeouts, rights.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod once;
mod rows;

use std::sync::Arc;

use bytes::Bytes;
use common::{Database, execute, int, table};
use fides_core::port::{Outcome, Sink, Target, Write};
use fides_core::{
    Change, FaultKind, Field, Fingerprint, Key, Kind, Lane, Op, PipelineId, Shape, Value, Version, encode_row,
};
use sqlx::PgConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A table `t (id, name)` and who writes it.
#[derive(Clone)]
struct Writer {
    target: Arc<dyn Target>,
    sink: Sink,
    shape: Shape,
    lane: Lane,
}

impl Writer {
    async fn over(url: &str, write_timeout_ms_max: u64) -> Self {
        let target = fides_connector_postgres::target(url, 2, write_timeout_ms_max).await.unwrap();
        let pipeline = PipelineId::new("p");
        let field = |name: &str, kind| Field { name: name.to_owned(), kind };
        let writer = Self {
            target,
            sink: Sink { pipeline: pipeline.clone(), namespace: table("t"), version_field: None },
            shape: Shape { fields: vec![field("id", Kind::I64), field("name", Kind::String)], key: vec![0] },
            lane: Lane { pipeline, index: 0 },
        };
        writer.target.prepare(&writer.sink, &writer.shape, true).await.unwrap();
        writer.claim(1).await;
        writer
    }

    async fn claim(&self, token: u64) {
        self.target.claim(&self.sink, &self.lane, token).await.unwrap();
    }

    async fn apply(&self, token: u64, changes: &[Change]) -> Vec<Outcome> {
        let write = Write { sink: &self.sink, shape: &self.shape, lane: &self.lane, token };
        self.target.apply(&write, changes).await
    }
}

fn upsert(id: i64, name: &str) -> Change {
    let mut document = Vec::new();
    encode_row(&mut document, &[Value::I64(id), Value::String(name.into())]);
    Change {
        key: int(id),
        version: Version::scan(1, 1),
        fingerprint: Some(Fingerprint(1)),
        op: Op::Upsert(Bytes::from(document)),
        forced: false,
    }
}

async fn names(connection: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar("SELECT id || name FROM t ORDER BY id").fetch_all(connection).await.unwrap()
}

/// Waits until `count` sessions of this database wait for a lock; fails when they never do.
async fn until_blocked(connection: &mut PgConnection, count: i64) {
    const BLOCKED: &str =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let waiting = async {
        loop {
            let blocked: i64 = sqlx::query_scalar(BLOCKED).fetch_one(&mut *connection).await.unwrap();
            if blocked >= count {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await;
    assert!(waited.is_ok(), "{count} sessions were to wait for a lock, and did not");
}

fn all_applied(outcomes: &[Outcome]) -> bool {
    outcomes.iter().all(|outcome| matches!(outcome, Outcome::Applied))
}

#[tokio::test]
async fn a_claim_waits_for_the_write_in_flight() {
    let database = Database::create().await;
    let writer = Writer::over(&database.url, 20_000).await;
    assert!(all_applied(&writer.apply(1, &[upsert(1, "old")]).await));
    let (mut blocker, mut side) = (database.connect().await, database.connect().await);
    execute(&mut blocker, "BEGIN; SELECT * FROM t WHERE id = 1 FOR UPDATE").await;
    let in_flight = tokio::spawn({
        let writer = writer.clone();
        async move { writer.apply(1, &[upsert(1, "in flight")]).await }
    });
    until_blocked(&mut side, 1).await;
    let claim = tokio::spawn({
        let writer = writer.clone();
        async move { writer.claim(2).await }
    });
    until_blocked(&mut side, 2).await;
    assert!(!claim.is_finished(), "L6: the claim waits for the write");
    execute(&mut blocker, "COMMIT").await;
    assert!(all_applied(&in_flight.await.unwrap()));
    claim.await.unwrap();
    let late = writer.apply(1, &[upsert(1, "late")]).await;
    assert!(matches!(&late[..], [Outcome::Failed(fault)] if fault.kind == FaultKind::Unavailable), "{late:?}");
    assert!(all_applied(&writer.apply(2, &[upsert(2, "new")]).await));
    assert_eq!(names(&mut side).await, ["1in flight", "2new"]);
}

#[tokio::test]
async fn what_ends_before_the_commit_has_failed_for_certain() {
    let database = Database::create().await;
    let writer = Writer::over(&database.url, 1_000).await;
    assert!(all_applied(&writer.apply(1, &[upsert(1, "old")]).await));
    let (mut blocker, mut side) = (database.connect().await, database.connect().await);
    execute(&mut blocker, "BEGIN; SELECT * FROM t WHERE id = 1 FOR UPDATE").await;
    // The server's own deadline, below the client's.
    let timed_out = writer.apply(1, &[upsert(1, "slow"), upsert(2, "slow")]).await;
    for outcome in &timed_out {
        assert!(matches!(outcome, Outcome::Failed(fault) if fault.kind == FaultKind::Transient), "{outcome:?}");
    }
    assert!(format!("{timed_out:?}").contains("57014"), "{timed_out:?}");
    let patient = Writer::over(&database.url, 60_000).await;
    let cut = tokio::spawn(async move { patient.apply(1, &[upsert(1, "cut"), upsert(3, "cut")]).await });
    until_blocked(&mut side, 1).await;
    execute(
        &mut side,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )
    .await;
    for outcome in cut.await.unwrap() {
        assert!(matches!(&outcome, Outcome::Failed(fault) if fault.kind == FaultKind::Transient), "{outcome:?}");
    }
    execute(&mut blocker, "COMMIT").await;
    assert_eq!(names(&mut side).await, ["1old"]);
    assert!(all_applied(&writer.apply(1, &[upsert(1, "again")]).await), "the target works on");
}

/// Forwards to the server until the client says COMMIT; then the connection is cut, after or before the server heard it.
async fn cutting_proxy(server: String, tell_the_server: bool) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(async move {
                let (mut from_server, mut to_server) = server.into_split();
                let (mut request, mut answer) = (vec![0; 65_536], vec![0; 65_536]);
                loop {
                    tokio::select! {
                        read = client.read(&mut request) => {
                            let Ok(read @ 1..) = read else { return };
                            let commit = request[..read].windows(7).any(|window| window == b"COMMIT\0");
                            if commit && !tell_the_server {
                                return;
                            }
                            to_server.write_all(&request[..read]).await.unwrap();
                            if commit {
                                // The server's answer means that it has committed; the client never sees it.
                                let _ = from_server.read(&mut answer).await;
                                return;
                            }
                        }
                        read = from_server.read(&mut answer) => {
                            let Ok(read @ 1..) = read else { return };
                            if client.write_all(&answer[..read]).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_commit_without_an_answer_is_unknown() {
    for (is_told, expected) in [(true, vec!["1new", "2new"]), (false, vec![])] {
        let database = Database::create().await;
        Writer::over(&database.url, 10_000).await;
        let mut url = url::Url::parse(&database.url).unwrap();
        let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
        let proxy = cutting_proxy(server, is_told).await;
        url.set_port(Some(proxy.port())).unwrap();
        url.set_query(Some("sslmode=disable"));
        let writer = Writer::over(url.as_str(), 10_000).await;
        let outcomes = writer.apply(1, &[upsert(1, "new"), upsert(2, "new")]).await;
        assert_eq!(outcomes.len(), 2);
        for outcome in &outcomes {
            let Outcome::Unknown(fault) = outcome else { panic!("{outcome:?}") };
            assert_eq!(fault.kind, FaultKind::Transient, "{fault}");
        }
        assert_eq!(names(&mut database.connect().await).await, expected, "nobody could know which");
    }
}

/// L2: a role or a database with `off` would acknowledge commits that a crash of the server loses.
#[tokio::test]
async fn a_write_is_on_disk_before_it_is_acknowledged() {
    let database = Database::create().await;
    let mut side = database.connect().await;
    let name: String = sqlx::query_scalar("SELECT current_database()::text").fetch_one(&mut side).await.unwrap();
    let as_it_is_committed = "CREATE TABLE t (id bigint PRIMARY KEY, name text); \
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \
          $$ BEGIN new.name := current_setting('synchronous_commit'); RETURN new; END $$; \
        CREATE TRIGGER note BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION note()";
    execute(&mut side, &format!("ALTER DATABASE {name} SET synchronous_commit = off; {as_it_is_committed}")).await;
    let writer = Writer::over(&database.url, 10_000).await;
    assert!(all_applied(&writer.apply(1, &[upsert(1, "?")]).await));
    assert_eq!(names(&mut side).await, ["1on"]);
}

#[tokio::test]
async fn identity_foreign_keys_triggers_and_deferred_constraints() {
    let database = Database::create().await;
    database
        .execute(
            "CREATE TABLE names (name text PRIMARY KEY); INSERT INTO names VALUES ('a'), ('b'), ('bad'); \
             CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
               name text REFERENCES names DEFERRABLE INITIALLY DEFERRED); \
             CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
               $$ BEGIN IF new.name = 'bad' THEN RAISE EXCEPTION 'no % here', new.name; END IF; RETURN new; END $$; \
             CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .await;
    let writer = Writer::over(&database.url, 10_000).await;
    let outcomes = writer.apply(1, &[upsert(1, "a"), upsert(2, "unknown"), upsert(3, "bad"), upsert(4, "b")]).await;
    let [Outcome::Applied, Outcome::Failed(foreign), Outcome::Failed(trigger), Outcome::Applied] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!((foreign.kind, trigger.kind), (FaultKind::Deferred, FaultKind::Permanent));
    assert!(trigger.to_string().contains("no bad here"), "{trigger}");
    assert_eq!(names(&mut database.connect().await).await, ["1a", "4b"]);
}

#[tokio::test]
async fn a_table_that_changes_underneath_loses_no_record() {
    let database = Database::create().await;
    let writer = Writer::over(&database.url, 10_000).await;
    assert!(all_applied(&writer.apply(1, &[upsert(1, "a")]).await));
    database.execute("ALTER TABLE t RENAME COLUMN name TO label").await;
    let outcomes = writer.apply(1, &[upsert(2, "b")]).await;
    assert!(matches!(&outcomes[..], [Outcome::Failed(fault)] if fault.kind == FaultKind::Unavailable), "{outcomes:?}");
    database
        .execute("ALTER TABLE t RENAME COLUMN label TO name; ALTER TABLE t ALTER COLUMN name TYPE varchar(3)")
        .await;
    let outcomes = writer.apply(1, &[upsert(2, "b"), upsert(3, "too long")]).await;
    assert!(
        matches!(&outcomes[..], [Outcome::Applied, Outcome::Failed(fault)] if fault.kind == FaultKind::Permanent),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn prepare_says_what_is_wrong_and_what_to_run() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id bigint, name text GENERATED ALWAYS AS ('x') STORED)").await;
    let target = fides_connector_postgres::target(&database.url, 1, 10_000).await.unwrap();
    let pipeline = PipelineId::new("p");
    let sink = Sink { pipeline, namespace: table("t"), version_field: Some("v".to_owned()) };
    let field = |name: &str| Field { name: name.to_owned(), kind: Kind::I64 };
    let shape = Shape { fields: vec![field("id"), field("name")], key: vec![0] };
    let fault = target.prepare(&sink, &shape, true).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Permanent);
    for part in ["column name is generated", "column v is missing", "no unique index on the key (id)"] {
        assert!(fault.to_string().contains(part), "{fault}");
    }
    let missing = Sink { namespace: table("nowhere"), ..sink.clone() };
    let fault = target.prepare(&missing, &shape, false).await.unwrap_err().to_string();
    assert!(fault.contains("nowhere") && fault.contains("CREATE TABLE \"public\".\"nowhere\""), "{fault}");

    database.execute("CREATE SCHEMA locked; CREATE TABLE locked.t (id bigint PRIMARY KEY)").await;
    let role: String = sqlx::query_scalar("SELECT current_database() || '_writer'")
        .fetch_one(&mut database.connect().await)
        .await
        .unwrap();
    database
        .execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 's3cret'; GRANT USAGE ON SCHEMA locked TO {role}; GRANT ALL ON locked.t TO {role}"
        ))
        .await;
    let target = fides_connector_postgres::target(&database.url_as(&role, "s3cret"), 1, 10_000).await.unwrap();
    let namespace = fides_core::Namespace(vec!["locked".to_owned(), "t".to_owned()]);
    let sink = Sink { namespace, version_field: None, ..sink };
    let shape = Shape { fields: vec![field("id")], key: vec![0] };
    let refused = target.prepare(&sink, &shape, false).await;
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    let fault = refused.unwrap_err();
    assert!(fault.to_string().contains("CREATE TABLE IF NOT EXISTS \"locked\"._fides_lane"), "{fault}");
}

/// A key that the target spells in its own way is read back as another: a walk would take it for one that only the
/// target has, and delete the healthy record (L8).
#[tokio::test]
async fn a_key_column_of_another_kind_is_refused() {
    let database = Database::create().await;
    let target = fides_connector_postgres::target(&database.url, 1, 10_000).await.unwrap();
    database
        .execute(
            "CREATE DOMAIN cents AS numeric(12,2); CREATE DOMAIN number AS numeric(20,0); \
             CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        )
        .await;
    let pipeline = PipelineId::new("p");
    let prepare = async |native: &str, kind| {
        database.execute(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (id {native} PRIMARY KEY)")).await;
        let sink = Sink { pipeline: pipeline.clone(), namespace: table("t"), version_field: None };
        let shape = Shape { fields: vec![Field { name: "id".to_owned(), kind }], key: vec![0] };
        target.prepare(&sink, &shape, false).await
    };
    for (native, kind, needed) in [
        ("uuid", Kind::String, "text"),
        ("bigint", Kind::String, "text"),
        ("citext", Kind::String, "text"),
        ("char(5)", Kind::String, "text"),
        ("text COLLATE folded", Kind::String, "text"),
        ("text", Kind::I64, "bigint"),
        ("double precision", Kind::I64, "bigint"),
        ("oid", Kind::I64, "bigint"),
        ("numeric(9,2)", Kind::I64, "bigint"),
        ("cents", Kind::I64, "bigint"),
        ("text", Kind::Bytes, "bytea"),
        ("jsonb", Kind::Any, "text"),
    ] {
        if native == "citext" {
            database.execute("CREATE EXTENSION IF NOT EXISTS citext").await;
        }
        let fault = prepare(native, kind).await.expect_err(native);
        assert_eq!(fault.kind, FaultKind::Permanent, "{fault}");
        let said = fault.to_string();
        let needed = format!("a column of type {needed} is needed");
        for part in ["public.t", "key column id", &format!("keys of kind {kind}"), &needed] {
            assert!(said.contains(part), "{native}: {part}: {said}");
        }
    }
    for (native, kind) in [
        ("uuid", Kind::Uuid),
        ("text", Kind::Uuid),
        ("varchar(40)", Kind::String),
        ("smallint", Kind::I64),
        ("number", Kind::U64),
        ("numeric", Kind::I64),
        ("bytea", Kind::Bytes),
        ("boolean", Kind::Bool),
        ("text", Kind::Any),
    ] {
        prepare(native, kind).await.unwrap_or_else(|fault| panic!("{native} for {kind}: {fault}"));
    }
}

/// The same for one value, where the declared kind fits: it fails alone, and deletes nothing.
#[tokio::test]
async fn a_key_that_would_be_read_back_as_another_fails_alone() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id varchar(2) PRIMARY KEY, name text)").await;
    let field = |name: &str, kind| Field { name: name.to_owned(), kind };
    let pipeline = PipelineId::new("p");
    let writer = Writer {
        target: fides_connector_postgres::target(&database.url, 1, 10_000).await.unwrap(),
        sink: Sink { pipeline: pipeline.clone(), namespace: table("t"), version_field: None },
        shape: Shape { fields: vec![field("id", Kind::Any), field("name", Kind::String)], key: vec![0] },
        lane: Lane { pipeline, index: 0 },
    };
    writer.target.prepare(&writer.sink, &writer.shape, false).await.unwrap();
    writer.claim(1).await;
    let text = |id: &'static str| Value::String(id.into());
    let change = |key: Value<'static>, name: Option<&'static str>| {
        let mut document = Vec::new();
        encode_row(&mut document, &[key.clone(), text(name.unwrap_or_default())]);
        let op = name.map_or(Op::Delete, |_| Op::Upsert(Bytes::from(document)));
        Change { key: Key::encode(&[key]).unwrap(), op, ..upsert(0, "") }
    };
    let outcomes = writer
        .apply(1, &[change(text("7"), Some("a")), change(Value::I64(8), Some("b")), change(text("9   "), Some("c"))])
        .await;
    let [Outcome::Applied, Outcome::Failed(number), Outcome::Failed(long)] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert!(number.kind == FaultKind::Permanent && number.to_string().contains("kind i64"), "{number}");
    assert!(long.kind == FaultKind::Permanent && long.to_string().contains("4 characters"), "{long}");
    let outcomes = writer.apply(1, &[change(Value::I64(7), None)]).await;
    assert!(matches!(&outcomes[..], [Outcome::Failed(fault)] if fault.kind == FaultKind::Permanent), "{outcomes:?}");
    assert_eq!(names(&mut database.connect().await).await, ["7a"], "the text 7 is another record than the number");
}

/// What a lane's owner wrote is gone with the table, whoever made the new one: nobody is its owner any more (L11).
#[tokio::test]
async fn a_table_that_was_made_anew_forgets_its_claims() {
    let database = Database::create().await;
    let writer = Writer::over(&database.url, 20_000).await;
    let claimed = async || writer.target.claimed(&writer.sink, &writer.lane).await.unwrap();
    assert!(all_applied(&writer.apply(1, &[upsert(1, "a")]).await));
    assert_eq!(claimed().await, Some(1));
    let mut side = database.connect().await;
    execute(&mut side, "DROP TABLE t; CREATE TABLE t (id bigint PRIMARY KEY, name text)").await;
    assert_eq!(claimed().await, None);
    // The first attempt may meet what it knew of the old table; none is written.
    for _ in 0..2 {
        assert!(matches!(&writer.apply(1, &[upsert(2, "b")]).await[..], [Outcome::Failed(_)]));
    }
    assert_eq!(names(&mut side).await, [""; 0]);
    writer.claim(2).await;
    assert_eq!(claimed().await, Some(2));
    assert!(all_applied(&writer.apply(2, &[upsert(2, "b")]).await));
    assert_eq!(names(&mut side).await, ["2b"]);
}
