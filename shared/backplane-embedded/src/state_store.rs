//! Small durable state. Leases live in memory: their holders are tasks of this process, because the file has one owner;
//! only their tokens are durable.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use fides_core::port::{Entry, Expect, Lease, StateStore};
use fides_core::{Fault, PipelineId};
use sqlx::Row;
use tokio::sync::Mutex;

use crate::file::File;

pub(crate) struct States {
    file: Arc<File>,
    leases: Mutex<HashMap<String, Held>>,
    now_ms: AtomicU64,
}

struct Held {
    holder: String,
    until_ms: u64,
    token: u64,
}

impl States {
    pub(crate) fn new(file: Arc<File>) -> Self {
        Self { file, leases: Mutex::default(), now_ms: AtomicU64::new(0) }
    }

    async fn draw(&self, counter: &str) -> Result<u64, Fault> {
        let mut transaction = self.file.begin().await?;
        let drawn = self.file.count(&mut transaction, counter).await?;
        transaction.commit().await?;
        Ok(drawn)
    }

    /// The wall clock, which within this process never goes backward.
    fn clock_ms(&self) -> u64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let wall = u64::try_from(wall).unwrap_or(u64::MAX);
        self.now_ms.fetch_max(wall, Ordering::AcqRel).max(wall)
    }
}

#[async_trait]
impl StateStore for States {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Fault> {
        let row = sqlx::query("SELECT revision, value FROM state WHERE key = ?")
            .bind(key)
            .fetch_optional(self.file.readers())
            .await
            .map_err(self.file.fault())?;
        Ok(row.map(|row| Entry { revision: row.get::<i64, _>(0).cast_unsigned(), value: row.get(1) }))
    }

    async fn put(&self, key: &str, value: &[u8], expect: Expect) -> Result<Option<u64>, Fault> {
        let mut transaction = self.file.begin().await?;
        let stored = sqlx::query("SELECT revision FROM state WHERE key = ?")
            .bind(key)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(self.file.fault())?
            .map(|row| row.get::<i64, _>(0).cast_unsigned());
        let holds = match expect {
            Expect::Absent => stored.is_none(),
            Expect::Revision(revision) => stored == Some(revision),
            Expect::Any => true,
        };
        if !holds {
            transaction.roll_back().await?;
            return Ok(None);
        }
        let revision = self.file.count(&mut transaction, "revision").await?;
        sqlx::query(
            "INSERT INTO state (key, revision, value) VALUES (?, ?, ?) \
             ON CONFLICT (key) DO UPDATE SET revision = excluded.revision, value = excluded.value",
        )
        .bind(key)
        .bind(revision.cast_signed())
        .bind(value)
        .execute(&mut *transaction)
        .await
        .map_err(self.file.fault())?;
        transaction.commit().await?;
        Ok(Some(revision))
    }

    async fn remove(&self, key: &str) -> Result<(), Fault> {
        let mut transaction = self.file.begin().await?;
        sqlx::query("DELETE FROM state WHERE key = ?")
            .bind(key)
            .execute(&mut *transaction)
            .await
            .map_err(self.file.fault())?;
        transaction.commit().await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Entry)>, Fault> {
        // The first key that may be listed, and a bound that is no text but sorts after all that begin with the prefix.
        let from = after.filter(|after| *after >= prefix).map_or(prefix.to_owned(), |after| format!("{after}\0"));
        let to = [prefix.as_bytes(), &[0xff]].concat();
        let rows = sqlx::query(
            "SELECT key, revision, value FROM state WHERE key >= ? AND key < CAST(? AS TEXT) ORDER BY key LIMIT ?",
        )
        .bind(from)
        .bind(to)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(self.file.readers())
        .await
        .map_err(self.file.fault())?;
        let entry = |row: sqlx::sqlite::SqliteRow| {
            (row.get(0), Entry { revision: row.get::<i64, _>(1).cast_unsigned(), value: row.get(2) })
        };
        Ok(rows.into_iter().map(entry).collect())
    }

    async fn lease(&self, key: &str, holder: &str, ttl_ms: u64) -> Result<Option<Lease>, Fault> {
        let mut leases = self.leases.lock().await;
        let now_ms = self.clock_ms();
        let until_ms = now_ms.saturating_add(ttl_ms);
        if let Some(held) = leases.get_mut(key).filter(|held| held.until_ms > now_ms) {
            if held.holder != holder {
                return Ok(None);
            }
            held.until_ms = until_ms;
            return Ok(Some(Lease { token: held.token }));
        }
        // L6: an expired lease may have had another holder in between, so that its token is not used again.
        let token = self.draw("lease").await?;
        leases.insert(key.to_owned(), Held { holder: holder.to_owned(), until_ms, token });
        Ok(Some(Lease { token }))
    }

    async fn release(&self, key: &str, holder: &str) -> Result<(), Fault> {
        let mut leases = self.leases.lock().await;
        if leases.get(key).is_some_and(|held| held.holder == holder) {
            leases.remove(key);
        }
        Ok(())
    }

    async fn next_position(&self, pipeline: &PipelineId) -> Result<u64, Fault> {
        self.draw(&format!("position/{pipeline}")).await
    }

    async fn now_ms(&self) -> Result<u64, Fault> {
        Ok(self.clock_ms())
    }
}
