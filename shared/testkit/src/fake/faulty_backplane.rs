use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::{
    Backplane, BucketInfo, Consumer, DeadLetter, DeadLetters, Delivery, Entry, Expect, HashStore, Lease, Queue,
    Relabel, Settling, StateStore,
};
use fides_core::{Envelope, Fault, Key, KeyRange, Lane, Mark, PipelineId};

use super::faults::injected;
use super::{Act, Faults, Faulty};

impl Faults {
    /// Puts these failures before every port of a backplane.
    pub fn around(&self, backplane: &Backplane) -> Backplane {
        Backplane {
            queue: Arc::new(Faulty::new(Arc::clone(&backplane.queue), self)),
            hashes: Arc::new(Faulty::new(Arc::clone(&backplane.hashes), self)),
            state: Arc::new(Faulty::new(Arc::clone(&backplane.state), self)),
            dead: Arc::new(Faulty::new(Arc::clone(&backplane.dead), self)),
        }
    }
}

#[async_trait]
impl<T: Queue + ?Sized> Queue for Faulty<T> {
    async fn publish(&self, envelopes: &[Envelope]) -> Result<(), Fault> {
        const PUBLISH: &str = "queue.publish";
        match self.faults.act(PUBLISH).await {
            Act::Pass | Act::Slow(_) | Act::Late(_) | Act::Hold(_) => self.inner.publish(envelopes).await,
            Act::Reject(kind) => Err(injected(PUBLISH, kind, "before it was done")),
            // After a fault any part may have been published.
            Act::FailAfter(kind) | Act::Partial(kind) => {
                self.inner.publish(&envelopes[..self.faults.up_to(envelopes.len())]).await?;
                Err(injected(PUBLISH, kind, "after some of it was done"))
            }
            Act::CrashBefore => self.faults.crash().await,
            Act::CrashAfter => {
                self.inner.publish(&envelopes[..self.faults.up_to(envelopes.len())]).await?;
                self.faults.crash().await
            }
        }
    }

    async fn consume(&self, lane: &Lane) -> Result<Box<dyn Consumer>, Fault> {
        let inner = self.faults.call("queue.consume", self.inner.consume(lane)).await?;
        Ok(Box::new(FaultyConsumer { inner, faults: self.faults.clone() }))
    }

    async fn depth(&self, lane: &Lane) -> Result<u64, Fault> {
        self.faults.call("queue.depth", self.inner.depth(lane)).await
    }
}

struct FaultyConsumer {
    inner: Box<dyn Consumer>,
    faults: Faults,
}

#[async_trait]
impl Consumer for FaultyConsumer {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        // Cancel-safe as the port asks: what was taken is returned in the same poll, so it never fails afterwards.
        match self.faults.act("queue.next").await {
            Act::Reject(kind) | Act::FailAfter(kind) | Act::Partial(kind) => {
                Err(injected("queue.next", kind, "before a message came"))
            }
            Act::CrashBefore => self.faults.crash().await,
            Act::CrashAfter => {
                // The delivery returns to its lane when the process is dropped.
                let _unsettled = self.inner.next().await;
                self.faults.crash().await
            }
            Act::Pass | Act::Slow(_) | Act::Late(_) | Act::Hold(_) => self.inner.next().await,
        }
    }

    fn settle(&mut self, tags: &[u64]) -> Settling {
        let (faults, settling) = (self.faults.clone(), self.inner.settle(tags));
        Box::pin(async move { faults.call("queue.settle", settling).await })
    }

    fn unsettled_max(&self) -> usize {
        self.inner.unsettled_max()
    }
}

#[async_trait]
impl<T: HashStore + ?Sized> HashStore for Faulty<T> {
    async fn get(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<Vec<Option<Mark>>, Fault> {
        self.faults.call("hashes.get", self.inner.get(pipeline, keys)).await
    }

    async fn range(&self, pipeline: &PipelineId, range: &KeyRange) -> Result<Vec<(Key, Mark)>, Fault> {
        self.faults.call("hashes.range", self.inner.range(pipeline, range)).await
    }

    async fn buckets(&self, pipeline: &PipelineId, range: &KeyRange) -> Result<Vec<BucketInfo>, Fault> {
        self.faults.call("hashes.buckets", self.inner.buckets(pipeline, range)).await
    }

    async fn advance(&self, pipeline: &PipelineId, marks: &[(Key, Mark)]) -> Result<(), Fault> {
        self.faults.call("hashes.advance", self.inner.advance(pipeline, marks)).await
    }

    async fn distrust(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<(), Fault> {
        self.faults.call("hashes.distrust", self.inner.distrust(pipeline, keys)).await
    }

    async fn relabel(&self, pipeline: &PipelineId, labels: &[Relabel]) -> Result<(), Fault> {
        self.faults.call("hashes.relabel", self.inner.relabel(pipeline, labels)).await
    }

    async fn summarise(&self, pipeline: &PipelineId, summaries: &[(BucketInfo, u128)]) -> Result<(), Fault> {
        self.faults.call("hashes.summarise", self.inner.summarise(pipeline, summaries)).await
    }

    async fn size(&self, pipeline: &PipelineId) -> Result<(u64, u64), Fault> {
        self.faults.call("hashes.size", self.inner.size(pipeline)).await
    }

    async fn incarnation(&self) -> Result<Option<String>, Fault> {
        self.faults.call("hashes.incarnation", self.inner.incarnation()).await
    }

    async fn create_incarnation(&self, name: &str) -> Result<(), Fault> {
        self.faults.call("hashes.create_incarnation", self.inner.create_incarnation(name)).await
    }
}

#[async_trait]
impl<T: StateStore + ?Sized> StateStore for Faulty<T> {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Fault> {
        self.faults.call("state.get", self.inner.get(key)).await
    }

    async fn put(&self, key: &str, value: &[u8], expect: Expect) -> Result<Option<u64>, Fault> {
        self.faults.call("state.put", self.inner.put(key, value, expect)).await
    }

    async fn remove(&self, key: &str) -> Result<(), Fault> {
        self.faults.call("state.remove", self.inner.remove(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Entry)>, Fault> {
        self.faults.call("state.list", self.inner.list(prefix, after, limit)).await
    }

    async fn lease(&self, key: &str, holder: &str, ttl_ms: u64) -> Result<Option<Lease>, Fault> {
        self.faults.call("state.lease", self.inner.lease(key, holder, ttl_ms)).await
    }

    async fn release(&self, key: &str, holder: &str) -> Result<(), Fault> {
        self.faults.call("state.release", self.inner.release(key, holder)).await
    }

    async fn next_position(&self, pipeline: &PipelineId) -> Result<u64, Fault> {
        self.faults.call("state.next_position", self.inner.next_position(pipeline)).await
    }

    async fn now_ms(&self) -> Result<u64, Fault> {
        self.faults.call("state.now_ms", self.inner.now_ms()).await
    }
}

#[async_trait]
impl<T: DeadLetters + ?Sized> DeadLetters for Faulty<T> {
    async fn put(&self, pipeline: &PipelineId, letters: &[DeadLetter]) -> Result<(), Fault> {
        self.faults.call("dead.put", self.inner.put(pipeline, letters)).await
    }

    async fn get(&self, pipeline: &PipelineId, key: &Key) -> Result<Option<DeadLetter>, Fault> {
        self.faults.call("dead.get", self.inner.get(pipeline, key)).await
    }

    async fn list(&self, pipeline: &PipelineId, after: Option<&Key>, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        self.faults.call("dead.list", self.inner.list(pipeline, after, limit)).await
    }

    async fn count(&self, pipeline: &PipelineId) -> Result<u64, Fault> {
        self.faults.call("dead.count", self.inner.count(pipeline)).await
    }

    async fn remove(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<(), Fault> {
        self.faults.call("dead.remove", self.inner.remove(pipeline, keys)).await
    }
}
