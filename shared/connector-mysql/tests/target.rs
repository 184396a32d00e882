//! What only MySQL does to whoever writes it.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::Database;
use fides_core::port::{Outcome, Sink, Target, Write};
use fides_core::{Change, FaultKind, Field, Key, Kind, Lane, Op, PipelineId, Shape, Value, Version, encode_row};

struct Writer {
    target: Arc<dyn Target>,
    sink: Sink,
    shape: Shape,
    lane: Lane,
}

impl Writer {
    async fn new(database: &Database, url: &str, fields: &[(&str, Kind)]) -> Self {
        let pipeline = PipelineId::new("p");
        let field = |(name, kind): &(&str, Kind)| Field { name: (*name).to_owned(), kind: *kind };
        Self {
            target: fides_connector_mysql::target(url, 2, 20_000).await.unwrap(),
            sink: Sink { pipeline: pipeline.clone(), namespace: database.table("t"), version_field: None },
            shape: Shape { fields: fields.iter().map(field).collect(), key: vec![0] },
            lane: Lane { pipeline, index: 0 },
        }
    }

    async fn ready(self) -> Self {
        self.target.prepare(&self.sink, &self.shape, false).await.unwrap();
        self.target.claim(&self.sink, &self.lane, 1).await.unwrap();
        self
    }

    async fn apply(&self, rows: &[Vec<Value<'static>>]) -> Vec<Outcome> {
        let change = |row: &Vec<Value<'static>>| {
            let mut document = Vec::new();
            encode_row(&mut document, row);
            let op = Op::Upsert(Bytes::from(document));
            let key = Key::encode(&row[..1]).unwrap();
            Change { key, version: Version::scan(1, 1), fingerprint: None, op, forced: false }
        };
        let changes: Vec<Change> = rows.iter().map(change).collect();
        let write = Write { sink: &self.sink, shape: &self.shape, lane: &self.lane, token: 1 };
        self.target.apply(&write, &changes).await
    }

    async fn obstacles(&self, create: bool) -> Vec<String> {
        let found = self.target.inspect(&self.sink, &self.shape, create).await.unwrap();
        found
            .into_iter()
            .map(|obstacle| format!("{} ({})", obstacle.what, obstacle.advice.unwrap_or_default()))
            .collect()
    }
}

async fn count(database: &Database, condition: &str) -> i64 {
    let sql = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM t WHERE {condition}"));
    sqlx::query_scalar(sql).fetch_one(&mut database.connect().await).await.unwrap()
}

fn fault(outcome: &Outcome) -> &fides_core::Fault {
    match outcome {
        Outcome::Failed(fault) => fault,
        other => panic!("{other:?} where a failure was expected"),
    }
}

#[tokio::test]
async fn a_row_never_replaces_another_that_it_meets_by_another_index() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, badge bigint, name text, UNIQUE (badge))").await;
    let fields = [("id", Kind::I64), ("badge", Kind::I64), ("name", Kind::String)];
    let writer = Writer::new(&database, &database.url, &fields).await.ready().await;
    let row = |id, badge, name: &'static str| vec![Value::I64(id), Value::I64(badge), Value::String(name.into())];
    writer.apply(&[row(1, 10, "one"), row(2, 20, "two")]).await;
    // A new row and one that is there meet the badge of another.
    let outcomes = writer.apply(&[row(3, 10, "thief"), row(2, 10, "thief"), row(1, 10, "won")]).await;
    assert_eq!(fault(&outcomes[0]).kind, FaultKind::Deferred);
    assert_eq!(fault(&outcomes[1]).kind, FaultKind::Deferred);
    assert!(matches!(outcomes[2], Outcome::Applied));
    assert_eq!(count(&database, "id = 1 AND badge = 10 AND name = 'won'").await, 1);
    assert_eq!(count(&database, "id = 2 AND badge = 20 AND name = 'two'").await, 1);
    assert_eq!(count(&database, "TRUE").await, 2);
    // Where the key is not what decides, no row is written at all.
    let by_badge = Writer::new(&database, &database.url, &[("badge", Kind::I64), ("name", Kind::String)]).await;
    let obstacles = by_badge.obstacles(false).await;
    assert!(obstacles.iter().any(|what| what.contains("could replace another's")), "{obstacles:?}");
}

#[tokio::test]
async fn what_the_server_would_round_or_cut_silently_is_refused() {
    let database = Database::create().await;
    database
        .execute(
            "CREATE TABLE t (id varchar(4) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PRIMARY KEY, \
             price decimal(10,2), at datetime(3))",
        )
        .await;
    let fields = [("id", Kind::String), ("price", Kind::Decimal), ("at", Kind::Timestamp)];
    let writer = Writer::new(&database, &database.url, &fields).await.ready().await;
    let row = |id: &'static str, price: &'static str, at: &'static str| {
        vec![Value::String(id.into()), Value::Decimal(price.into()), Value::Timestamp(at.into())]
    };
    let fits = row("a", "1.500", "2024-01-01T00:00:00.120");
    let outcomes = writer
        .apply(&[
            fits,
            row("b", "1.505", "2024-01-01T00:00:00"),
            row("c", "1", "2024-01-01T00:00:00.1234"),
            row("dddd ", "1", "2024-01-01T00:00:00"),
            row("e", "123456789.1", "2024-01-01T00:00:00"),
        ])
        .await;
    assert!(matches!(outcomes[0], Outcome::Applied), "{outcomes:?}");
    for outcome in &outcomes[1..] {
        assert_eq!(fault(outcome).kind, FaultKind::Permanent, "{outcome:?}");
    }
    assert_eq!(count(&database, "TRUE").await, 1);
}

#[tokio::test]
async fn zero_is_a_key_where_numbers_are_drawn() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id bigint AUTO_INCREMENT PRIMARY KEY, n bigint)").await;
    let writer = Writer::new(&database, &database.url, &[("id", Kind::I64), ("n", Kind::I64)]).await.ready().await;
    writer.apply(&[vec![Value::I64(0), Value::I64(7)]]).await;
    assert_eq!(count(&database, "id = 0 AND n = 7").await, 1);
}

#[tokio::test]
async fn keys_that_a_collation_would_merge_are_refused() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id varchar(9) COLLATE utf8mb4_bin PRIMARY KEY, n bigint)").await;
    let writer = Writer::new(&database, &database.url, &[("id", Kind::String), ("n", Kind::I64)]).await;
    let obstacles = writer.obstacles(false).await;
    // `a` and `a ` are equal by it.
    assert!(obstacles.iter().any(|what| what.contains("different texts are equal")), "{obstacles:?}");
}

#[tokio::test]
async fn every_right_that_is_lacking_is_named_with_its_grant() {
    let database = Database::create().await;
    let user = format!("{}_u", database.name);
    database.execute(&format!("CREATE USER {user}@'127.0.0.1' IDENTIFIED BY 'pw'")).await;
    database.execute(&format!("GRANT SELECT ON {}.* TO {user}@'127.0.0.1'", database.name)).await;
    let fields = [("id", Kind::I64), ("n", Kind::I64)];
    let writer = Writer::new(&database, &database.url_as(&user, "pw"), &fields).await;
    let obstacles = writer.obstacles(true).await;
    assert!(obstacles.len() == 1 && obstacles[0].contains("GRANT CREATE, INSERT, UPDATE, DELETE ON"), "{obstacles:?}");
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, n bigint)").await;
    let obstacles = writer.obstacles(false).await;
    for right in ["INSERT", "UPDATE", "DELETE"] {
        let named = |what: &&String| what.contains(&format!("lacks the right {right}"));
        assert!(obstacles.iter().any(|what| named(&what) && what.contains("GRANT")), "{right}: {obstacles:?}");
    }
    assert!(obstacles.iter().any(|what| what.contains("_fides_lane")), "{obstacles:?}");
    assert_eq!(writer.target.prepare(&writer.sink, &writer.shape, false).await.unwrap_err().kind, FaultKind::Permanent);
    // What the advice says is enough.
    let rights = format!("GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON {}.* TO {user}@'127.0.0.1'", database.name);
    database.execute(&rights).await;
    let writer = Writer::new(&database, &database.url_as(&user, "pw"), &fields).await;
    assert_eq!(writer.obstacles(false).await, Vec::<String>::new());
    let writer = writer.ready().await;
    assert!(matches!(writer.apply(&[vec![Value::I64(1), Value::Null]]).await[..], [Outcome::Applied]));
    database.execute(&format!("DROP USER {user}@'127.0.0.1'")).await;
}

#[tokio::test]
async fn a_table_that_is_made_anew_has_no_owner() {
    let database = Database::create().await;
    let writer = Writer::new(&database, &database.url, &[("id", Kind::I64), ("n", Kind::I64)]).await;
    let claimed = async || writer.target.claimed(&writer.sink, &writer.lane).await.unwrap();
    assert_eq!(claimed().await, None);
    writer.target.prepare(&writer.sink, &writer.shape, true).await.unwrap();
    writer.target.claim(&writer.sink, &writer.lane, 5).await.unwrap();
    writer.target.prepare(&writer.sink, &writer.shape, true).await.unwrap();
    assert_eq!(claimed().await, Some(5));
    database.execute("DROP TABLE t").await;
    assert_eq!(claimed().await, None);
    writer.target.prepare(&writer.sink, &writer.shape, true).await.unwrap();
    assert_eq!(claimed().await, None);
}

#[tokio::test]
async fn a_table_that_changed_buries_no_record() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, n bigint)").await;
    let writer = Writer::new(&database, &database.url, &[("id", Kind::I64), ("n", Kind::I64)]).await.ready().await;
    database.execute("ALTER TABLE t DROP COLUMN n").await;
    let row = vec![Value::I64(1), Value::I64(1)];
    for _ in 0..2 {
        let outcomes = writer.apply(std::slice::from_ref(&row)).await;
        assert_eq!(fault(&outcomes[0]).kind, FaultKind::Unavailable, "{outcomes:?}");
    }
    database.execute("ALTER TABLE t ADD COLUMN n bigint").await;
    assert!(matches!(writer.apply(&[row]).await[..], [Outcome::Applied]), "once it is back, writing goes on");
}

#[tokio::test]
async fn a_claim_waits_for_a_write_in_flight() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, n bigint)").await;
    let writer = Writer::new(&database, &database.url, &[("id", Kind::I64), ("n", Kind::I64)]).await.ready().await;
    let mut flying = database.connect().await;
    common::execute(&mut flying, "START TRANSACTION").await;
    common::execute(&mut flying, "SELECT token FROM _fides_lane WHERE pipeline = 'p' AND lane = 0 LOCK IN SHARE MODE")
        .await;
    let claim = writer.target.claim(&writer.sink, &writer.lane, 2);
    tokio::pin!(claim);
    let waiting = async {
        let sql = "SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p \
            ON p.id = t.trx_mysql_thread_id WHERE t.trx_state = 'LOCK WAIT' AND p.db = ?";
        let mut admin = database.connect().await;
        while sqlx::query_scalar::<_, i64>(sql).bind(&database.name).fetch_one(&mut admin).await.unwrap() == 0 {
            // The view is made anew only when nobody has read it for a tenth of a second.
            tokio::time::sleep(std::time::Duration::from_millis(120)).await;
        }
    };
    tokio::select! {
        done = &mut claim => panic!("claimed beside a write in flight: {done:?}"),
        waited = tokio::time::timeout(std::time::Duration::from_mins(1), waiting) => {
            waited.expect("a claim waits for the write in flight");
        }
    }
    common::execute(&mut flying, "COMMIT").await;
    claim.await.unwrap();
    assert_eq!(writer.target.claimed(&writer.sink, &writer.lane).await.unwrap(), Some(2));
}
