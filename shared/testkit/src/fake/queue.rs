use async_trait::async_trait;
use bytes::Bytes;
use fides_core::port::{Consumer, Delivery, Queue, Settling};
use fides_core::{Envelope, Fault, Lane, Message};

use super::backplane::{Durable, LaneState, Process};
use super::lock;

/// A message as the queue stores it: encoded, so that the encoding is part of every test.
pub(super) struct Stored {
    pub bytes: Bytes,
    pub delivered: bool,
    /// When it was sent, in milliseconds since 1970 on the paused clock.
    pub sent_ms: u64,
}

/// Durable lanes of bounded depth.
pub(super) struct FakeQueue(pub Process);

impl Process {
    /// Waits until `attempt` gives something; it is asked again after every change of a lane or of the commands. Cancel-safe: a change is
    /// made in the poll that returns.
    pub(super) async fn wait<T>(
        &self,
        mut attempt: impl FnMut(&mut Durable) -> Result<Option<T>, Fault>,
    ) -> Result<T, Fault> {
        loop {
            let mut changed = std::pin::pin!(self.disk.lanes_changed.notified());
            changed.as_mut().enable();
            if let Some(done) = self.with(&mut attempt)? {
                return Ok(done);
            }
            changed.await;
        }
    }
}

#[async_trait]
impl Queue for FakeQueue {
    async fn publish(&self, envelopes: &[Envelope]) -> Result<(), Fault> {
        let depth_max = self.0.disk.lane_depth_max;
        for envelope in envelopes {
            let bytes = Bytes::from(envelope.message.encode());
            let sent_ms = self.0.now_ms();
            self.0
                .wait(|state| {
                    let lane = state.lanes.entry(envelope.lane.clone()).or_default();
                    let fits = lane.depth() < depth_max;
                    if fits {
                        lane.ready.push_back(Stored { bytes: bytes.clone(), delivered: false, sent_ms });
                    }
                    Ok(fits.then_some(()))
                })
                .await?;
            self.0.disk.lanes_changed.notify_waiters();
        }
        Ok(())
    }

    async fn consume(&self, lane: &Lane) -> Result<Box<dyn Consumer>, Fault> {
        let id = self
            .0
            .wait(|state| {
                let held = state.lanes.entry(lane.clone()).or_default();
                if held.owner.is_some() {
                    return Ok(None);
                }
                state.consumers += 1;
                held.owner = Some(state.consumers);
                Ok(held.owner)
            })
            .await?;
        Ok(Box::new(FakeConsumer { process: self.0.clone(), lane: lane.clone(), id }))
    }

    async fn depth(&self, lane: &Lane) -> Result<u64, Fault> {
        self.0.with(|state| Ok(state.lanes.get(lane).map_or(0, LaneState::depth) as u64))
    }
}

struct FakeConsumer {
    process: Process,
    lane: Lane,
    id: u64,
}

/// The lane, if `id` still is its consumer (L6).
fn owned<'a>(state: &'a mut Durable, lane: &Lane, id: u64) -> Result<&'a mut LaneState, Fault> {
    let held = state.lanes.entry(lane.clone()).or_default();
    if held.owner == Some(id) {
        return Ok(held);
    }
    Err(Fault::unavailable(format!("{lane}: this consumer lost its lane")).advise("consume again"))
}

/// Settles as the consumer `id`.
fn settle(process: &Process, lane: &Lane, id: u64, tags: &[u64]) -> Result<(), Fault> {
    process.with(|state| {
        let held = owned(state, lane, id)?;
        for tag in tags {
            if held.unsettled.remove(tag).is_none() {
                let what = format!("{lane}: delivery {tag} is settled already, or was never made");
                return Err(Fault::permanent(what));
            }
        }
        Ok(())
    })?;
    process.disk.lanes_changed.notify_waiters();
    Ok(())
}

#[async_trait]
impl Consumer for FakeConsumer {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        self.process
            .wait(|state| {
                let lane = owned(state, &self.lane, self.id)?;
                // Looked at first: a message that cannot be read stays where it is.
                let Some(stored) = lane.ready.front() else {
                    return Ok(None);
                };
                let message = Message::decode(&stored.bytes)?;
                let Some(stored) = lane.ready.pop_front() else {
                    return Ok(None);
                };
                let (redelivered, sent_ms) = (stored.delivered, Some(stored.sent_ms));
                lane.tags += 1;
                lane.unsettled.insert(lane.tags, stored);
                Ok(Some(Delivery { tag: lane.tags, message, redelivered, sent_ms }))
            })
            .await
    }

    fn settle(&mut self, tags: &[u64]) -> Settling {
        let (process, lane, id, tags) = (self.process.clone(), self.lane.clone(), self.id, tags.to_vec());
        Box::pin(async move { settle(&process, &lane, id, &tags) })
    }

    fn unsettled_max(&self) -> usize {
        usize::MAX
    }
}

impl Drop for FakeConsumer {
    fn drop(&mut self) {
        let mut state = lock(&self.process.disk.state);
        if let Some(lane) = state.lanes.get_mut(&self.lane).filter(|lane| lane.owner == Some(self.id)) {
            lane.give_back();
        }
        drop(state);
        self.process.disk.lanes_changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Disk;
    use super::*;
    use fides_core::{FaultKind, FenceId, PipelineId};
    use std::time::Duration;

    fn lane() -> Lane {
        Lane { pipeline: PipelineId::new("p"), index: 0 }
    }

    fn fences(ids: impl IntoIterator<Item = u64>) -> Vec<Envelope> {
        ids.into_iter()
            .map(|id| Envelope { lane: lane(), message: Message::Fence(FenceId { epoch: 0, number: id }) })
            .collect()
    }

    async fn take(consumer: &mut Box<dyn Consumer>) -> (u64, u64, bool) {
        let delivery = consumer.next().await.unwrap();
        let Message::Fence(FenceId { number: id, .. }) = delivery.message else { panic!("no fence") };
        (id, delivery.tag, delivery.redelivered)
    }

    #[tokio::test(start_paused = true)]
    async fn unsettled_deliveries_return_in_order_and_a_crashed_process_is_cut_off() {
        let disk = Disk::new(10);
        let process = disk.open();
        process.queue.publish(&fences(1..=4)).await.unwrap();
        let mut consumer = process.queue.consume(&lane()).await.unwrap();
        let (_, first, _) = take(&mut consumer).await;
        let (_, second, _) = take(&mut consumer).await;
        take(&mut consumer).await;
        consumer.settle(&[first]).await.unwrap();
        assert_eq!(consumer.settle(&[first]).await.unwrap_err().kind, FaultKind::Permanent);
        disk.crash();
        assert_eq!(consumer.settle(&[second]).await.unwrap_err().kind, FaultKind::Unavailable);
        let mut next = disk.open().queue.consume(&lane()).await.unwrap();
        drop(consumer);
        let met: Vec<_> = [take(&mut next).await, take(&mut next).await, take(&mut next).await]
            .map(|(id, _, redelivered)| (id, redelivered))
            .into();
        assert_eq!(met, [(2, true), (3, true), (4, false)]);
        assert_eq!(disk.queued(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_lane_makes_publishers_wait() {
        let disk = Disk::new(2);
        let process = disk.open();
        let queue = process.queue.clone();
        let publisher = tokio::spawn(async move { queue.publish(&fences(1..=3)).await });
        let mut consumer = process.queue.consume(&lane()).await.unwrap();
        let (_, tag, _) = take(&mut consumer).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!publisher.is_finished());
        assert_eq!(process.queue.depth(&lane()).await.unwrap(), 2);
        consumer.settle(&[tag]).await.unwrap();
        publisher.await.unwrap().unwrap();
        assert_eq!(process.queue.depth(&lane()).await.unwrap(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_has_one_consumer_and_a_displaced_one_cannot_settle() {
        let disk = Disk::new(10);
        let process = disk.open();
        process.queue.publish(&fences([1])).await.unwrap();
        let mut old = process.queue.consume(&lane()).await.unwrap();
        let (_, tag, _) = take(&mut old).await;
        let queue = process.queue.clone();
        let waiting = tokio::spawn(async move { queue.consume(&lane()).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        disk.displace(&lane());
        let mut new = waiting.await.unwrap().unwrap();
        assert_eq!(old.settle(&[tag]).await.unwrap_err().kind, FaultKind::Unavailable);
        drop(old);
        assert!(matches!(take(&mut new).await, (1, _, true)));
    }
}
