//! Commands, in a table of the same file. The owner of the file is the desk; whoever may write the file may ask, also from
//! another process: only this table is ever written beside the owner.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use fides_core::Fault;
use fides_core::port::{AdminQueue, Desk, Request};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use crate::file::{COMMAND_TABLE, File};

/// How often each side looks for what another process wrote. Within one process nobody waits so long.
const LOOK: Duration = Duration::from_millis(100);
/// Commands that wait before askers are refused, and answers that are kept for those who have not fetched them (L10).
const COMMANDS_MAX: i64 = 1_000;
/// How long an answer is kept at most.
const ANSWERS_MS_MAX: u64 = 3_600_000;

pub(crate) struct Commands {
    file: Arc<File>,
    /// One desk (between processes the lock of the file sees to it).
    desk: Arc<Semaphore>,
    changed: Arc<Notify>,
}

impl Commands {
    pub(crate) fn new(file: Arc<File>) -> Self {
        Self { file, desk: Arc::new(Semaphore::new(1)), changed: Arc::default() }
    }

    /// Puts a command into the table; its number.
    async fn put(&self, body: &[u8]) -> Result<i64, Fault> {
        let id = if self.file.is_owned() {
            let mut transaction = self.file.begin().await?;
            let id = insert(&self.file, &mut transaction, body).await?;
            transaction.commit().await?;
            id
        } else {
            self.beside(async |connection| insert(&self.file, connection, body).await).await?
        };
        self.changed.notify_waiters();
        id.ok_or_else(|| {
            Fault::unavailable(format!("{COMMANDS_MAX} commands wait in state file {}", self.file.path().display()))
                .advise("nobody takes them: start `fides sync`")
        })
    }

    /// Forgets a command whose answer was fetched.
    async fn forget(&self, id: i64) -> Result<(), Fault> {
        let forget = async |connection: &mut SqliteConnection| {
            let query = sqlx::query("DELETE FROM command WHERE id = ?").bind(id);
            query.execute(connection).await.map(drop).map_err(self.file.fault())
        };
        if !self.file.is_owned() {
            return self.beside(forget).await;
        }
        let mut transaction = self.file.begin().await?;
        forget(&mut transaction).await?;
        transaction.commit().await
    }

    /// One short transaction beside the owner of the file.
    async fn beside<T>(&self, work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut connection = self.file.write_beside().await?;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.map_err(self.file.fault())?;
        sqlx::query(COMMAND_TABLE).execute(&mut connection).await.map_err(self.file.fault())?;
        // Dropped unfinished, the connection undoes it.
        let done = work(&mut connection).await?;
        sqlx::query("COMMIT").execute(&mut connection).await.map_err(self.file.fault())?;
        Ok(done)
    }

    async fn answer_to(&self, id: i64) -> Result<Option<Bytes>, Fault> {
        let row = sqlx::query("SELECT answer FROM command WHERE id = ?")
            .bind(id)
            .fetch_optional(self.file.readers())
            .await
            .map_err(self.file.fault())?;
        Ok(row.and_then(|row| row.get::<Option<Vec<u8>>, _>(0)).map(Bytes::from))
    }
}

/// `None` when too many wait already.
async fn insert(file: &File, connection: &mut SqliteConnection, body: &[u8]) -> Result<Option<i64>, Fault> {
    let row = sqlx::query(
        "INSERT INTO command (body, asked_ms) SELECT ?, ? \
         WHERE (SELECT COUNT(*) FROM command WHERE answer IS NULL) < ? RETURNING id",
    )
    .bind(body)
    .bind(now_ms().cast_signed())
    .bind(COMMANDS_MAX)
    .fetch_optional(connection)
    .await
    .map_err(file.fault())?;
    Ok(row.map(|row| row.get(0)))
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    u64::try_from(now).unwrap_or(u64::MAX)
}

#[async_trait]
impl AdminQueue for Commands {
    async fn ask(&self, command: &[u8], timeout_ms: u64) -> Result<Option<Bytes>, Fault> {
        let id = self.put(command).await?;
        let until = Instant::now() + Duration::from_millis(timeout_ms);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(answer) = self.answer_to(id).await? {
                self.forget(id).await?;
                return Ok(Some(answer));
            }
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return Ok(None);
            };
            tokio::select! {
                () = changed => {}
                () = sleep(LOOK.min(left)) => {}
            }
        }
    }

    async fn serve(&self) -> Result<Box<dyn Desk>, Fault> {
        self.file.writer()?;
        let seat = self.desk.clone().acquire_owned().await;
        let seat = seat.map_err(|_| Fault::transient("the desk was closed"))?;
        Ok(Box::new(FileDesk { file: self.file.clone(), changed: self.changed.clone(), after: 0, _seat: seat }))
    }
}

/// The desk. What it has not answered is still in the file when it is dropped.
struct FileDesk {
    file: Arc<File>,
    changed: Arc<Notify>,
    /// Number of the last command handed out.
    after: i64,
    _seat: OwnedSemaphorePermit,
}

#[async_trait]
impl Desk for FileDesk {
    async fn next(&mut self) -> Result<Request, Fault> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let row = sqlx::query("SELECT id, body FROM command WHERE id > ? AND answer IS NULL ORDER BY id LIMIT 1")
                .bind(self.after)
                .fetch_optional(self.file.readers())
                .await
                .map_err(self.file.fault())?;
            if let Some(row) = row {
                self.after = row.get(0);
                let body = Bytes::from(row.get::<Vec<u8>, _>(1));
                return Ok(Request { tag: self.after.cast_unsigned(), body, wants_reply: true });
            }
            tokio::select! {
                () = changed => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    async fn answer(&mut self, tag: u64, body: &[u8]) -> Result<(), Fault> {
        let mut transaction = self.file.begin().await?;
        sqlx::query("UPDATE command SET answer = ? WHERE id = ? AND answer IS NULL")
            .bind(body)
            .bind(tag.cast_signed())
            .execute(&mut *transaction)
            .await
            .map_err(self.file.fault())?;
        sqlx::query(
            "DELETE FROM command WHERE answer IS NOT NULL AND (asked_ms < ? OR id <= (SELECT MAX(id) FROM command) - ?)",
        )
        .bind(now_ms().saturating_sub(ANSWERS_MS_MAX).cast_signed())
        .bind(COMMANDS_MAX)
        .execute(&mut *transaction)
        .await
        .map_err(self.file.fault())?;
        transaction.commit().await?;
        self.changed.notify_waiters();
        Ok(())
    }
}
