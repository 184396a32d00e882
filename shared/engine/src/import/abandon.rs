//! The end of a run that cannot be resumed: its epoch has passed, its mapping has changed, or another mode is asked for.

use std::time::Duration;

use fides_core::Fault;
use fides_core::port::Expect;

use super::range::{ranges, reading_lease};
use super::run::{ASKS_PER_LEASE, Run, run_key};
use crate::lease::Held;
use crate::publishing::Worker;
use crate::{Pipeline, fence, persisted};

/// Comes before every epoch: a run of it is never resumed, assisted or taken for the latest.
const ABANDONED: u32 = 0;

/// Ends an unfinished run for good, and waits until nothing that it published is in flight (L7): its readers may be other
/// processes that are publishing a page. Waits for as long as such a reader does. Repeating it after a crash is harmless.
/// Returns the revision of the run's entry.
pub(super) async fn abandon(pipeline: &Pipeline, worker: &Worker, run: Run, revision: u64) -> Result<u64, Fault> {
    tracing::info!(pipeline = %pipeline.id, run = run.id, "an unfinished import is given up, and a new one begins");
    let (_, revision) = give_up(pipeline, worker, run, revision).await?;
    let before = fence::raise(pipeline).await?;
    fence::wait_settled(pipeline, before).await?;
    Ok(revision)
}

/// Takes an unfinished run away from its readers, and waits until none of them publishes any more. What they have published
/// may be in flight: the next import begins with a fence (L7). Returns the run as it is kept, which nobody resumes.
pub(super) async fn give_up(
    pipeline: &Pipeline,
    worker: &Worker,
    mut run: Run,
    revision: u64,
) -> Result<(Run, u64), Fault> {
    let state = &*pipeline.backplane.state;
    let key = run_key(&pipeline.id);
    // Before its ranges are gone: no process may take what is left of them for the whole run.
    run.epoch = ABANDONED;
    let revision = persisted::store(state, &key, &run, Expect::Revision(revision)).await?;
    let revision = revision.ok_or_else(|| persisted::lost_race(&key))?;
    for (entry, _) in ranges(pipeline, &run.id).await? {
        state.remove(&entry).await?;
    }
    for place in 0..run.ranges {
        // Whoever has the lease now ends when it cannot save its cursor; whoever takes it later finds no range.
        let held = loop {
            let lease = reading_lease(pipeline, place);
            if let Some(held) = Held::take(state, lease, &worker.holder, pipeline.limits.lease_ms).await? {
                break held;
            }
            tokio::time::sleep(Duration::from_millis(pipeline.limits.lease_ms / ASKS_PER_LEASE)).await;
        };
        held.release().await;
    }
    Ok((run, revision))
}
