//! Opening the file: how, with which settings, and what is said when it cannot be.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fides_core::{Fault, FaultKind};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Sqlite, Transaction};

/// How long a call waits for another process's lock, below every client timeout (L6).
const BUSY_MS: u64 = 5_000;

/// How long a call waits for a connection of our own pool.
const ACQUIRE_MS: u64 = 30_000;

/// Rows that may wait between SQLite's thread and ours.
const ROW_CHANNEL: usize = 512;

/// One file and the connections to it.
#[derive(Debug)]
pub(crate) struct Database {
    path: PathBuf,
    pool: SqlitePool,
}

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Reads only; SQLite itself refuses every write.
    Read,
    /// Writes durably: write-ahead log, fsync at every commit. Never creates the file.
    Write,
    /// Like `Write`, and makes the file when there is none.
    Create,
    /// Like `Write`, and leaves the journal as it is.
    Look,
}

impl Database {
    /// Names the file; connections are opened when they are needed. Never blocks.
    pub(crate) fn new(path: &Path, mode: Mode, connections: u32) -> Self {
        let pool = SqlitePoolOptions::new()
            .max_connections(connections.max(1))
            .acquire_timeout(Duration::from_millis(ACQUIRE_MS))
            .test_before_acquire(false)
            .after_release(|connection, _| Box::pin(is_reusable(connection)))
            .connect_lazy_with(options(path, mode));
        Self { path: path.to_owned(), pool }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A fault that was met while `doing` something with the file.
    pub(crate) fn fault(&self, doing: &str, error: sqlx::Error) -> Fault {
        crate::fault::of(&self.path, doing, error)
    }

    /// A connection of the pool; waits for one at most 30 s.
    pub(crate) async fn acquire(&self) -> Result<PoolConnection<Sqlite>, Fault> {
        self.require_file()?;
        self.pool.acquire().await.map_err(|error| self.fault("could not be opened", error))
    }

    /// A read transaction. Its state is fixed by its first read, which is made here. Dropping it ends it.
    pub(crate) async fn begin_read(&self) -> Result<Transaction<'static, Sqlite>, Fault> {
        self.require_file()?;
        let fault = |error| self.fault("could not be opened for reading", error);
        let mut transaction = self.pool.begin().await.map_err(fault)?;
        sqlx::query("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *transaction).await.map_err(fault)?;
        Ok(transaction)
    }

    /// A transaction that holds the file's write lock from its start. Dropping it rolls it back.
    pub(crate) async fn begin_write(&self) -> Result<Transaction<'static, Sqlite>, Fault> {
        self.require_file()?;
        let begun = self.pool.begin_with("BEGIN IMMEDIATE").await;
        begun.map_err(|error| self.fault("could not be opened for writing", error))
    }

    /// Refuses a path without a file, in words that say more than SQLite's "unable to open".
    pub(crate) fn require_file(&self) -> Result<(), Fault> {
        match std::fs::metadata(&self.path) {
            Ok(found) if found.is_file() => Ok(()),
            Ok(_) => Err(self.misplaced("is not a file")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(self.misplaced("does not exist")),
            Err(error) => Err(self.misplaced("cannot be looked at").because(error)),
        }
    }

    fn misplaced(&self, what: &str) -> Fault {
        Fault::new(FaultKind::Unavailable, format!("SQLite file {} {what}", self.path.display()))
            .advise("correct `path`; a relative path starts at the working directory")
    }
}

/// Makes the file, empty, when there is none.
pub(crate) async fn create(path: &Path) -> Result<(), Fault> {
    let fault = |error| crate::fault::of(path, "could not be created", error);
    let connection = options(path, Mode::Create).connect().await.map_err(fault)?;
    connection.close().await.map_err(fault)
}

/// Takes the file's write lock and gives it back: Unavailable where SQLite may not write the file. What the file holds stays
/// as it is; as any last connection does, this one takes a write-ahead log over that a killed process left.
///
/// SQLite is asked, and not the file system: to open and close the file beside SQLite would end the locks that it holds.
pub(crate) async fn write_lock(path: &Path) -> Result<(), Fault> {
    let fault = |error| crate::fault::of(path, "could not be opened for writing", error);
    let mut connection = options(path, Mode::Look).connect().await.map_err(fault)?;
    let begun = sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.map_err(fault);
    connection.close().await.map_err(fault)?;
    match begun {
        // Another process writes it just now, so it can be written.
        Err(fault) if fault.kind == FaultKind::Transient => Ok(()),
        begun => begun.map(drop),
    }
}

/// Whether no transaction is left behind. Where SQLite ended one by itself (disk full, a trigger's RAISE(ROLLBACK)), the
/// driver still counts it and would refuse to begin another: such a connection must go.
async fn is_reusable(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // Behind this, the rollback of a dropped transaction has run.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

fn options(path: &Path, mode: Mode) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(mode == Mode::Create)
        .busy_timeout(Duration::from_millis(BUSY_MS))
        .row_buffer_size(ROW_CHANNEL)
        .disable_statement_logging();
    match mode {
        Mode::Read => options.read_only(true).pragma("query_only", "ON"),
        Mode::Look => options,
        Mode::Write | Mode::Create => options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full),
    }
}
