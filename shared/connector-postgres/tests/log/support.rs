//! Reading a log in tests.

use std::sync::Arc;
use std::time::Duration;

use fides_core::port::{Host, Log, LogPage, Opened, Snapshot, What};
use fides_core::{Fault, Fingerprint, Key, KeyRange, PipelineId, Selection, Value, Version, fingerprint};

use crate::common::Database;

/// A change, taken from its page.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub position: u64,
    pub sequence: u32,
    pub what: Change,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Row { key: Key, raw: Vec<u8>, fingerprint: Fingerprint, values: Vec<Value<'static>> },
    Gone(Key),
    Emptied,
}

impl Change {
    pub fn key(&self) -> &Key {
        let (Self::Row { key, .. } | Self::Gone(key)) = self else { panic!("{self:?} has no key") };
        key
    }

    pub fn values(&self) -> &[Value<'static>] {
        let Self::Row { values, .. } = self else { panic!("{self:?} is no row") };
        values
    }
}

pub fn seen(page: &LogPage) -> Vec<Seen> {
    assert_eq!(page.rows.len(), page.fingerprints.len());
    let change = |what: &What| match what {
        What::Row { key, at } => {
            let mut values = Vec::new();
            page.decoder.decode(page.rows.get(*at), &mut values).unwrap();
            Change::Row {
                key: key.clone(),
                raw: page.rows.get(*at).to_vec(),
                fingerprint: page.fingerprints[*at],
                values: values.into_iter().map(Value::into_owned).collect(),
            }
        }
        What::Gone(key) => Change::Gone(key.clone()),
        What::Emptied => Change::Emptied,
    };
    let logged = page.changes.iter();
    logged
        .map(|logged| Seen { position: logged.position, sequence: logged.sequence, what: change(&logged.what) })
        .collect()
}

pub async fn page(log: &mut dyn Log) -> LogPage {
    try_page(log).await.unwrap()
}

pub async fn try_page(log: &mut dyn Log) -> Result<LogPage, Fault> {
    tokio::time::timeout(Duration::from_secs(30), log.next()).await.expect("the log says something")
}

/// Reads until `count` changes were seen, and the end of the last one's transaction; what they are, and the place.
pub async fn read(log: &mut dyn Log, count: usize) -> (Vec<Seen>, u64) {
    let (mut all, mut place) = (Vec::<Seen>::new(), 0);
    while all.len() < count || all.last().is_some_and(|last| last.position >= place) {
        let page = page(log).await;
        assert!(page.place >= place, "a place never goes backward");
        place = page.place;
        all.extend(seen(&page));
    }
    assert_eq!(all.len(), count, "{all:?}");
    (all, place)
}

/// Reads until the place is at or behind the present end of the log; nothing of what comes is a change.
pub async fn silence(database: &Database, log: &mut dyn Log) -> u64 {
    let end = flushed(database).await;
    loop {
        let page = page(log).await;
        assert!(page.changes.is_empty(), "{:?}", seen(&page));
        if page.place >= end {
            return page.place;
        }
    }
}

pub async fn flushed(database: &Database) -> u64 {
    let lsn = "SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint";
    let lsn: i64 = sqlx::query_scalar(lsn).fetch_one(&mut database.connect().await).await.unwrap();
    lsn.unsigned_abs()
}

pub async fn scalar(database: &Database, sql: &str) -> i64 {
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    sqlx::query_scalar(sql).fetch_one(&mut database.connect().await).await.unwrap()
}

/// The name of a slot lives in the whole cluster: each test has its own.
pub async fn reader(database: &Database) -> PipelineId {
    let name: String =
        sqlx::query_scalar("SELECT current_database()::text").fetch_one(&mut database.connect().await).await.unwrap();
    PipelineId::new(&name.replace('_', "-"))
}

pub fn slot(reader: &PipelineId) -> String {
    format!("fides_{}", reader.as_str().replace('-', "_2d_"))
}

/// Awaits the end of whoever read the slot before.
pub async fn unread(database: &Database, reader: &PipelineId) {
    let sql = format!("SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name = '{}'", slot(reader));
    for _ in 0..3_000 {
        if scalar(database, &sql).await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the slot is still being read");
}

/// Awaits that the server keeps what it was told: it need not send what is up to there again.
pub async fn until_released(database: &Database, position: u64) {
    let confirmed = format!(
        "SELECT (confirmed_flush_lsn - '0/0')::bigint FROM pg_replication_slots WHERE slot_name = '{}'",
        slot(&reader(database).await)
    );
    for _ in 0..3_000 {
        if scalar(database, &confirmed).await.unsigned_abs() >= position {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the server does not keep that {position} was released");
}

pub async fn open(database: &Database, host: &dyn Host, selection: &Selection, after: Option<u64>) -> Opened {
    let reader = reader(database).await;
    unread(database, &reader).await;
    host.log(selection, &reader, after).await.unwrap()
}

pub async fn refused(database: &Database, host: &dyn Host, selection: &Selection) -> Fault {
    host.log(selection, &reader(database).await, None).await.map(drop).unwrap_err()
}

pub async fn scan(host: &dyn Host, selection: &Selection) -> Arc<dyn Snapshot> {
    host.snapshot(selection, Version::scan(1, 1)).await.unwrap()
}

/// Whether the rows of the log are those of a scan, byte for byte.
pub async fn same_as_scanned(host: &dyn Host, selection: &Selection, changes: &[Seen]) {
    let snapshot = scan(host, selection).await;
    let page = snapshot.scan(&KeyRange::ALL, None).await.unwrap();
    assert_eq!(page.len(), changes.len());
    for change in changes {
        let Change::Row { key, raw, fingerprint: print, values } = &change.what else { panic!("{change:?}") };
        let at = page.find(key.as_bytes()).unwrap();
        assert_eq!(String::from_utf8_lossy(raw), String::from_utf8_lossy(page.rows.get(at)));
        assert_eq!(raw, page.rows.get(at));
        assert_eq!(*print, page.fingerprints[at]);
        assert_eq!(*print, fingerprint(raw, selection.seed));
        assert_eq!(format!("{values:?}"), format!("{:?}", page.values(at).unwrap()));
    }
}
