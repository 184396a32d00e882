//! How many messages a lane holds.

use fides_core::{Fault, Lane};

use crate::broker::Broker;
use crate::topology::ready;

/// Looks at a lane that flows before an answer that is a little too small is taken.
const LOOKS_MAX: usize = 8;

/// Messages in a lane; `None` where it has no queue yet.
///
/// The broker tells how many are ready, not how many are delivered and unsettled. Those that a consumer of this process
/// holds are added: exactly, when nothing was delivered or settled while we looked. What a consumer of *another* process
/// holds, at most its prefetch, is not seen.
pub(crate) async fn depth(broker: &Broker, lane: &Lane) -> Result<Option<u64>, Fault> {
    let open = broker.consuming.open().await?;
    let Some(seated) = broker.lane(lane).seated() else {
        let borrowed = open.borrow().await?;
        let depth = ready(&open, &borrowed.channel, lane).await?;
        // A question about a queue that is not there has closed the channel.
        if depth.is_some() {
            borrowed.give_back();
        }
        return Ok(depth);
    };
    let mut seen = 0;
    for _ in 0..LOOKS_MAX {
        let before = seated.inbox.count();
        let borrowed = open.borrow().await?;
        let Some(ready) = ready(&open, &borrowed.channel, lane).await? else { return Ok(None) };
        borrowed.give_back();
        // What had left the queue when it was asked is here when its own channel answers.
        if seated.round_trip().await.is_err() {
            // Its channel has ended: what it held is on its way back into the queue.
            return Ok(Some(ready + before.held()));
        }
        seen = ready + before.held();
        if seated.inbox.count() == before {
            break;
        }
    }
    Ok(Some(seen))
}
