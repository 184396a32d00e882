use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fides_core::port::{Consumer, Delivery};
use fides_core::{Change, Fault, FenceId, Limits, Message, Origin, Shape};
use tokio::time::{Instant, timeout_at};

/// Several deliveries that are applied, marked and settled together.
#[derive(Debug)]
pub(super) struct Gathered {
    /// Tags of the deliveries, in order.
    pub(super) tags: Vec<u64>,
    /// Fields of all documents.
    pub(super) shape: Option<Arc<Shape>>,
    /// Where the changes of each batch begin, and its trace.
    traces: Vec<(usize, Option<String>)>,
    /// How many of the deliveries may have been delivered before.
    pub(super) redelivered: usize,
    /// When the oldest of the deliveries was sent, where the queue tells.
    pub(super) sent_ms: Option<u64>,
    /// Changes, in order.
    pub(super) changes: Vec<Change>,
    /// The marker that ended the gathering.
    pub(super) fence: Option<FenceId>,
}

impl Gathered {
    /// Traces of the batches, in order.
    pub(super) fn traces(&self) -> impl ExactSizeIterator<Item = Option<&str>> {
        self.traces.iter().map(|(_, trace)| trace.as_deref())
    }

    /// Trace of the batch that change `at` came in.
    pub(super) fn trace(&self, at: usize) -> Option<&str> {
        let batch = self.traces.partition_point(|&(begin, _)| begin <= at).checked_sub(1)?;
        self.traces[batch].1.as_deref()
    }
}

/// Collects deliveries by count, bytes or time. What does not fit waits in `held` for the next round.
pub(super) struct Gatherer {
    held: VecDeque<Delivery>,
    /// What ended the consumer behind the last deliveries.
    failed: Option<Fault>,
}

impl Gatherer {
    pub(super) fn new() -> Self {
        Self { held: VecDeque::new(), failed: None }
    }

    /// Waits for a first delivery, then gathers until a limit is reached, a marker comes, or the documents change their
    /// shape. Where a change is among them that somebody waits for, only what has been delivered already goes with it: while it
    /// is written the next ones gather by themselves. A delivery that was taken when the future is dropped returns with its consumer. A fault of the consumer comes
    /// after what was gathered before it: a message that this release cannot read stops no message before it.
    pub(super) async fn next(&mut self, consumer: &mut dyn Consumer, limits: &Limits) -> Result<Gathered, Fault> {
        let mut gathered = Gathered {
            tags: Vec::new(),
            shape: None,
            traces: Vec::new(),
            redelivered: 0,
            sent_ms: None,
            changes: Vec::new(),
            fence: None,
        };
        let mut bytes = 0;
        let mut deadline = Instant::now();
        loop {
            let delivery = match self.held.pop_front() {
                Some(delivery) => delivery,
                None if gathered.tags.is_empty() => match self.failed.take() {
                    Some(fault) => return Err(fault),
                    None => consumer.next().await?,
                },
                None => match timeout_at(deadline, consumer.next()).await {
                    Ok(Ok(delivery)) => delivery,
                    Ok(Err(fault)) => {
                        self.failed = Some(fault);
                        return Ok(gathered);
                    }
                    Err(_) => return Ok(gathered),
                },
            };
            if gathered.tags.is_empty() {
                deadline = Instant::now() + Duration::from_millis(limits.gather_ms_max);
            }
            let size: usize = match &delivery.message {
                Message::Changes(batch) => batch.changes.iter().map(Change::bytes).sum(),
                Message::Fence(_) => 0,
            };
            if !gathered.tags.is_empty() && !fits(&gathered, &delivery.message, bytes + size, limits) {
                self.held.push_front(delivery);
                return Ok(gathered);
            }
            bytes += size;
            gathered.tags.push(delivery.tag);
            gathered.redelivered += usize::from(delivery.redelivered);
            gathered.sent_ms = gathered.sent_ms.into_iter().chain(delivery.sent_ms).min();
            match delivery.message {
                Message::Fence(fence) => {
                    gathered.fence = Some(fence);
                    return Ok(gathered);
                }
                Message::Changes(batch) => {
                    if batch.origin != Origin::Import {
                        deadline = Instant::now();
                    }
                    gathered.traces.push((gathered.changes.len(), batch.trace));
                    gathered.shape = Some(batch.shape);
                    gathered.changes.extend(batch.changes);
                }
            }
            if gathered.changes.len() >= limits.apply_records_max || bytes >= limits.apply_bytes_max {
                return Ok(gathered);
            }
        }
    }
}

fn fits(gathered: &Gathered, message: &Message, bytes: usize, limits: &Limits) -> bool {
    match message {
        Message::Fence(_) => true,
        Message::Changes(batch) => {
            gathered.shape.as_ref().is_none_or(|shape| **shape == *batch.shape)
                && gathered.changes.len() + batch.changes.len() <= limits.apply_records_max
                && bytes <= limits.apply_bytes_max
        }
    }
}
