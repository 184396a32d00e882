//! Dead letters, one per pipeline and key.

use async_trait::async_trait;
use fides_core::port::{DeadLetter, DeadLetters};
use fides_core::{Fault, Key, PipelineId};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::file::File;

fn read(row: &SqliteRow) -> Result<DeadLetter, Fault> {
    let key = Key::from_bytes(row.get::<Vec<u8>, _>(0));
    let letter: DeadLetter = serde_json::from_str(row.get::<&str, _>(1)).map_err(|error| {
        Fault::unavailable(format!("the dead letter of {key} cannot be read by this release")).because(error)
    })?;
    Ok(DeadLetter { key, ..letter })
}

#[async_trait]
impl DeadLetters for File {
    async fn put(&self, pipeline: &PipelineId, letters: &[DeadLetter]) -> Result<(), Fault> {
        let mut transaction = self.begin().await?;
        for letter in letters {
            let before = sqlx::query("SELECT key, letter FROM dead WHERE pipeline = ? AND key = ?")
                .bind(pipeline.as_str())
                .bind(letter.key.as_bytes())
                .fetch_optional(&mut *transaction)
                .await
                .map_err(self.fault())?;
            let mut letter = letter.clone();
            if let Some(before) = before.as_ref().map(read).transpose()? {
                letter.first_ms = before.first_ms;
                letter.attempts = letter.attempts.saturating_add(before.attempts);
            }
            let text = serde_json::to_string(&letter).map_err(|error| {
                Fault::permanent(format!("the dead letter of {} cannot be written", letter.key)).because(error)
            })?;
            sqlx::query("INSERT INTO dead (pipeline, key, letter) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET letter = excluded.letter")
                .bind(pipeline.as_str())
                .bind(letter.key.as_bytes())
                .bind(text)
                .execute(&mut *transaction)
                .await
                .map_err(self.fault())?;
        }
        transaction.commit().await
    }

    async fn get(&self, pipeline: &PipelineId, key: &Key) -> Result<Option<DeadLetter>, Fault> {
        let row = sqlx::query("SELECT key, letter FROM dead WHERE pipeline = ? AND key = ?")
            .bind(pipeline.as_str())
            .bind(key.as_bytes())
            .fetch_optional(self.readers())
            .await
            .map_err(self.fault())?;
        row.as_ref().map(read).transpose()
    }

    async fn list(&self, pipeline: &PipelineId, after: Option<&Key>, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        let rows = sqlx::query("SELECT key, letter FROM dead WHERE pipeline = ? AND key > ? ORDER BY key LIMIT ?")
            .bind(pipeline.as_str())
            .bind(after.map_or(&[][..], Key::as_bytes))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(self.readers())
            .await
            .map_err(self.fault())?;
        rows.iter().map(read).collect()
    }

    async fn count(&self, pipeline: &PipelineId) -> Result<u64, Fault> {
        let row = sqlx::query("SELECT COUNT(*) FROM dead WHERE pipeline = ?")
            .bind(pipeline.as_str())
            .fetch_one(self.readers())
            .await
            .map_err(self.fault())?;
        Ok(row.get::<i64, _>(0).cast_unsigned())
    }

    async fn remove(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<(), Fault> {
        let mut transaction = self.begin().await?;
        for key in keys {
            sqlx::query("DELETE FROM dead WHERE pipeline = ? AND key = ?")
                .bind(pipeline.as_str())
                .bind(key.as_bytes())
                .execute(&mut *transaction)
                .await
                .map_err(self.fault())?;
        }
        transaction.commit().await
    }
}
