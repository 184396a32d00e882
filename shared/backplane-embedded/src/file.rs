//! The file: its lock, its settings, its tables, its connections.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fides_core::Fault;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection, Row};

use crate::fault::fault;

/// Format number of the file. A file of another format is refused.
const FORMAT: i64 = 1;
/// Connections for reading: as many as lanes and ranges usually need at a time.
const READERS: u32 = 4;
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the writer: its transactions are short.
const WRITER_TIMEOUT: Duration = Duration::from_secs(30);

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY AUTOINCREMENT, pipeline TEXT NOT NULL, lane INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS message_by_lane ON message (pipeline, lane, id);
CREATE TABLE IF NOT EXISTS bucket (
    id INTEGER PRIMARY KEY, pipeline TEXT NOT NULL, lower BLOB NOT NULL, present INTEGER NOT NULL,
    writes INTEGER NOT NULL, summary BLOB, marks BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS bucket_by_lower ON bucket (pipeline, lower);
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, revision INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead (
    pipeline TEXT NOT NULL, key BLOB NOT NULL, letter TEXT NOT NULL, PRIMARY KEY (pipeline, key)) WITHOUT ROWID;
";

/// An open state file.
pub(crate) struct File {
    path: PathBuf,
    /// The one connection that writes; absent when the file is only looked at.
    writer: Option<SqlitePool>,
    readers: SqlitePool,
    /// Held as long as this process owns the file; the kernel frees it, also after a kill.
    _lock: Option<std::fs::File>,
}

impl File {
    pub(crate) async fn own(path: &Path) -> Result<Self, Fault> {
        let lock = lock(path)?;
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(WRITER_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .after_release(|connection, _| Box::pin(is_reusable(connection)))
            .connect_with(settings(path).create_if_missing(true))
            .await
            .map_err(|error| fault(path, error))?;
        let mut connection = writer.acquire().await.map_err(|error| fault(path, error))?;
        set_up(&mut connection, path).await?;
        drop(connection);
        let readers = readers(path, settings(path).read_only(true), READERS).await?;
        Ok(Self { path: path.to_owned(), writer: Some(writer), readers, _lock: Some(lock) })
    }

    pub(crate) async fn look(path: &Path) -> Result<Self, Fault> {
        let (options, connections) = if path.exists() {
            (settings(path).read_only(true), READERS)
        } else {
            (SqliteConnectOptions::new().in_memory(true), 1)
        };
        let readers = readers(path, options, connections).await?;
        let file = Self { path: path.to_owned(), writer: None, readers, _lock: None };
        if !path.exists() {
            let mut connection = file.readers.acquire().await.map_err(|error| fault(path, error))?;
            set_up(&mut connection, path).await?;
        }
        Ok(file)
    }

    /// The connection that writes; its users take turns.
    pub(crate) async fn writer(&self) -> Result<PoolConnection<Sqlite>, Fault> {
        match &self.writer {
            Some(writer) => writer.acquire().await.map_err(self.fault()),
            None => Err(Fault::permanent(format!("state file {} was opened for reading only", self.path.display()))),
        }
    }

    /// The connections that read.
    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// Maps an error of this file.
    pub(crate) fn fault(&self) -> impl Fn(sqlx::Error) -> Fault {
        |error| fault(&self.path, error)
    }

    /// Adds one to a counter inside a transaction of the caller; the new value, never seen before.
    pub(crate) async fn count(&self, connection: &mut SqliteConnection, name: &str) -> Result<u64, Fault> {
        let row = sqlx::query(
            "INSERT INTO counter (name, value) VALUES (?, 1) \
             ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
        )
        .bind(name)
        .fetch_one(connection)
        .await
        .map_err(self.fault())?;
        Ok(row.get::<i64, _>(0).cast_unsigned())
    }
}

/// Whether no transaction is left behind. Where SQLite ended one by itself (a full disk), the driver still counts it and
/// would refuse to begin another: such a connection is replaced.
async fn is_reusable(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // Behind this, the rollback of a dropped transaction has run.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

fn settings(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        // Pages of 4 KiB: a checkpoint every 32 MiB instead of every 4.
        .pragma("wal_autocheckpoint", "8192")
        .pragma("journal_size_limit", "67108864")
}

async fn readers(path: &Path, options: SqliteConnectOptions, connections: u32) -> Result<SqlitePool, Fault> {
    let pool =
        SqlitePoolOptions::new().max_connections(connections).min_connections(1).idle_timeout(None).max_lifetime(None);
    pool.connect_with(options).await.map_err(|error| fault(path, error))
}

async fn set_up(connection: &mut SqliteConnection, path: &Path) -> Result<(), Fault> {
    let fault = |error| fault(path, error);
    sqlx::raw_sql(TABLES).execute(&mut *connection).await.map_err(fault)?;
    let format = sqlx::query(
        "INSERT INTO meta (name, value) VALUES ('format', ?) ON CONFLICT DO UPDATE SET name = name RETURNING value",
    )
    .bind(FORMAT)
    .fetch_one(connection)
    .await
    .map_err(fault)?
    .get::<i64, _>(0);
    if format != FORMAT {
        return Err(Fault::permanent(format!(
            "state file {} has format {format}; this release reads {FORMAT}",
            path.display()
        ))
        .advise("use the release that wrote it, or a newer one"));
    }
    Ok(())
}

/// Takes the lock beside the file.
fn lock(path: &Path) -> Result<std::fs::File, Fault> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let cannot = |error: std::io::Error| {
        Fault::unavailable(format!("state file {} cannot be opened", path.display()))
            .because(error)
            .advise("the folder must exist and be writable for this user")
    };
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::Error(error)) => return Err(cannot(error)),
        Err(std::fs::TryLockError::WouldBlock) => {
            let holder = std::fs::read_to_string(&lock_path).unwrap_or_default();
            let holder = match holder.trim() {
                "" => String::from("another process"),
                pid => format!("process {pid}"),
            };
            return Err(Fault::unavailable(format!("state file {} is in use by {holder}", path.display()))
                .advise("one process at a time may own it: stop the other one, or name another path"));
        }
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(cannot)?;
    Ok(file)
}
