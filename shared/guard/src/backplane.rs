use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fides_core::port::{
    AdminQueue, Backplane, BucketInfo, Consumer, DeadLetter, DeadLetters, Desk, Entry, Expect, HashStore, Lease, Queue,
    Relabel, StateStore,
};
use fides_core::{Envelope, Fault, Key, KeyRange, Lane, Limits, Mark, PipelineId};

use crate::Meter;
use crate::stack::{Call, Stack};

#[cfg(test)]
mod tests;

/// One call to a store of the backplane, or to the broker.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Puts the guard before a backplane that is reached over a network, and before its queue of commands. `broker` and `store` are its parts' names in faults
/// and measurements; each has a breaker and a meter of its own. Every call may be made again: a put whose answer was lost and that
/// is repeated says that its precondition did not hold, which callers treat as a race that they lost.
pub fn guard_backplane(
    backplane: Backplane,
    admin: Arc<dyn AdminQueue>,
    broker: &str,
    store: &str,
    limits: &Limits,
    meters: &(dyn Fn() -> Arc<dyn Meter> + Send + Sync),
) -> (Backplane, Arc<dyn AdminQueue>) {
    let store = Arc::new(Stack::new(store, None, limits, meters()));
    let broker = Arc::new(Stack::new(broker, None, limits, meters()));
    let admin = Arc::new(Guarded { port: admin, stack: Arc::clone(&broker) });
    let backplane = Backplane {
        queue: Arc::new(GuardedQueue { queue: backplane.queue, stack: broker }),
        hashes: Arc::new(Guarded { port: backplane.hashes, stack: Arc::clone(&store) }),
        state: Arc::new(Guarded { port: backplane.state, stack: Arc::clone(&store) }),
        dead: Arc::new(Guarded { port: backplane.dead, stack: store }),
    };
    (backplane, admin)
}

/// Puts the guard before a queue of commands alone, for those who only ask.
pub fn guard_admin_queue(
    admin: Arc<dyn AdminQueue>,
    broker: &str,
    limits: &Limits,
    meter: Arc<dyn Meter>,
) -> Arc<dyn AdminQueue> {
    Arc::new(Guarded { port: admin, stack: Arc::new(Stack::new(broker, None, limits, meter)) })
}

fn call(operation: &'static str) -> Call {
    Call { operation, weight: 1, timeout: TIMEOUT }
}

struct GuardedQueue {
    queue: Arc<dyn Queue>,
    stack: Arc<Stack>,
}

#[async_trait]
impl Queue for GuardedQueue {
    /// Waits for a full lane as long as it takes, so that neither a timeout nor the breaker's single probe may be on it:
    /// one full lane would stop all others. A broker that is away fails each attempt within the adapter's own timeouts,
    /// attempts are bounded and spread, and whoever publishes waits before it begins anew (`retry_cap_ms`).
    async fn publish(&self, envelopes: &[Envelope]) -> Result<(), Fault> {
        self.stack.wait(call("publish"), || self.queue.publish(envelopes)).await
    }

    /// The consumer waits for what comes and is not guarded: a retry cannot mend it, because deliveries belong to the
    /// channel that they came on. Its first fault ends it, and its owner starts anew after a growing wait, through this
    /// call: that is where the breaker stands.
    async fn consume(&self, lane: &Lane) -> Result<Box<dyn Consumer>, Fault> {
        self.stack.call(call("consume"), || self.queue.consume(lane)).await
    }

    async fn depth(&self, lane: &Lane) -> Result<u64, Fault> {
        self.stack.call(call("depth"), || self.queue.depth(lane)).await
    }
}

#[async_trait]
impl AdminQueue for Guarded<dyn AdminQueue> {
    /// Waits for an answer as long as the caller wishes: no timeout but that, and not as the breaker's probe. A command that
    /// is sent again has the same id, and is done once.
    async fn ask(&self, command: &[u8], timeout_ms: u64) -> Result<Option<Bytes>, Fault> {
        self.stack.wait(call("admin.ask"), || self.port.ask(command, timeout_ms)).await
    }

    /// As a lane's consumer the desk is not guarded: its first fault ends it, and its owner starts anew.
    async fn serve(&self) -> Result<Box<dyn Desk>, Fault> {
        self.stack.call(call("admin.serve"), || self.port.serve()).await
    }
}

/// A port behind the stack that it shares with the others of the same server.
struct Guarded<T: ?Sized> {
    port: Arc<T>,
    stack: Arc<Stack>,
}

#[async_trait]
impl HashStore for Guarded<dyn HashStore> {
    async fn get(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<Vec<Option<Mark>>, Fault> {
        self.stack.call(call("hashes.get"), || self.port.get(pipeline, keys)).await
    }

    async fn range(&self, pipeline: &PipelineId, range: &KeyRange) -> Result<Vec<(Key, Mark)>, Fault> {
        self.stack.call(call("hashes.range"), || self.port.range(pipeline, range)).await
    }

    async fn buckets(&self, pipeline: &PipelineId, range: &KeyRange) -> Result<Vec<BucketInfo>, Fault> {
        self.stack.call(call("hashes.buckets"), || self.port.buckets(pipeline, range)).await
    }

    async fn advance(&self, pipeline: &PipelineId, marks: &[(Key, Mark)]) -> Result<(), Fault> {
        self.stack.call(call("hashes.advance"), || self.port.advance(pipeline, marks)).await
    }

    async fn distrust(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<(), Fault> {
        self.stack.call(call("hashes.distrust"), || self.port.distrust(pipeline, keys)).await
    }

    async fn relabel(&self, pipeline: &PipelineId, labels: &[Relabel]) -> Result<(), Fault> {
        self.stack.call(call("hashes.relabel"), || self.port.relabel(pipeline, labels)).await
    }

    async fn summarise(&self, pipeline: &PipelineId, summaries: &[(BucketInfo, u128)]) -> Result<(), Fault> {
        self.stack.call(call("hashes.summarise"), || self.port.summarise(pipeline, summaries)).await
    }

    async fn size(&self, pipeline: &PipelineId) -> Result<(u64, u64), Fault> {
        self.stack.call(call("hashes.size"), || self.port.size(pipeline)).await
    }

    async fn incarnation(&self) -> Result<Option<String>, Fault> {
        self.stack.call(call("hashes.incarnation"), || self.port.incarnation()).await
    }

    async fn create_incarnation(&self, name: &str) -> Result<(), Fault> {
        self.stack.call(call("hashes.create_incarnation"), || self.port.create_incarnation(name)).await
    }
}

#[async_trait]
impl StateStore for Guarded<dyn StateStore> {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Fault> {
        self.stack.call(call("state.get"), || self.port.get(key)).await
    }

    async fn put(&self, key: &str, value: &[u8], expect: Expect) -> Result<Option<u64>, Fault> {
        self.stack.call(call("state.put"), || self.port.put(key, value, expect)).await
    }

    async fn remove(&self, key: &str) -> Result<(), Fault> {
        self.stack.call(call("state.remove"), || self.port.remove(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Entry)>, Fault> {
        self.stack.call(call("state.list"), || self.port.list(prefix, after, limit)).await
    }

    async fn lease(&self, key: &str, holder: &str, ttl_ms: u64) -> Result<Option<Lease>, Fault> {
        self.stack.call(call("state.lease"), || self.port.lease(key, holder, ttl_ms)).await
    }

    async fn release(&self, key: &str, holder: &str) -> Result<(), Fault> {
        self.stack.call(call("state.release"), || self.port.release(key, holder)).await
    }

    async fn next_position(&self, pipeline: &PipelineId) -> Result<u64, Fault> {
        self.stack.call(call("state.next_position"), || self.port.next_position(pipeline)).await
    }

    async fn now_ms(&self) -> Result<u64, Fault> {
        self.stack.call(call("state.now_ms"), || self.port.now_ms()).await
    }
}

#[async_trait]
impl DeadLetters for Guarded<dyn DeadLetters> {
    async fn put(&self, pipeline: &PipelineId, letters: &[DeadLetter]) -> Result<(), Fault> {
        self.stack.call(call("dead.put"), || self.port.put(pipeline, letters)).await
    }

    async fn get(&self, pipeline: &PipelineId, key: &Key) -> Result<Option<DeadLetter>, Fault> {
        self.stack.call(call("dead.get"), || self.port.get(pipeline, key)).await
    }

    async fn list(&self, pipeline: &PipelineId, after: Option<&Key>, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        self.stack.call(call("dead.list"), || self.port.list(pipeline, after, limit)).await
    }

    async fn count(&self, pipeline: &PipelineId) -> Result<u64, Fault> {
        self.stack.call(call("dead.count"), || self.port.count(pipeline)).await
    }

    async fn remove(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<(), Fault> {
        self.stack.call(call("dead.remove"), || self.port.remove(pipeline, keys)).await
    }
}
