//! Too many dead letters are not the records' fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fides_core::port::{DeadLetter, DeadLetters};
use fides_core::{Fault, Key, Origin, PipelineId, Version};
use fides_engine::import::Mode;
use fides_engine::{Progress, current_epoch, establish, publish, raise_fence, wait_for_fence};
use fides_testkit::fake::{FakeHost, FakeMapper};

use crate::stand::{Stand, upsert, within};

const ROWS: i64 = 40;

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_paused_for_its_dead_letters_goes_on_when_they_are_looked_after() {
    let stand = Stand::new(ROWS);
    let mut process = stand.process("a").await;
    process.pipeline.limits.dead_count_min = 5;
    process.faults.poison((0..ROWS).map(FakeHost::key));
    let dead = process.pipeline.backplane.dead.clone();
    let id = process.pipeline.id.clone();
    let _consumers = process.consume();
    process.import(Mode::Delta).await;
    let fence = raise_fence(&process.pipeline).await.unwrap();
    let waiting = wait_for_fence(&process.pipeline, fence);
    assert!(
        tokio::time::timeout(Duration::from_mins(1), waiting).await.is_err(),
        "it pauses, and what is left stays in the queue"
    );
    let kept = dead.count(&id).await.unwrap();
    assert!((6..ROWS as u64).contains(&kept), "{kept} dead letters");
    let said = process.worker.progress.paused().unwrap();
    for part in ["became dead letters", "replay or drop them", "at most 5"] {
        assert!(said.contains(part), "{part}: {said}");
    }

    process.faults.poison([]);
    let letters = dead.list(&id, None, ROWS as usize).await.unwrap();
    let keys: Vec<_> = letters.into_iter().map(|letter| letter.key).collect();
    dead.remove(&id, &keys).await.unwrap();
    within(wait_for_fence(&process.pipeline, fence)).await.unwrap();
    assert_eq!(stand.target.documents(&crate::stand::namespace()).len() as u64, ROWS as u64 - kept);
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_paused_is_paused_for_every_consumer_and_delivers_nothing_in_vain() {
    let stand = Stand::new(ROWS);
    let mut first = stand.process("a").await;
    first.pipeline.limits.dead_count_min = 5;
    first.faults.poison((0..ROWS).map(FakeHost::key));
    let consumers = first.consume();
    first.import(Mode::Delta).await;
    within(until(|| first.worker.progress.paused().is_some())).await;
    drop(consumers);

    let mut second = stand.process("b").await;
    second.pipeline.limits.dead_count_min = 5;
    let _consumers = second.consume();
    within(until(|| second.worker.progress.paused().is_some())).await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    let said = second.worker.progress.paused().unwrap();
    assert!(said.contains("became dead letters"), "{said}");
    assert_eq!(Progress::get(&second.worker.progress.redelivered), 0, "it never consumed");
    assert_eq!(stand.target.history().len(), 0);
}

/// A store of dead letters that may have no room.
struct Full {
    dead: Arc<dyn DeadLetters>,
    is_full: Arc<AtomicBool>,
}

#[async_trait]
impl DeadLetters for Full {
    async fn put(&self, pipeline: &PipelineId, letters: &[DeadLetter]) -> Result<(), Fault> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(Fault::unavailable("there is no room for dead letters"));
        }
        self.dead.put(pipeline, letters).await
    }

    async fn get(&self, pipeline: &PipelineId, key: &Key) -> Result<Option<DeadLetter>, Fault> {
        self.dead.get(pipeline, key).await
    }

    async fn list(&self, pipeline: &PipelineId, after: Option<&Key>, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        self.dead.list(pipeline, after, limit).await
    }

    async fn count(&self, pipeline: &PipelineId) -> Result<u64, Fault> {
        self.dead.count(pipeline).await
    }

    async fn remove(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<(), Fault> {
        self.dead.remove(pipeline, keys).await
    }
}

#[tokio::test(start_paused = true)]
async fn letters_without_room_stop_a_lane_and_neither_write_nor_deliver_again_and_again() {
    const BROKEN: i64 = 7;
    let stand = Stand::new(ROWS);
    let mut process = stand.process("a").await;
    let is_full = Arc::new(AtomicBool::new(true));
    process.pipeline.backplane.dead =
        Arc::new(Full { dead: process.pipeline.backplane.dead.clone(), is_full: is_full.clone() });
    process.faults.poison([FakeHost::key(BROKEN)]);
    let _consumers = process.consume();
    process.import(Mode::Delta).await;
    within(until(|| process.worker.progress.paused().is_some())).await;
    let minutes = 60;
    tokio::time::sleep(Duration::from_mins(minutes)).await;
    let mut written: Vec<Key> = stand.target.history().into_iter().map(|written| written.key).collect();
    assert!(written.len() > 1, "its neighbours are written");
    written.sort();
    let all = written.len();
    written.dedup();
    assert_eq!(written.len(), all, "each of them once");
    // A round takes all that fits: so many deliveries return at a time.
    let deliveries_max = process.pipeline.limits.apply_records_max as u64;
    let redelivered = Progress::get(&process.worker.progress.redelivered);
    assert!((1..=minutes * 4 * deliveries_max).contains(&redelivered), "{redelivered} deliveries in vain");

    is_full.store(false, Ordering::Relaxed);
    process.settle().await;
    assert_eq!(process.pipeline.backplane.dead.count(&process.pipeline.id).await.unwrap(), 1);
    assert_eq!(stand.differing(1), [BROKEN]);
}

/// A letter may outlive the attempt that made it: the process ended before its mark said so, and the cause was mended
/// meanwhile.
#[tokio::test(start_paused = true)]
async fn a_letter_without_its_mark_goes_away_when_the_record_is_written() {
    let stand = Stand::new(1);
    let process = stand.process("a").await;
    let (dead, id) = (process.pipeline.backplane.dead.clone(), process.pipeline.id.clone());
    establish(&process.pipeline).await.unwrap();
    let version = Version::scan(current_epoch(&process.pipeline).await.unwrap(), 1);
    let change = upsert(0, version, FakeMapper::new(1).document(0, 1).unwrap());
    publish(&process.pipeline, process.pipeline.shape(), Origin::Event, vec![change]).await.unwrap();
    let mut consumer = process.pipeline.backplane.queue.consume(&process.pipeline.lanes()[0]).await.unwrap();
    consumer.next().await.unwrap();
    let key = FakeHost::key(0);
    let letter =
        DeadLetter { key, reason: "x".into(), record: "{}".into(), attempts: 1, first_ms: 0, last_ms: 0, trace: None };
    dead.put(&id, &[letter]).await.unwrap();
    drop(consumer);
    let _consumers = process.consume();
    process.settle().await;
    assert_eq!(dead.count(&id).await.unwrap(), 0);
    assert_eq!(stand.differing(1), [0; 0]);
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
