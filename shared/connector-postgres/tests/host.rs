//! What is PostgreSQL's own about the host: exact snapshots, the fallback, streams, plans, descriptions, faults.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Database, execute, include, int, rows, selection, table};
use fides_core::port::{Host, Snapshot};
use fides_core::{Arity, FaultKind, Key, KeyRange, Value, Version};
use fides_testkit::conformance::{scan_all, scan_range};

async fn lsn(database: &Database) -> u64 {
    let lsn = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint";
    let lsn: i64 = sqlx::query_scalar(lsn).fetch_one(&mut database.connect().await).await.unwrap();
    lsn.unsigned_abs()
}

#[tokio::test]
async fn a_snapshot_has_its_exact_position() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 10)").await;
    let host = database.host(2).await;
    let lineage = host.lineage().await.unwrap().0;
    assert!(lineage.starts_with("postgres:") && lineage.ends_with(":1:lsn"), "{lineage}");
    let selection = selection(&*host, "t", &["id"], 3).await;
    let before = lsn(&database).await;
    let first = host.snapshot(&selection, Version::scan(9, 5)).await.unwrap();
    let after = lsn(&database).await;
    assert!((before..=after).contains(&first.version().position), "{before} {} {after}", first.version());
    assert_eq!((first.version().epoch, first.version().sequence), (9, 0));
    database.execute("INSERT INTO t VALUES (11)").await;
    let second = host.snapshot(&selection, Version::scan(9, 6)).await.unwrap();
    assert!(second.version() > first.version());
    assert_eq!((rows(&*first).await.len(), rows(&*second).await.len()), (10, 11));
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()";
    let slots: i64 = sqlx::query_scalar(slots).fetch_one(&mut database.connect().await).await.unwrap();
    assert_eq!(slots, 0, "no slot outlives the opening of its snapshot");
    assert_eq!(host.lineage().await.unwrap().0, lineage);
}

#[tokio::test]
async fn without_the_right_to_replicate_fides_orders() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let mut admin = database.connect().await;
    let role: String =
        sqlx::query_scalar("SELECT current_database() || '_reader'").fetch_one(&mut admin).await.unwrap();
    database.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 's3cret'; GRANT SELECT ON t TO {role}")).await;
    let host = fides_connector_postgres::host(&database.url_as(&role, "s3cret"), 2, true).await.unwrap();
    let selection = selection(&*host, "t", &["id"], 10).await;
    let drawn = Version::scan(4, 77);
    let snapshot = host.snapshot(&selection, drawn).await.unwrap();
    let lineage = host.lineage().await.unwrap().0;
    let held = (snapshot.version(), rows(&*snapshot).await);
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    assert_eq!(held, (drawn, vec![vec![Value::I64(1)]]));
    assert!(lineage.starts_with("postgres:") && lineage.ends_with(":drawn"), "{lineage}");
}

/// Whose log nobody follows is imported beside transactions that never end.
#[tokio::test]
async fn without_a_follower_fides_orders_and_waits_for_no_writer() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let mut writer = database.connect().await;
    execute(&mut writer, "BEGIN; INSERT INTO t VALUES (2)").await;
    let host = fides_connector_postgres::host(&database.url, 2, false).await.unwrap();
    let selection = selection(&*host, "t", &["id"], 10).await;
    let snapshot = host.snapshot(&selection, Version::scan(4, 77)).await.unwrap();
    assert_eq!((snapshot.version(), rows(&*snapshot).await), (Version::scan(4, 77), vec![vec![Value::I64(1)]]));
    assert!(host.lineage().await.unwrap().0.ends_with(":drawn"));
    execute(&mut writer, "COMMIT").await;
}

#[tokio::test]
async fn one_connection_serves_many_ranges_and_snapshots() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 500)").await;
    let host = database.host(1).await;
    let selection = selection(&*host, "t", &["id"], 10).await;
    let snapshots = [(); 2].map(|()| host.snapshot(&selection, Version::default()));
    let snapshots = futures::future::try_join_all(snapshots).await.unwrap();
    let mut readers = Vec::new();
    for snapshot in &snapshots {
        for range in snapshot.plan(3).await.unwrap() {
            readers.push(async move { scan_range(&**snapshot, &range).await.unwrap().len() });
        }
    }
    assert_eq!(readers.len(), 6);
    let read = futures::future::join_all(readers).await;
    assert_eq!(read.iter().sum::<usize>(), 1000, "streams that give way to each other lose nothing: {read:?}");
    // A reader that is cut off in the middle does not spoil the connection for the next one.
    let page = snapshots[0].scan(&KeyRange::ALL, None).await.unwrap();
    {
        let mut cut = Box::pin(snapshots[0].scan(&KeyRange::ALL, page.next.as_ref()));
        assert!(futures::poll!(cut.as_mut()).is_pending());
    }
    assert_eq!(scan_all(&*snapshots[0]).await.unwrap().len(), 500);
    assert_eq!(snapshots[1].fetch(&[int(7), int(501)]).await.unwrap().len(), 1);
}

/// To a snapshot from before, a table that was rewritten is empty: its rows are not absent, and nothing nests none of them.
#[tokio::test]
async fn a_table_that_was_rewritten_since_is_a_fault_and_not_empty() {
    let database = Database::create().await;
    database
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id); \
             CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (10); CREATE TABLE high PARTITION OF t DEFAULT; \
             CREATE TABLE l (t int, n int); CREATE TABLE l_new (t int, n int); \
             INSERT INTO t SELECT generate_series(1, 20); INSERT INTO l SELECT id, 1 FROM t",
        )
        .await;
    let host = database.host(2).await;
    let mut nesting = selection(&*host, "t", &["id"], 5).await;
    nesting.includes = vec![include(&*host, "l", ("t", "id"), Arity::Many).await];
    let version = Version::scan(1, 1);
    for (harmless, rewriting, table) in [
        ("CREATE INDEX ON l (n)", "ALTER TABLE l ADD at timestamptz DEFAULT clock_timestamp()", "l"),
        ("ANALYZE t", "TRUNCATE high", "high"),
        ("INSERT INTO t VALUES (30)", "DROP TABLE l; CREATE UNLOGGED TABLE l AS SELECT id AS t, 1 AS n FROM t", "l"),
        (
            "ANALYZE l",
            "INSERT INTO l_new SELECT id, 2 FROM t; ALTER TABLE l RENAME TO l_old; ALTER TABLE l_new RENAME TO l",
            "l",
        ),
    ] {
        let snapshot = host.snapshot(&nesting, version).await.unwrap();
        let count = scan_all(&*snapshot).await.unwrap().len();
        assert!(count > 5, "{count}");
        database.execute(harmless).await;
        assert_eq!(scan_all(&*snapshot).await.unwrap().len(), count, "{harmless}");
        database.execute(rewriting).await;
        for fault in [
            snapshot.scan(&KeyRange::ALL, None).await.map(drop).unwrap_err(),
            snapshot.fetch(&[int(12)]).await.map(drop).unwrap_err(),
        ] {
            assert_eq!(fault.kind, FaultKind::Transient, "{rewriting}: {fault}");
            let told = format!("public.{table} was rewritten or replaced since the snapshot was taken");
            assert!(fault.to_string().contains(&told), "{rewriting}: {fault}");
        }
    }
}

#[tokio::test]
async fn a_page_ends_at_eight_mebibytes() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY, big text); INSERT INTO t SELECT n, repeat('x', 3 << 20) FROM generate_series(1, 7) n").await;
    let host = database.host(1).await;
    let snapshot = host.snapshot(&selection(&*host, "t", &["id"], 100).await, Version::default()).await.unwrap();
    let page = snapshot.scan(&KeyRange::ALL, None).await.unwrap();
    assert_eq!((page.len(), page.next.clone()), (3, Some(int(3))));
    let fresh = snapshot.scan(&KeyRange::ALL, page.next.as_ref()).await.unwrap();
    let again = snapshot.scan(&KeyRange::ALL, page.next.as_ref()).await.unwrap();
    assert_eq!((fresh.len(), &fresh.fingerprints), (3, &again.fingerprints), "the same arguments give the same page");
}

#[tokio::test]
async fn keys_that_would_be_lost_are_refused() {
    let database = Database::create().await;
    database
        .execute(
            "CREATE TABLE t (id int, c char(3), day date); INSERT INTO t VALUES (1), (2), (2), (3); \
             CREATE TABLE n (id int UNIQUE); INSERT INTO n VALUES (1), (NULL)",
        )
        .await;
    let host = database.host(2).await;
    for page_records_max in [2, 10] {
        let twice = selection(&*host, "t", &["id"], page_records_max).await;
        let snapshot = host.snapshot(&twice, Version::default()).await.unwrap();
        let fault = scan_all(&*snapshot).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Permanent);
        assert!(fault.to_string().contains("public.t") && fault.to_string().contains("key 2 is not unique"), "{fault}");
    }
    let refused = async |name: &str, key: &str| {
        let fault = host.snapshot(&selection(&*host, name, &[key], 10).await, Version::default()).await;
        let fault = fault.map(drop).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Permanent);
        fault.to_string()
    };
    assert!(refused("n", "id").await.contains("public.n.id holds NULL"));
    assert!(refused("t", "c").await.contains("character(3)"));
    assert!(refused("t", "day").await.contains("integer, text, varchar, uuid"));
}

async fn sizes(snapshot: &dyn Snapshot, want: usize) -> Vec<usize> {
    let mut sizes = Vec::new();
    for range in snapshot.plan(want).await.unwrap() {
        sizes.push(scan_range(snapshot, &range).await.unwrap().len());
    }
    sizes
}

#[tokio::test]
async fn plans_follow_the_statistics() {
    let database = Database::create().await;
    database
        .execute(
            "CREATE TABLE t (id bigint PRIMARY KEY, word text NOT NULL, c text COLLATE \"C\" NOT NULL UNIQUE, \
               u uuid NOT NULL UNIQUE); \
             INSERT INTO t SELECT n * n, 'w' || n, 'c' || n, md5(n::text)::uuid FROM generate_series(1, 4000) n; \
             CREATE UNIQUE INDEX ON t (word); ANALYZE t",
        )
        .await;
    let host = database.host(2).await;
    for key in ["id", "c", "u"] {
        let snapshot = host.snapshot(&selection(&*host, "t", &[key], 500).await, Version::default()).await.unwrap();
        let sizes = sizes(&*snapshot, 4).await;
        assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (4, 4000), "{key}");
        assert!(sizes.iter().all(|size| (500..1500).contains(size)), "{key}: {sizes:?}");
    }
    let by_word = selection(&*host, "t", &["word"], 500).await;
    let snapshot = host.snapshot(&by_word, Version::default()).await.unwrap();
    assert_eq!(sizes(&*snapshot, 4).await, [4000], "without an index in C order, one stream");
    let described = host.describe(&table("t")).await.unwrap().unwrap();
    let [warning] = &described.warnings[..] else { panic!("{:?}", described.warnings) };
    assert!(warning.contains("(word)") && warning.contains("CREATE INDEX ON"), "{warning}");
    let advised = warning.split("to read in ranges: ").nth(1).unwrap();
    database.execute(advised).await;
    assert!(host.describe(&table("t")).await.unwrap().unwrap().warnings.is_empty(), "the advice helps");
    let snapshot = host.snapshot(&by_word, Version::default()).await.unwrap();
    assert_eq!(sizes(&*snapshot, 4).await.len(), 4);
}

#[tokio::test]
async fn tables_views_and_partitions_are_described() {
    let database = Database::create().await;
    database
        .execute(
            "CREATE TABLE a (x int, y text, PRIMARY KEY (x, y)); \
             CREATE TABLE \"B c\" (id int PRIMARY KEY, x int, y text, z int GENERATED ALWAYS AS (x + 1) STORED, gone int, \
               m varchar(7)[] NOT NULL, FOREIGN KEY (y, x) REFERENCES a (y, x)); \
             ALTER TABLE \"B c\" DROP COLUMN gone; \
             CREATE UNIQUE INDEX ON \"B c\" (x) WHERE x > 1; CREATE UNIQUE INDEX ON \"B c\" (lower(y)); \
             CREATE VIEW v AS SELECT x FROM a; \
             CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); \
             CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); INSERT INTO p VALUES (4)",
        )
        .await;
    let host = database.host(1).await;
    let listed: Vec<String> = host.namespaces().await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(listed, ["public.B c", "public.a", "public.p", "public.v"]);
    let described = host.describe(&table("B c")).await.unwrap().unwrap();
    let columns: Vec<_> =
        described.columns.iter().map(|column| (&*column.name, &*column.native, column.nullable)).collect();
    let expected = [
        ("id", "integer", false),
        ("x", "integer", true),
        ("y", "text", true),
        ("z", "integer", true),
        ("m", "character varying(7)[]", false),
    ];
    assert_eq!(columns, expected);
    assert_eq!((described.primary_key, described.unique), (vec!["id".to_owned()], vec![vec!["id".to_owned()]]));
    let own = |names: [&str; 2]| names.map(str::to_owned).to_vec();
    assert_eq!(described.references, [(own(["y", "x"]), table("a"), own(["y", "x"]))]);
    for (name, count) in [("v", 0), ("p", 1)] {
        let key = if name == "v" { "x" } else { "id" };
        let snapshot = host.snapshot(&selection(&*host, name, &[key], 10).await, Version::default()).await.unwrap();
        assert_eq!(rows(&*snapshot).await.len(), count, "{name}");
    }
}

#[tokio::test]
async fn includes_are_exact() {
    let database = Database::create().await;
    database
        .execute(
            "CREATE TABLE o (id int PRIMARY KEY); INSERT INTO o VALUES (1); \
             CREATE TABLE l (o int, n numeric, f float8, b bytea, t timestamptz, big bigint); \
             INSERT INTO l VALUES (1, 1.500, 'NaN', '\\x00', '2024-01-01 10:00:00.5+02', 9007199254740993)",
        )
        .await;
    let host = database.host(1).await;
    let mut selection = selection(&*host, "o", &["id"], 10).await;
    selection.includes = vec![include(&*host, "l", ("o", "id"), Arity::Many).await];
    let snapshot = host.snapshot(&selection, Version::default()).await.unwrap();
    let expected =
        r#"[{"o":1,"n":1.500,"f":"NaN","b":"\\x00","t":"2024-01-01T08:00:00.5+00:00","big":9007199254740993}]"#;
    assert_eq!(rows(&*snapshot).await, [vec![Value::I64(1), Value::Json(expected.into())]]);
}

#[tokio::test]
async fn faults_have_their_kind_and_hide_the_password() {
    let database = Database::create().await;
    let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let missing = database.url.replace(database.url.rsplit('/').next().unwrap(), "fides_nowhere");
    for (url, part) in [
        (format!("postgres://me:s3cret@{refused}/x"), "check that the server runs"),
        (database.url_as("fides_nobody", "s3cret"), "check user and password"),
        (missing, "fides_nowhere"),
    ] {
        let host = fides_connector_postgres::host(&url, 1, true).await.unwrap();
        let fault = host.namespaces().await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
        assert!(fault.to_string().contains(part), "{fault}");
        assert!(!format!("{fault:?}").contains("s3cret"), "{fault}");
    }
}

#[tokio::test]
async fn a_snapshot_whose_session_ended_is_a_fault_and_not_an_end() {
    let database = Database::create().await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 50)").await;
    let host: std::sync::Arc<dyn Host> = database.host(1).await;
    let snapshot = host.snapshot(&selection(&*host, "t", &["id"], 10).await, Version::default()).await.unwrap();
    let page = snapshot.scan(&KeyRange::ALL, None).await.unwrap();
    database
        .execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
        .await;
    let fault = snapshot.scan(&KeyRange::ALL, page.next.as_ref().map(|next: &Key| next)).await;
    // What the socket had received may still be read; a fresh reader cannot import the snapshot any more.
    if let Err(fault) = fault {
        assert_eq!(fault.kind, FaultKind::Transient, "{fault}");
    }
    let fault = snapshot.scan(&KeyRange::ALL, None).await.map(drop).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Transient, "{fault}");
}
