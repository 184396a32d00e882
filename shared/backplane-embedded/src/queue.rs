//! Durable lanes.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use fides_core::port::{Consumer, Delivery, Queue, Settling};
use fides_core::{Envelope, Fault, Lane, Message};
use sqlx::Row;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::file::File;

/// Messages read ahead by a consumer: at most this many `batch_bytes_max` in memory.
const PREFETCH: i64 = 8;

/// All lanes of the file.
pub(crate) struct Lanes {
    file: Arc<File>,
    depth_max: u64,
    lanes: Mutex<HashMap<Lane, Arc<LaneState>>>,
}

/// What the process knows of a lane beside its messages.
struct LaneState {
    depth: AtomicU64,
    /// Messages up to this id may have been delivered before.
    delivered: AtomicI64,
    /// A message came.
    filled: Notify,
    /// Messages went.
    drained: Notify,
    /// One active consumer (L6).
    consumer: Arc<Semaphore>,
}

impl LaneState {
    fn new(depth: u64, delivered: i64) -> Self {
        Self {
            depth: AtomicU64::new(depth),
            delivered: AtomicI64::new(delivered),
            filled: Notify::new(),
            drained: Notify::new(),
            consumer: Arc::new(Semaphore::new(1)),
        }
    }

    /// Takes a place in the lane if there is one; a fence always gets in.
    fn reserve(&self, message: &Message, depth_max: u64) -> bool {
        let free = |depth: u64| (depth < depth_max || matches!(message, Message::Fence(_))).then_some(depth + 1);
        self.depth.fetch_update(Ordering::AcqRel, Ordering::Acquire, free).is_ok()
    }

    fn give_back(&self, places: u64) {
        let less = |depth: u64| Some(depth.saturating_sub(places));
        // Never refused: the function always gives a value.
        let _ = self.depth.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        self.drained.notify_waiters();
    }
}

impl Lanes {
    pub(crate) async fn load(file: Arc<File>, depth_max: u32) -> Result<Self, Fault> {
        let rows = sqlx::query("SELECT pipeline, lane, COUNT(*), MAX(id) FROM message GROUP BY pipeline, lane")
            .fetch_all(file.readers())
            .await
            .map_err(file.fault())?;
        let lane = |row: sqlx::sqlite::SqliteRow| {
            let pipeline = fides_core::PipelineId::new(row.get::<&str, _>(0));
            let state = LaneState::new(row.get::<i64, _>(2).cast_unsigned(), row.get(3));
            (Lane { pipeline, index: row.get(1) }, Arc::new(state))
        };
        let lanes = Mutex::new(rows.into_iter().map(lane).collect());
        Ok(Self { file, depth_max: u64::from(depth_max.max(1)), lanes })
    }

    fn lane(&self, lane: &Lane) -> Arc<LaneState> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.entry(lane.clone()).or_insert_with(|| Arc::new(LaneState::new(0, 0))).clone()
    }

    /// Places for as many of the first envelopes as there are places; waits until there is one at least.
    async fn reserve(&self, envelopes: &[Envelope]) -> Vec<Place> {
        let mut places = Vec::with_capacity(envelopes.len());
        for envelope in envelopes {
            let lane = self.lane(&envelope.lane);
            loop {
                let drained = lane.drained.notified();
                tokio::pin!(drained);
                drained.as_mut().enable();
                if lane.reserve(&envelope.message, self.depth_max) {
                    break;
                }
                if !places.is_empty() {
                    return places;
                }
                drained.await;
            }
            places.push(Place { lane, filled: false });
        }
        places
    }
}

/// A place taken in a lane; given back unless a message came to be in it.
struct Place {
    lane: Arc<LaneState>,
    filled: bool,
}

impl Place {
    fn fill(mut self) {
        self.filled = true;
        self.lane.filled.notify_one();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.filled {
            self.lane.give_back(1);
        }
    }
}

/// Inserts messages into the places taken for them, in one transaction.
async fn insert(file: Arc<File>, messages: Vec<(Lane, Vec<u8>)>, places: Vec<Place>) -> Result<(), Fault> {
    let mut transaction = file.begin().await?;
    for (lane, body) in messages {
        sqlx::query("INSERT INTO message (pipeline, lane, body) VALUES (?, ?, ?)")
            .bind(lane.pipeline.as_str())
            .bind(lane.index)
            .bind(body)
            .execute(&mut *transaction)
            .await
            .map_err(file.fault())?;
    }
    transaction.commit().await?;
    places.into_iter().for_each(Place::fill);
    Ok(())
}

/// Deletes settled messages, in one transaction.
async fn delete(file: Arc<File>, lane: Arc<LaneState>, tags: String) -> Result<(), Fault> {
    let mut transaction = file.begin().await?;
    let deleted = sqlx::query("DELETE FROM message WHERE id IN (SELECT value FROM json_each(?))")
        .bind(tags)
        .execute(&mut *transaction)
        .await
        .map_err(file.fault())?;
    transaction.commit().await?;
    lane.give_back(deleted.rows_affected());
    Ok(())
}

/// Runs a write to its end, also when the caller goes away in the middle: the file and what this process knows of its
/// lanes change together or not at all.
async fn finish(write: impl Future<Output = Result<(), Fault>> + Send + 'static) -> Result<(), Fault> {
    let done = tokio::spawn(write).await;
    done.map_err(|error| Fault::transient("the process ended while a lane was written").because(error))?
}

#[async_trait]
impl Queue for Lanes {
    async fn publish(&self, mut envelopes: &[Envelope]) -> Result<(), Fault> {
        // Fails at once, instead of waiting for a place, where nothing could be written.
        self.file.writer()?;
        while !envelopes.is_empty() {
            let places = self.reserve(envelopes).await;
            let (now, later) = envelopes.split_at(places.len());
            let encode = |envelope: &Envelope| (envelope.lane.clone(), envelope.message.encode());
            finish(insert(self.file.clone(), now.iter().map(encode).collect(), places)).await?;
            envelopes = later;
        }
        Ok(())
    }

    async fn consume(&self, lane: &Lane) -> Result<Box<dyn Consumer>, Fault> {
        // Fails at once where nothing could be settled.
        self.file.writer()?;
        let state = self.lane(lane);
        let active = state.consumer.clone().acquire_owned().await;
        let active = active.map_err(|_| Fault::permanent(format!("lane {lane} was closed")))?;
        let returned = state.delivered.load(Ordering::Acquire);
        Ok(Box::new(LaneConsumer {
            file: self.file.clone(),
            lane: lane.clone(),
            state,
            ahead: VecDeque::new(),
            after: 0,
            returned,
            depth_max: self.depth_max,
            _active: active,
        }))
    }

    async fn depth(&self, lane: &Lane) -> Result<u64, Fault> {
        // Counted in the file, so that it is true beside another process too.
        let row = sqlx::query("SELECT COUNT(*) FROM message WHERE pipeline = ? AND lane = ?")
            .bind(lane.pipeline.as_str())
            .bind(lane.index)
            .fetch_one(self.file.readers())
            .await
            .map_err(self.file.fault())?;
        Ok(row.get::<i64, _>(0).cast_unsigned())
    }
}

/// The active consumer of a lane. What it has not settled is still in the file when it is dropped.
struct LaneConsumer {
    file: Arc<File>,
    lane: Lane,
    state: Arc<LaneState>,
    ahead: VecDeque<(i64, Bytes)>,
    /// Id of the last message read ahead.
    after: i64,
    /// Messages up to this id were delivered to an earlier consumer, or were there when the file was opened.
    returned: i64,
    depth_max: u64,
    _active: OwnedSemaphorePermit,
}

impl LaneConsumer {
    async fn read_ahead(&mut self) -> Result<(), Fault> {
        let rows =
            sqlx::query("SELECT id, body FROM message WHERE pipeline = ? AND lane = ? AND id > ? ORDER BY id LIMIT ?")
                .bind(self.lane.pipeline.as_str())
                .bind(self.lane.index)
                .bind(self.after)
                .bind(PREFETCH)
                .fetch_all(self.file.readers())
                .await
                .map_err(self.file.fault())?;
        for row in rows {
            self.after = row.get(0);
            self.ahead.push_back((self.after, Bytes::from(row.get::<Vec<u8>, _>(1))));
        }
        Ok(())
    }
}

#[async_trait]
impl Consumer for LaneConsumer {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        while self.ahead.is_empty() {
            let state = self.state.clone();
            // A permit that was stored before this is kept, so that no message is waited for that is there.
            let filled = state.filled.notified();
            self.read_ahead().await?;
            if self.ahead.is_empty() {
                filled.await;
            }
        }
        // Looked at first: a message that cannot be decoded stays where it is.
        let (id, body) = self.ahead.front().ok_or_else(|| Fault::transient("nothing was read ahead"))?;
        let (id, message) = (*id, Message::decode(body)?);
        self.ahead.pop_front();
        self.state.delivered.fetch_max(id, Ordering::AcqRel);
        Ok(Delivery { tag: id.cast_unsigned(), message, redelivered: id <= self.returned, sent_ms: None })
    }

    fn settle(&mut self, tags: &[u64]) -> Settling {
        if tags.is_empty() {
            return Box::pin(async { Ok(()) });
        }
        let tags = format!("{tags:?}"); // a slice of numbers is written as JSON writes it
        Box::pin(finish(delete(self.file.clone(), self.state.clone(), tags)))
    }

    fn unsettled_max(&self) -> usize {
        // A lane that is full gets nothing more.
        usize::try_from(self.depth_max).unwrap_or(usize::MAX)
    }
}
