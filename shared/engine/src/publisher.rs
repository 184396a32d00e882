use std::sync::Arc;

use fides_core::decide::lane_of;
use fides_core::{Batch, Change, Envelope, Fault, Lane, Message, Origin, Shape};
use tracing::Instrument;

use crate::{Pipeline, Trace, trace};

/// Publishes changes to their lanes, in messages of at most `batch_records_max` and about `batch_bytes_max`, all under one
/// trace of their own. Returns once every message is confirmed (L3); waits while a lane is full. After a fault any part may
/// have been published.
pub async fn publish(
    pipeline: &Pipeline,
    shape: &Arc<Shape>,
    origin: Origin,
    changes: Vec<Change>,
) -> Result<(), Fault> {
    if changes.is_empty() {
        return Ok(());
    }
    let (own, sent) = (Trace::begin(), changes.len());
    let span = own.producer(&pipeline.id, name(origin));
    span.record("sent", sent);
    let published = publish_under(&own, pipeline, shape, origin, changes).instrument(span.clone()).await;
    trace::told(&span, published)
}

/// [`publish`] for changes that belong to a trace together with others.
pub async fn publish_under(
    trace: &Trace,
    pipeline: &Pipeline,
    shape: &Arc<Shape>,
    origin: Origin,
    changes: Vec<Change>,
) -> Result<(), Fault> {
    if changes.is_empty() {
        return Ok(());
    }
    tracing::debug!(pipeline = %pipeline.id, ?origin, changes = changes.len(), trace = trace.traceparent(), "publishing");
    let envelopes = envelopes(trace, pipeline, shape, origin, changes);
    pipeline.backplane.queue.publish(&envelopes).await
}

/// How an origin is told.
fn name(origin: Origin) -> &'static str {
    match origin {
        Origin::Import => "import",
        Origin::Event => "event",
        Origin::Cleanup => "cleanup",
        Origin::Repair => "repair",
    }
}

fn envelopes(
    trace: &Trace,
    pipeline: &Pipeline,
    shape: &Arc<Shape>,
    origin: Origin,
    changes: Vec<Change>,
) -> Vec<Envelope> {
    let limits = &pipeline.limits;
    let lanes = limits.lanes.max(1);
    let mut open: Vec<(Vec<Change>, usize)> = (0..lanes).map(|_| (Vec::new(), 0)).collect();
    let mut sealed = Vec::new();
    let mut seal = |index: u16, changes: Vec<Change>| {
        let lane = Lane { pipeline: pipeline.id.clone(), index };
        let trace = Some(trace.traceparent().to_owned());
        let batch = Batch { origin, trace, shape: shape.clone(), changes };
        sealed.push(Envelope { lane, message: Message::Changes(batch) });
    };
    for change in changes {
        let index = lane_of(change.key.as_bytes(), lanes);
        let (waiting, bytes) = &mut open[usize::from(index)];
        let size = change.bytes();
        if !waiting.is_empty() && (waiting.len() >= limits.batch_records_max || *bytes + size > limits.batch_bytes_max)
        {
            seal(index, std::mem::take(waiting));
            *bytes = 0;
        }
        waiting.push(change);
        *bytes += size;
    }
    for (index, (changes, _)) in (0..lanes).zip(open) {
        if !changes.is_empty() {
            seal(index, changes);
        }
    }
    sealed
}
