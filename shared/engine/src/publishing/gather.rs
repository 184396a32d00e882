use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fides_core::port::{Consumer, Delivery};
use fides_core::{Change, Fault, FenceId, Limits, Message, Shape};
use tokio::time::{Instant, timeout_at};

/// Several deliveries that are applied, marked and settled together.
#[derive(Debug)]
pub(super) struct Gathered {
    /// Tags of the deliveries, in order.
    pub(super) tags: Vec<u64>,
    /// Fields of all documents.
    pub(super) shape: Option<Arc<Shape>>,
    /// Trace of the first batch that has one.
    pub(super) trace: Option<String>,
    /// Changes, in order.
    pub(super) changes: Vec<Change>,
    /// The marker that ended the gathering.
    pub(super) fence: Option<FenceId>,
}

/// Collects deliveries by count, bytes or time. What does not fit waits in `held` for the next round.
pub(super) struct Gatherer {
    held: VecDeque<Delivery>,
}

impl Gatherer {
    pub(super) fn new() -> Self {
        Self { held: VecDeque::new() }
    }

    /// Waits up to `idle` for a first delivery (`None`: nothing came), then gathers until a limit is reached, a marker
    /// comes, or the documents change their shape.
    pub(super) async fn next(
        &mut self,
        consumer: &mut dyn Consumer,
        limits: &Limits,
        idle: Duration,
    ) -> Result<Option<Gathered>, Fault> {
        let mut gathered = Gathered { tags: Vec::new(), shape: None, trace: None, changes: Vec::new(), fence: None };
        let mut bytes = 0;
        let mut deadline = Instant::now() + idle;
        loop {
            let delivery = match self.held.pop_front() {
                Some(delivery) => delivery,
                None => match timeout_at(deadline, consumer.next()).await {
                    Ok(delivery) => delivery?,
                    Err(_) if gathered.tags.is_empty() => return Ok(None),
                    Err(_) => return Ok(Some(gathered)),
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
                return Ok(Some(gathered));
            }
            bytes += size;
            gathered.tags.push(delivery.tag);
            match delivery.message {
                Message::Fence(fence) => {
                    gathered.fence = Some(fence);
                    return Ok(Some(gathered));
                }
                Message::Changes(batch) => {
                    gathered.trace = gathered.trace.or(batch.trace);
                    gathered.shape = Some(batch.shape);
                    gathered.changes.extend(batch.changes);
                }
            }
            if gathered.changes.len() >= limits.apply_records_max || bytes >= limits.apply_bytes_max {
                return Ok(Some(gathered));
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
