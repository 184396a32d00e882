//! What the target holds beyond the host, found by one ordered walk over both: for clean-up, and after an epoch was
//! raised again, when no mark tells of it (L11).

use fides_core::{Fault, Held, Key, Mark, Version};

use crate::inspect::walk::Sources;
use crate::spool::{self, Listed, Source};
use crate::{Pipeline, epoch};

/// Spools every key that the target has and the host has not as a candidate for deletion, unless the run's listing has
/// spooled it already: deletions are judged by their number. Each is judged, and fetched
/// again, like every other candidate. What both have is marked where it was not. Returns how many records the host has.
/// Holds a page of each side, and as many keys.
pub(crate) async fn spool_extras(pipeline: &Pipeline, run: &str) -> Result<u64, Fault> {
    let sources = Sources::new(pipeline);
    let (mut host_records, mut listed) = (0, Listed::new(pipeline, run));
    for range in sources.plan().await? {
        let mut walk = sources.walk(&range);
        loop {
            let (mut extras, mut shared): (Vec<Key>, Vec<Key>) = Default::default();
            let more = walk
                .step(|host, target| {
                    host_records += u64::from(host.is_some());
                    if let Some((page, at)) = target {
                        let keys = if host.is_some() { &mut shared } else { &mut extras };
                        keys.push(Key::from_bytes(page.keys.get(at)));
                    }
                })
                .await?;
            let extras = listed.without(extras).await?;
            spool::put(pipeline, run, Source::Walk, &extras).await?;
            adopt(pipeline, &shared).await?;
            if !more {
                break;
            }
        }
    }
    Ok(host_records)
}

/// Marks what the target holds and the host has, where no mark tells of it: were the host to delete such a record before
/// any import has met it, nothing would remember that the target holds it. The mark proves nothing about what is held
/// (L5): older than every change of this epoch, and without a fingerprint.
pub(crate) async fn adopt(pipeline: &Pipeline, keys: &[Key]) -> Result<(), Fault> {
    let hashes = &*pipeline.backplane.hashes;
    for portion in keys.chunks(pipeline.limits.page_records_max.max(1)) {
        let marks = hashes.get(&pipeline.id, portion).await?;
        if marks.iter().all(Option::is_some) {
            continue;
        }
        let version = Version::scan(epoch::current(pipeline).await?, 0);
        let mark = Mark { version, fingerprint: None, held: Held::Present };
        let unmarked = portion.iter().zip(&marks).filter(|(_, mark)| mark.is_none());
        let adopted: Vec<(Key, Mark)> = unmarked.map(|(key, _)| (key.clone(), mark)).collect();
        hashes.advance(&pipeline.id, &adopted).await?;
    }
    Ok(())
}
