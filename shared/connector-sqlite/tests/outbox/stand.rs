//! A file with an outbox, and what its log tells.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fides_connector_sqlite::{host, install_outbox};
use fides_core::port::{Host, Log, LogPage, Opened, What};
use fides_core::{Arity, Fault, Include, Namespace, PipelineId, Selection, Value, Version};
use sqlx::AssertSqlSafe;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool};

/// Far more than anything takes here.
const HANG: Duration = Duration::from_secs(30);

pub struct Stand {
    pub path: PathBuf,
    pub side: SqlitePool,
    pub host: Arc<dyn Host>,
    pub folder: tempfile::TempDir,
}

/// One change: the key, and the record's other values as text, or `None` where it is gone.
pub type Told = (String, Option<String>);

pub fn reader(name: &str) -> PipelineId {
    PipelineId::new(name)
}

pub fn told(key: &str, record: &str) -> Told {
    (key.to_owned(), Some(record.to_owned()))
}

pub fn gone(key: &str) -> Told {
    (key.to_owned(), None)
}

impl Stand {
    /// A file with these tables.
    pub async fn new(sql: &str) -> Self {
        Self::journaled(sql, SqliteJournalMode::Wal).await
    }

    /// The same with another journal.
    pub async fn journaled(sql: &str, journal: SqliteJournalMode) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true).foreign_keys(false);
        let side = SqlitePool::connect_with(options.journal_mode(journal)).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&side).await.unwrap();
        let host = host(&path, 4, true).await.unwrap();
        Self { path, side, host, folder }
    }

    /// Several statements on one connection.
    pub async fn run(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.side).await.unwrap();
    }

    pub async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.side).await.unwrap()
    }

    /// All columns of a table.
    pub async fn selection(&self, table: &str, key: &[&str]) -> Selection {
        let namespace = Namespace(vec![table.to_owned()]);
        Selection {
            columns: self.host.describe(&namespace).await.unwrap().unwrap().columns,
            namespace,
            key: key.iter().map(ToString::to_string).collect(),
            includes: Vec::new(),
            seed: 7,
            page_records_max: 100,
        }
    }

    /// All columns of a related table, as an array.
    pub async fn include(&self, table: &str, on: &[(&str, &str)], includes: Vec<Include>) -> Include {
        let namespace = Namespace(vec![table.to_owned()]);
        Include {
            name: table.to_owned(),
            columns: self.host.describe(&namespace).await.unwrap().unwrap().columns,
            namespace,
            on: on.iter().map(|(own, theirs)| ((*own).to_owned(), (*theirs).to_owned())).collect(),
            arity: Arity::Many,
            order_by: Vec::new(),
            includes,
        }
    }

    pub async fn install(&self, selection: &Selection) -> Vec<String> {
        install_outbox(&self.path, std::slice::from_ref(selection)).await.unwrap()
    }

    /// Opens the log as a process does that has just begun.
    pub async fn open(&self, selection: &Selection, name: &str, after: Option<u64>) -> Result<Opened, Fault> {
        self.host.lineage().await.unwrap();
        self.host.log(selection, &reader(name), after).await
    }

    /// Installs, and opens the log for the first time.
    pub async fn follow(&self, selection: &Selection) -> Box<dyn Log> {
        self.install(selection).await;
        self.open(selection, "a", None).await.unwrap().log
    }

    /// The position of a snapshot that is opened now.
    pub async fn position(&self, selection: &Selection) -> u64 {
        self.host.lineage().await.unwrap();
        let snapshot = self.host.snapshot(selection, Version::scan(3, 5)).await.unwrap();
        assert_eq!((snapshot.version().epoch, snapshot.version().sequence), (3, 0));
        snapshot.version().position
    }
}

/// The next page; panics where nothing comes.
pub async fn next(log: &mut dyn Log) -> Result<LogPage, Fault> {
    tokio::time::timeout(HANG, log.next()).await.expect("the log tells something")
}

/// What a page tells, in its order.
pub fn changes(page: &LogPage) -> Vec<Told> {
    let change = |what: &What| match what {
        What::Gone(key) => gone(&key.to_string()),
        What::Row { key, at } => {
            let mut values = Vec::new();
            page.decoder.decode(page.rows.get(*at), &mut values).unwrap();
            let text = |value: &Value<'_>| match value {
                Value::Json(text) => text.to_string(),
                value => fides_format::to_json(value),
            };
            told(&key.to_string(), &values.iter().map(text).collect::<Vec<_>>().join(" "))
        }
        What::Emptied => panic!("nothing tells this"),
    };
    page.changes.iter().map(|logged| change(&logged.what)).collect()
}

/// The last that was told of every key, until the log has told everything that is committed.
pub async fn all(stand: &Stand, log: &mut dyn Log) -> BTreeMap<String, Option<String>> {
    stand.run("INSERT INTO _fides_outbox (watched) VALUES (NULL)").await;
    let end = stand.number("SELECT max(sequence) FROM _fides_outbox").await;
    let mut all = BTreeMap::new();
    loop {
        let page = next(log).await.unwrap();
        all.extend(changes(&page));
        if page.place >> 16 == end.cast_unsigned() {
            return all;
        }
    }
}

pub fn map(told: &[Told]) -> BTreeMap<String, Option<String>> {
    told.iter().cloned().collect()
}
