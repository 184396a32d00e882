//! What the target holds beyond the host, found by one ordered walk over both: for clean-up, and after an epoch was
//! raised again, when no mark tells of it (L11).

use fides_core::{Fault, Key};

use crate::Pipeline;
use crate::inspect::walk::{Side, merge_pages};
use crate::spool::{self, Source};

/// Spools every key that the target has and the host has not as a candidate for deletion. Each is judged, and fetched
/// again, like every other candidate. Returns how many records the host has. Holds a page of each side, and as many keys.
pub(crate) async fn spool_extras(pipeline: &Pipeline, run: &str) -> Result<u64, Fault> {
    let (host, target) = futures::try_join!(pipeline.peek_host(), pipeline.open_target())?;
    let mut host_records = 0;
    for range in host.plan(pipeline.limits.host_partitions.max(1)).await? {
        let (mut left, mut right) = (Side::new(host.clone(), &range), Side::new(target.clone(), &range));
        loop {
            let mut extras: Vec<Key> = Vec::new();
            let more = merge_pages(&mut left, &mut right, &mut |left, right| {
                host_records += u64::from(left.is_some());
                if let (None, Some((page, at))) = (left, right) {
                    extras.push(Key::from_bytes(page.keys.get(at)));
                }
            })
            .await?;
            spool::put(pipeline, run, Source::Walk, &extras).await?;
            if !more {
                break;
            }
        }
    }
    Ok(host_records)
}
