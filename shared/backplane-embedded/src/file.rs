//! The file: its settings, its tables, its connections.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fides_core::Fault;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection, Row};

use crate::fault::fault;
use crate::transaction::{Transaction, Writer};

/// Format number of the file. A file of another format is refused.
const FORMAT: i64 = 1;
/// Connections for reading: as many as lanes and ranges usually need at a time.
const READERS: u32 = 4;
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The table by which a state file is known, in every format.
const META: &str = "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID";
/// Buckets are large: their table has row ids, so that looking for a bound does not read them.
const TABLES: &str = "
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT, pipeline TEXT NOT NULL, lane INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX message_by_lane ON message (pipeline, lane, id);
CREATE TABLE bucket (
    id INTEGER PRIMARY KEY, pipeline TEXT NOT NULL, lower BLOB NOT NULL, present INTEGER NOT NULL,
    writes INTEGER NOT NULL, summary BLOB, marks BLOB NOT NULL);
CREATE UNIQUE INDEX bucket_by_lower ON bucket (pipeline, lower);
CREATE TABLE state (key TEXT PRIMARY KEY, revision INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE dead (
    pipeline TEXT NOT NULL, key BLOB NOT NULL, letter TEXT NOT NULL, PRIMARY KEY (pipeline, key)) WITHOUT ROWID;
";

/// Commands, made also where a file of an earlier release has none. Numbers are never used twice.
pub(crate) const COMMAND_TABLE: &str = "CREATE TABLE IF NOT EXISTS command (
    id INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL, asked_ms INTEGER NOT NULL, answer BLOB)";

/// An open state file.
pub(crate) struct File {
    path: PathBuf,
    /// Absent when the file is only looked at.
    writer: Option<Writer>,
    readers: SqlitePool,
    /// Held as long as this process owns the file.
    _lock: Option<std::fs::File>,
}

impl File {
    /// Opens or creates the file, and owns it by a lock that was taken before.
    pub(crate) async fn own(path: &Path, lock: std::fs::File) -> Result<Self, Fault> {
        let known = is_state_file(path).await?;
        let options = for_writing(path)
            .create_if_missing(!known)
            .journal_mode(SqliteJournalMode::Wal)
            // Pages of 4 KiB: a checkpoint every 32 MiB instead of every 4.
            .pragma("wal_autocheckpoint", "8192")
            .pragma("journal_size_limit", "67108864");
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(|error| fault(path, error))?;
        if !known {
            set_up(&mut connection, path).await?;
        }
        sqlx::query(COMMAND_TABLE).execute(&mut connection).await.map_err(|error| fault(path, error))?;
        let readers = readers(path, for_reading(path), READERS).await?;
        let writer = Writer::new(options.create_if_missing(false), connection);
        Ok(Self { path: path.to_owned(), writer: Some(writer), readers, _lock: Some(lock) })
    }

    /// Opens the file for reading, beside its owner if it has one. Where there is none yet, everything is empty.
    pub(crate) async fn look(path: &Path) -> Result<Self, Fault> {
        let readers = if is_state_file(path).await? {
            readers(path, for_reading(path), READERS).await?
        } else {
            let memory = readers(path, SqliteConnectOptions::new().in_memory(true), 1).await?;
            let mut connection = memory.acquire().await.map_err(|error| fault(path, error))?;
            set_up(&mut connection, path).await?;
            drop(connection);
            memory
        };
        Ok(Self { path: path.to_owned(), writer: None, readers, _lock: None })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this process owns it.
    pub(crate) fn is_owned(&self) -> bool {
        self.writer.is_some()
    }

    /// A connection that writes beside the owner: for a command, and for nothing else.
    pub(crate) async fn write_beside(&self) -> Result<SqliteConnection, Fault> {
        SqliteConnection::connect_with(&for_writing(&self.path)).await.map_err(self.fault())
    }

    /// Begins a transaction that writes, once the one before has ended.
    pub(crate) async fn begin(&self) -> Result<Transaction<'_>, Fault> {
        self.writer()?.begin(self).await
    }

    /// Refuses what would write when the file is only looked at.
    pub(crate) fn writer(&self) -> Result<&Writer, Fault> {
        self.writer
            .as_ref()
            .ok_or_else(|| Fault::permanent(format!("state file {} was opened for reading only", self.path.display())))
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

/// Every commit is durable (L11).
fn for_writing(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).synchronous(SqliteSynchronous::Full).busy_timeout(BUSY_TIMEOUT)
}

fn for_reading(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_TIMEOUT)
}

async fn readers(path: &Path, options: SqliteConnectOptions, connections: u32) -> Result<SqlitePool, Fault> {
    let pool =
        SqlitePoolOptions::new().max_connections(connections).min_connections(1).idle_timeout(None).max_lifetime(None);
    pool.connect_with(options).await.map_err(|error| fault(path, error))
}

/// Whether there is a state file that this release reads; `false` when nothing is there yet. Somebody else's database
/// and a foreign format are refused before anything in them is changed.
async fn is_state_file(path: &Path) -> Result<bool, Fault> {
    if !path.exists() {
        return Ok(false);
    }
    let file = path.display();
    let fault = |error| fault(path, error);
    let mut connection = SqliteConnection::connect_with(&for_reading(path)).await.map_err(fault)?;
    let row = sqlx::query("SELECT COUNT(*), COALESCE(SUM(sql = ?), 0) FROM sqlite_schema")
        .bind(META)
        .fetch_one(&mut connection)
        .await
        .map_err(fault)?;
    match (row.get::<i64, _>(0), row.get::<i64, _>(1)) {
        (0, _) => return Ok(false),
        (_, 0) => {
            return Err(Fault::permanent(format!("{file} is a SQLite database, but not a state file"))
                .advise("name another path in backplane.embedded.path"));
        }
        _ => {}
    }
    let format: i64 = sqlx::query("SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'format'")
        .fetch_one(&mut connection)
        .await
        .map_err(fault)?
        .get(0);
    if format == FORMAT {
        return Ok(true);
    }
    Err(Fault::permanent(format!("state file {file} has format {format}; this release reads {FORMAT}"))
        .advise("use the release that wrote it, or a newer one"))
}

/// Makes the tables, all or none.
async fn set_up(connection: &mut SqliteConnection, path: &Path) -> Result<(), Fault> {
    let fault = |error| fault(path, error);
    let mut transaction = connection.begin().await.map_err(fault)?;
    sqlx::raw_sql(META).execute(&mut *transaction).await.map_err(fault)?;
    sqlx::raw_sql(TABLES).execute(&mut *transaction).await.map_err(fault)?;
    sqlx::query("INSERT INTO meta (name, value) VALUES ('format', ?)")
        .bind(FORMAT)
        .execute(&mut *transaction)
        .await
        .map_err(fault)?;
    transaction.commit().await.map_err(fault)
}
