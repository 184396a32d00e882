//! The one way to write: short transactions of one connection, one after another.

use std::ops::{Deref, DerefMut};

use fides_core::Fault;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::sync::{Mutex, MutexGuard};

use crate::file::File;

/// The connection that writes. It is missing while a transaction has it, and after one that was not finished: an error
/// (a full disk) may have ended a transaction inside SQLite or not, and a caller may have gone away in the middle of a
/// statement. Such a connection is closed, which undoes what it began, and the next transaction opens another one.
pub(crate) struct Writer {
    options: SqliteConnectOptions,
    connection: Mutex<Option<SqliteConnection>>,
}

impl Writer {
    pub(crate) fn new(options: SqliteConnectOptions, connection: SqliteConnection) -> Self {
        Self { options, connection: Mutex::new(Some(connection)) }
    }

    /// Begins a transaction once the one before has ended.
    pub(crate) async fn begin<'a>(&'a self, file: &'a File) -> Result<Transaction<'a>, Fault> {
        let mut home = self.connection.lock().await;
        let mut connection = match home.take() {
            Some(connection) => connection,
            None => SqliteConnection::connect_with(&self.options).await.map_err(file.fault())?,
        };
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.map_err(file.fault())?;
        Ok(Transaction { connection, home, file })
    }
}

/// A transaction that writes. Dropped unfinished, it is undone.
pub(crate) struct Transaction<'a> {
    connection: SqliteConnection,
    /// Where the connection goes when the transaction was finished in good order.
    home: MutexGuard<'a, Option<SqliteConnection>>,
    file: &'a File,
}

impl Transaction<'_> {
    /// Makes it durable: `synchronous=FULL` (L11).
    pub(crate) async fn commit(self) -> Result<(), Fault> {
        self.finish("COMMIT").await
    }

    /// Undoes it.
    pub(crate) async fn roll_back(self) -> Result<(), Fault> {
        self.finish("ROLLBACK").await
    }

    async fn finish(mut self, how: &'static str) -> Result<(), Fault> {
        sqlx::query(how).execute(&mut self.connection).await.map_err(self.file.fault())?;
        *self.home = Some(self.connection);
        Ok(())
    }
}

impl Deref for Transaction<'_> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}
