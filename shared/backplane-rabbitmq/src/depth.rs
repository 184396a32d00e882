//! How many messages a lane holds.

use std::sync::Arc;

use fides_core::{Fault, Lane};

use crate::broker::{Broker, LaneState};
use crate::inbox::Count;
use crate::subscription::Seated;
use crate::topology::{queue_name, ready};

/// Looks at a lane that flows before an answer that is a little too large is taken: one that is too small would let a publisher in
/// where there is no room (L10), and take a lane for empty that is not.
const LOOKS_MAX: usize = 8;

/// Messages in a lane; `None` where it has no queue yet.
///
/// The broker tells how many are ready, not how many are delivered and unsettled. Those that a consumer of this process
/// holds are added: exactly, when nothing was delivered or settled while we looked. What a consumer of *another* process
/// holds, at most its prefetch, is not seen.
pub(crate) async fn depth(broker: &Broker, lane: &Lane) -> Result<Option<u64>, Fault> {
    let queue = queue_name(lane)?;
    let open = broker.consuming.open().await?;
    let state = broker.lane(lane);
    let mut seen = 0;
    for _ in 0..LOOKS_MAX {
        let before = Held::of(&state);
        let borrowed = open.borrow().await?;
        // A question about a queue that is not there has closed the channel.
        let Some(ready) = ready(&open, &borrowed.channel, &queue).await? else { return Ok(None) };
        borrowed.give_back();
        if let Some(seated) = &before.by {
            // When its own channel answers, what had left the queue when it was asked is here. One that has ended does
            // not answer: nothing comes over it any more.
            let _ = seated.round_trip().await;
        }
        let after = Held::of(&state);
        seen = ready + before.most_until(&after);
        if after == before {
            break;
        }
    }
    Ok(Some(seen))
}

/// What this process holds of a lane.
struct Held {
    by: Option<Arc<Seated>>,
    count: Count,
}

impl Held {
    fn of(state: &LaneState) -> Self {
        let by = state.seated();
        let count = by.as_ref().map(|seated| seated.inbox.count()).unwrap_or_default();
        Self { by, count }
    }

    /// How many were held at any moment between this and a later look, at most.
    fn most_until(&self, later: &Self) -> u64 {
        if self.by.as_ref().map(Arc::as_ptr) == later.by.as_ref().map(Arc::as_ptr) {
            return self.count.most_until(later.count);
        }
        // What the one got until it was given up, and all that the other ever got.
        let first = self.by.as_ref().map_or(0, |seated| self.count.most_until(seated.inbox.count()));
        first + Count::default().most_until(later.count)
    }
}

/// Nothing came, went or was settled in between.
impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.by.as_ref().map(Arc::as_ptr) == other.by.as_ref().map(Arc::as_ptr) && self.count == other.count
    }
}
