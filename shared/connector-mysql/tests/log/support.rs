//! Reading a log in tests.

#![allow(dead_code)] // more than one test binary uses a part of it

use std::sync::Arc;
use std::time::Duration;

use fides_core::port::{Host, Log, LogPage, Opened, Snapshot, What};
use fides_core::{Fault, Fingerprint, Key, PipelineId, Selection, Value, Version, fingerprint};

use crate::common::{Database, int};

/// The key that tells the end of what a test reads.
const FENCE: i64 = 999_999;

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
    pub fn values(&self) -> &[Value<'static>] {
        let Self::Row { values, .. } = self else { panic!("{self:?} is no row") };
        values
    }

    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Row { key, .. } | Self::Gone(key) => Some(key),
            Self::Emptied => None,
        }
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
    tokio::time::timeout(Duration::from_secs(45), log.next()).await.expect("the log says something")
}

/// Runs statements, and reads until a record behind them was told and is gone again: what came before it, and the place.
/// The table `t` has a key `id` and needs no other value.
pub async fn told_in(database: &Database, table: &str, log: &mut dyn Log, sql: &str) -> (Vec<Seen>, u64) {
    database.execute(sql).await;
    let (mut all, mut place) = (Vec::<Seen>::new(), 0);
    for fence in
        [format!("INSERT INTO `{table}` (id) VALUES ({FENCE})"), format!("DELETE FROM `{table}` WHERE id = {FENCE}")]
    {
        database.execute(&fence).await;
        let is_fence = |seen: &Seen| seen.what.key() == Some(&int(FENCE));
        loop {
            let page = page(log).await;
            assert!(page.place >= place, "a place never goes backward");
            place = page.place;
            let now = seen(&page);

            let is_through = now.iter().any(is_fence);
            all.extend(now.into_iter().filter(|seen| !is_fence(seen)));
            if is_through {
                break;
            }
        }
    }
    (all, place)
}

pub async fn told(database: &Database, log: &mut dyn Log, sql: &str) -> Vec<Seen> {
    told_in(database, "t", log, sql).await.0
}

/// A test's own name of a reader: the server knows readers by it.
pub fn reader(database: &Database) -> PipelineId {
    PipelineId::new(&database.name.replace('_', "-"))
}

pub async fn open(database: &Database, host: &dyn Host, selection: &Selection, after: Option<u64>) -> Opened {
    if after.is_none() {
        // A log begins behind the last transaction: that one defines no table.
        database.execute("CREATE TABLE IF NOT EXISTS begun (n int); INSERT INTO begun VALUES (1)").await;
    }
    host.log(selection, &reader(database), after).await.unwrap()
}

pub async fn refused(database: &Database, host: &dyn Host, selection: &Selection) -> Fault {
    host.log(selection, &reader(database), None).await.map(drop).unwrap_err()
}

pub async fn scan(host: &dyn Host, selection: &Selection) -> Arc<dyn Snapshot> {
    host.snapshot(selection, Version::scan(1, 1)).await.unwrap()
}

/// Whether the latest rows that were told are those that a scan has now, byte for byte, and the others are gone.
pub async fn same_as_scanned(host: &dyn Host, selection: &Selection, changes: &[Seen]) {
    let snapshot = scan(host, selection).await;
    for (at, change) in changes.iter().enumerate() {
        let Some(key) = change.what.key() else { continue };
        if changes[at + 1..].iter().any(|later| later.what.key() == Some(key)) {
            continue;
        }
        let page = snapshot.fetch(std::slice::from_ref(key)).await.unwrap();
        let Change::Row { raw, fingerprint: print, values, .. } = &change.what else {
            assert!(page.is_empty(), "{key} is there");
            continue;
        };
        assert_eq!(page.len(), 1, "{key} is not there");
        assert_eq!(raw, page.rows.get(0));
        assert_eq!(*print, page.fingerprints[0]);
        assert_eq!(*print, fingerprint(raw, selection.seed));
        assert_eq!(format!("{values:?}"), format!("{:?}", page.values(0).unwrap()));
    }
}

/// A place as the position that it is, without the mark of its file.
pub fn position(place: u64) -> u64 {
    place >> 40 << 32 | place & 0xffff_ffff
}

pub fn described(changes: &[Seen]) -> Vec<String> {
    let describe = |change: &Seen| match &change.what {
        Change::Row { values, .. } => format!("{values:?}"),
        Change::Gone(key) => format!("gone {key}"),
        Change::Emptied => "emptied".to_owned(),
    };
    changes.iter().map(describe).collect()
}
