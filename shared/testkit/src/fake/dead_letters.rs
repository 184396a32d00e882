use std::collections::BTreeMap;
use std::ops::Bound;

use async_trait::async_trait;
use fides_core::port::{DeadLetter, DeadLetters};
use fides_core::{Fault, Key, PipelineId};

use super::backplane::Process;

pub(super) struct FakeDead(pub Process);

impl FakeDead {
    fn with<T>(
        &self,
        pipeline: &PipelineId,
        work: impl FnOnce(&mut BTreeMap<Key, DeadLetter>) -> T,
    ) -> Result<T, Fault> {
        self.0.with(|state| Ok(work(state.dead.entry(pipeline.clone()).or_default())))
    }
}

#[async_trait]
impl DeadLetters for FakeDead {
    async fn put(&self, pipeline: &PipelineId, letters: &[DeadLetter]) -> Result<(), Fault> {
        self.with(pipeline, |held| {
            for letter in letters {
                let mut letter = letter.clone();
                if let Some(before) = held.get(&letter.key) {
                    letter.first_ms = before.first_ms;
                    letter.attempts = letter.attempts.saturating_add(before.attempts);
                }
                held.insert(letter.key.clone(), letter);
            }
        })
    }

    async fn get(&self, pipeline: &PipelineId, key: &Key) -> Result<Option<DeadLetter>, Fault> {
        self.with(pipeline, |held| held.get(key).cloned())
    }

    async fn list(&self, pipeline: &PipelineId, after: Option<&Key>, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.with(pipeline, |held| {
            held.range::<Key, _>((start, Bound::Unbounded)).take(limit).map(|(_, letter)| letter.clone()).collect()
        })
    }

    async fn count(&self, pipeline: &PipelineId) -> Result<u64, Fault> {
        self.with(pipeline, |held| held.len() as u64)
    }

    async fn remove(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<(), Fault> {
        self.with(pipeline, |held| held.retain(|key, _| !keys.contains(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Disk, FakeHost};
    use super::*;

    fn letter(id: i64, reason: &str, at_ms: u64) -> DeadLetter {
        let (key, reason, record) = (FakeHost::key(id), reason.to_owned(), "{}".to_owned());
        DeadLetter { key, reason, record, attempts: 2, first_ms: at_ms, last_ms: at_ms, trace: None }
    }

    #[tokio::test]
    async fn one_letter_per_key_that_keeps_its_first_time_and_survives_a_crash() {
        let disk = Disk::new(1);
        let pipeline = PipelineId::new("p");
        let dead = disk.open().dead;
        dead.put(&pipeline, &[letter(1, "a", 10), letter(2, "b", 10)]).await.unwrap();
        dead.put(&pipeline, &[letter(1, "c", 20)]).await.unwrap();
        disk.crash();
        assert!(dead.count(&pipeline).await.is_err());
        let dead = disk.open().dead;
        let merged = DeadLetter { attempts: 4, first_ms: 10, ..letter(1, "c", 20) };
        assert_eq!(dead.get(&pipeline, &FakeHost::key(1)).await.unwrap(), Some(merged));
        assert_eq!(dead.list(&pipeline, Some(&FakeHost::key(1)), 5).await.unwrap(), [letter(2, "b", 10)]);
        dead.remove(&pipeline, &[FakeHost::key(1)]).await.unwrap();
        assert_eq!(dead.count(&pipeline).await.unwrap(), 1);
    }
}
