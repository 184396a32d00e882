//! The marks, in buckets of neighbouring keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::{BucketInfo, HashStore, Relabel};
use fides_core::{Fault, Key, KeyRange, Mark, PipelineId, bucket};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::file::File;

/// Sorts after every encoded key: no key column begins with this byte.
const AFTER_ALL: &[u8] = &[0xff; 8];

pub(crate) struct Buckets {
    file: Arc<File>,
    marks_max: usize,
}

/// A bucket as it is stored.
struct Bucket {
    id: i64,
    lower: Vec<u8>,
    /// Where the next bucket begins.
    upper: Option<Vec<u8>>,
    marks: Vec<(Key, Mark)>,
}

impl Buckets {
    pub(crate) fn new(file: Arc<File>, marks_max: usize) -> Self {
        Self { file, marks_max }
    }

    /// The bucket that holds `key`, if the pipeline has any.
    async fn find(
        &self,
        connection: &mut SqliteConnection,
        pipeline: &PipelineId,
        key: &[u8],
    ) -> Result<Option<Bucket>, Fault> {
        let row = sqlx::query(
            "SELECT id, lower, marks, (SELECT MIN(n.lower) FROM bucket n WHERE n.pipeline = b.pipeline AND n.lower > b.lower) \
             FROM bucket b WHERE b.pipeline = ? AND b.lower <= ? ORDER BY b.lower DESC LIMIT 1",
        )
        .bind(pipeline.as_str())
        .bind(key)
        .fetch_optional(connection)
        .await
        .map_err(self.file.fault())?;
        let Some(row) = row else { return Ok(None) };
        let marks = bucket::decode(row.get::<&[u8], _>(2))?;
        Ok(Some(Bucket { id: row.get(0), lower: row.get(1), upper: row.get(3), marks }))
    }

    /// Changes the marks of `keys` (sorted), bucket by bucket, in one transaction. `change` sees a bucket's marks and the
    /// part of `keys` that belongs to it, and says whether it changed anything.
    async fn patch(
        &self,
        pipeline: &PipelineId,
        keys: &[&Key],
        mut change: impl FnMut(&mut Vec<(Key, Mark)>, std::ops::Range<usize>) -> bool + Send,
    ) -> Result<(), Fault> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut transaction = self.file.begin().await?;
        // The file's own counter, so that no piece of a split ever repeats a number of a bucket that was there before.
        let writes = self.file.count(&mut transaction, "bucket_writes").await?;
        let mut from = 0;
        while from < keys.len() {
            let found = self.find(&mut transaction, pipeline, keys[from].as_bytes()).await?;
            let mut bucket = match found {
                Some(bucket) => bucket,
                None => Bucket { id: 0, lower: Vec::new(), upper: None, marks: Vec::new() },
            };
            let upper = bucket.upper.as_deref();
            let to = from + keys[from..].partition_point(|key| upper.is_none_or(|upper| key.as_bytes() < upper));
            if change(&mut bucket.marks, from..to) {
                self.write(&mut transaction, pipeline, &bucket, writes).await?;
            }
            from = to;
        }
        transaction.commit().await
    }

    /// Writes a bucket, in several pieces when it has outgrown its size. Its summary is gone, its write counter rises.
    async fn write(
        &self,
        connection: &mut SqliteConnection,
        pipeline: &PipelineId,
        bucket: &Bucket,
        writes: u64,
    ) -> Result<(), Fault> {
        let half = (self.marks_max / 2).max(1);
        let mut rest = bucket.marks.as_slice();
        let mut lower = bucket.lower.clone();
        let mut id = Some(bucket.id).filter(|id| *id != 0);
        loop {
            let take = if rest.len() <= self.marks_max { rest.len() } else { half };
            let (piece, later) = rest.split_at(take);
            let present = piece.iter().filter(|(_, mark)| mark.may_exist()).count() as i64;
            sqlx::query(
                "INSERT INTO bucket (id, pipeline, lower, present, writes, marks) VALUES (?, ?, ?, ?, ?, ?) \
                 ON CONFLICT (id) DO UPDATE SET present = excluded.present, writes = excluded.writes, \
                 summary = NULL, marks = excluded.marks",
            )
            .bind(id.take())
            .bind(pipeline.as_str())
            .bind(lower)
            .bind(present)
            .bind(writes.cast_signed())
            .bind(bucket::encode(piece))
            .execute(&mut *connection)
            .await
            .map_err(self.file.fault())?;
            let Some((first, _)) = later.first() else { return Ok(()) };
            lower = first.as_bytes().to_vec();
            rest = later;
        }
    }

    /// Rows of the buckets that overlap a range, in key order; `columns` begin with the lower bound.
    async fn overlapping(
        &self,
        columns: &'static str,
        pipeline: &PipelineId,
        range: &KeyRange,
    ) -> Result<Vec<SqliteRow>, Fault> {
        let lower = range.lower.as_ref().map_or(&[][..], Key::as_bytes);
        let upper = range.upper.as_ref().map_or(AFTER_ALL, Key::as_bytes);
        sqlx::query(columns)
            .bind(pipeline.as_str())
            .bind(lower)
            .bind(upper)
            .fetch_all(self.file.readers())
            .await
            .map_err(self.file.fault())
    }
}

#[async_trait]
impl HashStore for Buckets {
    async fn get(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<Vec<Option<Mark>>, Fault> {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by_key(|&at| &keys[at]);
        let mut marks = vec![None; keys.len()];
        let mut connection = self.file.readers().acquire().await.map_err(self.file.fault())?;
        let mut from = 0;
        while from < order.len() {
            let Some(bucket) = self.find(&mut connection, pipeline, keys[order[from]].as_bytes()).await? else { break };
            let upper = bucket.upper.as_deref();
            let inside = |at: &usize| upper.is_none_or(|upper| keys[*at].as_bytes() < upper);
            let to = from + order[from..].partition_point(inside);
            for &at in &order[from..to] {
                let found = bucket.marks.binary_search_by(|(key, _)| key.cmp(&keys[at]));
                marks[at] = found.ok().map(|found| bucket.marks[found].1);
            }
            from = to;
        }
        Ok(marks)
    }

    async fn range(&self, pipeline: &PipelineId, range: &KeyRange) -> Result<Vec<(Key, Mark)>, Fault> {
        let rows = self
            .overlapping(
                "SELECT lower, marks FROM bucket WHERE pipeline = ?1 AND lower < ?3 AND lower >= COALESCE((SELECT MAX(lower) \
                 FROM bucket WHERE pipeline = ?1 AND lower <= ?2), x'') ORDER BY lower",
                pipeline,
                range,
            )
            .await?;
        let mut marks = Vec::new();
        for row in rows {
            let bucket = bucket::decode(row.get::<&[u8], _>(1))?;
            marks.extend(bucket.into_iter().filter(|(key, _)| range.contains(key.as_bytes())));
        }
        Ok(marks)
    }

    async fn buckets(&self, pipeline: &PipelineId, range: &KeyRange) -> Result<Vec<BucketInfo>, Fault> {
        let rows = self
            .overlapping(
                "SELECT lower, writes, summary, (SELECT MIN(n.lower) FROM bucket n WHERE n.pipeline = b.pipeline AND n.lower > b.lower) \
                 FROM bucket b WHERE pipeline = ?1 AND lower < ?3 AND lower >= COALESCE((SELECT MAX(lower) \
                 FROM bucket WHERE pipeline = ?1 AND lower <= ?2), x'') ORDER BY lower",
                pipeline,
                range,
            )
            .await?;
        let info = |row: SqliteRow| BucketInfo {
            range: KeyRange {
                lower: Some(row.get::<Vec<u8>, _>(0)).filter(|lower| !lower.is_empty()).map(Key::from_bytes),
                upper: row.get::<Option<Vec<u8>>, _>(3).map(Key::from_bytes),
            },
            writes: row.get::<i64, _>(1).cast_unsigned(),
            summary: row.get::<Option<&[u8]>, _>(2).and_then(|bytes| bytes.try_into().ok()).map(u128::from_be_bytes),
        };
        Ok(rows.into_iter().map(info).collect())
    }

    async fn advance(&self, pipeline: &PipelineId, marks: &[(Key, Mark)]) -> Result<(), Fault> {
        let mut newest: BTreeMap<&Key, &Mark> = BTreeMap::new();
        for (key, mark) in marks {
            let kept = newest.entry(key).or_insert(mark);
            if mark.version >= kept.version {
                *kept = mark;
            }
        }
        let (keys, marks): (Vec<&Key>, Vec<&Mark>) = newest.into_iter().unzip();
        self.patch(pipeline, &keys, |stored, part| merge(stored, &keys[part.clone()], &marks[part])).await
    }

    async fn distrust(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<(), Fault> {
        let mut keys: Vec<&Key> = keys.iter().collect();
        keys.sort_unstable();
        keys.dedup();
        self.patch(pipeline, &keys, |stored, part| {
            let mut changed = false;
            for key in &keys[part] {
                if let Ok(at) = stored.binary_search_by(|(stored, _)| stored.cmp(key)) {
                    changed |= stored[at].1.fingerprint.take().is_some();
                }
            }
            changed
        })
        .await
    }

    async fn relabel(&self, pipeline: &PipelineId, labels: &[Relabel]) -> Result<(), Fault> {
        let mut labels: Vec<&Relabel> = labels.iter().collect();
        labels.sort_unstable_by_key(|label| &label.key);
        let keys: Vec<&Key> = labels.iter().map(|label| &label.key).collect();
        self.patch(pipeline, &keys, |stored, part| {
            let mut changed = false;
            for label in &labels[part] {
                let found = stored.binary_search_by(|(stored, _)| stored.cmp(&label.key)).ok();
                if let Some(at) = found.filter(|&at| stored[at].1 == label.before) {
                    stored[at].1 = label.after();
                    changed = true;
                }
            }
            changed
        })
        .await
    }

    async fn summarise(&self, pipeline: &PipelineId, summaries: &[(BucketInfo, u128)]) -> Result<(), Fault> {
        if summaries.is_empty() {
            return Ok(());
        }
        let mut transaction = self.file.begin().await?;
        for (bucket, summary) in summaries {
            sqlx::query("UPDATE bucket SET summary = ? WHERE pipeline = ? AND lower = ? AND writes = ?")
                .bind(&summary.to_be_bytes()[..])
                .bind(pipeline.as_str())
                .bind(bucket.range.lower.as_ref().map_or(&[][..], Key::as_bytes))
                .bind(bucket.writes.cast_signed())
                .execute(&mut *transaction)
                .await
                .map_err(self.file.fault())?;
        }
        transaction.commit().await
    }

    async fn size(&self, pipeline: &PipelineId) -> Result<(u64, u64), Fault> {
        let row = sqlx::query(
            "SELECT COALESCE(SUM(present), 0), COALESCE(SUM(LENGTH(marks)), 0) FROM bucket WHERE pipeline = ?",
        )
        .bind(pipeline.as_str())
        .fetch_one(self.file.readers())
        .await
        .map_err(self.file.fault())?;
        Ok((row.get::<i64, _>(0).cast_unsigned(), row.get::<i64, _>(1).cast_unsigned()))
    }

    async fn incarnation(&self) -> Result<Option<String>, Fault> {
        let row = sqlx::query("SELECT value FROM meta WHERE name = 'incarnation'")
            .fetch_optional(self.file.readers())
            .await
            .map_err(self.file.fault())?;
        Ok(row.map(|row| row.get(0)))
    }

    async fn create_incarnation(&self, name: &str) -> Result<(), Fault> {
        let mut transaction = self.file.begin().await?;
        sqlx::query("INSERT INTO meta (name, value) VALUES ('incarnation', ?) ON CONFLICT DO NOTHING")
            .bind(name)
            .execute(&mut *transaction)
            .await
            .map_err(self.file.fault())?;
        transaction.commit().await
    }
}

/// Merges newer marks into sorted ones: a mark never goes backward (L4). Whether anything changed.
fn merge(stored: &mut Vec<(Key, Mark)>, keys: &[&Key], marks: &[&Mark]) -> bool {
    let mut changed = false;
    let mut merged = Vec::with_capacity(stored.len() + keys.len());
    let mut old = std::mem::take(stored).into_iter().peekable();
    for (key, mark) in keys.iter().zip(marks) {
        while let Some(before) = old.next_if(|(stored, _)| stored < *key) {
            merged.push(before);
        }
        let kept = old.next_if(|(stored, _)| stored == *key).filter(|(_, stored)| stored.version > mark.version);
        changed |= kept.is_none();
        merged.push(kept.unwrap_or_else(|| ((*key).clone(), **mark)));
    }
    merged.extend(old);
    *stored = merged;
    changed
}
