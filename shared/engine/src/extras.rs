//! After an epoch was raised again, marks may be missing: what the target holds beyond the host is found by one ordered
//! walk over both, because no mark tells of it (L11).

use fides_core::{Fault, Key};

use crate::inspect::walk::{Side, merge};
use crate::{Pipeline, spool};

/// Spools every key that the target has and the host has not as a candidate for deletion. Each is judged, and fetched
/// again, like every other candidate.
pub(crate) async fn spool_extras(pipeline: &Pipeline, run: &str) -> Result<(), Fault> {
    let (host, target) = futures::try_join!(pipeline.peek_host(), pipeline.open_target())?;
    for range in host.plan(pipeline.limits.host_partitions.max(1)).await? {
        let mut extras: Vec<Key> = Vec::new();
        merge(&mut Side::new(host.clone(), &range), &mut Side::new(target.clone(), &range), |left, right| {
            if let (None, Some((page, at))) = (left, right) {
                extras.push(Key::from_bytes(page.keys.get(at)));
            }
        })
        .await?;
        for portion in extras.chunks(pipeline.limits.page_records_max.max(1)) {
            spool::put(pipeline, run, portion).await?;
        }
    }
    Ok(())
}
