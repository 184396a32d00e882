//! What the target holds beyond the host, found by one ordered walk over both: for clean-up, and after an epoch was
//! raised again, when no mark tells of it (L11).

use fides_core::port::Expect;
use fides_core::{Fault, Held, Key, Mark, Version};
use serde::{Deserialize, Serialize};

use crate::inspect::walk::Sources;
use crate::place::{self, Bounds, Place};
use crate::soft::Flag;
use crate::spool::{self, Listed, Source};
use crate::{ForeignPolicy, Pipeline, epoch, persisted};

/// What a walk has met.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Walked {
    /// Records of the host.
    pub(crate) host_records: u64,
    /// Rows of the target that this pipeline never wrote, and that are left alone.
    pub(crate) foreign: u64,
}

/// Spools every key that the target has and the host has not as a candidate for deletion, unless the run's listing has
/// spooled it already: deletions are judged by their number. Each is judged, and fetched again, like every other candidate.
/// What both have is marked where no mark says that the target holds it. Holds a page of each side, and as many keys.
///
/// Goes on at `place`, and where `keeps`, keeps how far it is (L3: what was found is spooled before the place moves).
pub(crate) async fn spool_extras(pipeline: &Pipeline, place: &mut Place, keeps: bool) -> Result<(), Fault> {
    let state = &*pipeline.backplane.state;
    let spares = pipeline.foreign == ForeignPolicy::Keep && marks_tell(pipeline).await?;
    let sources = Sources::new(pipeline);
    if place.ranges.is_empty() {
        place.ranges = sources.plan().await?.into_iter().map(Bounds::from).collect();
        // What a walk of this run has left that kept no place.
        spool::clear(pipeline, &place.run, Source::Walk).await?;
    }
    let mut listed = Listed::new(pipeline, &place.run);
    let flag = Flag::of(pipeline);
    // A step that is done again replaces what it had spooled.
    let mut again = true;
    while let Some(bounds) = place.ranges.get(place.at) {
        let mut walk = sources.walk(&bounds.range(), place.after.as_deref().map(Key::from_bytes).as_ref());
        loop {
            let (mut extras, mut shared): (Vec<Key>, Vec<Key>) = Default::default();
            let walked = &mut place.walked;
            let more = walk
                .step(|host, target| {
                    walked.host_records += u64::from(host.is_some());
                    let present = target.filter(|(page, at)| {
                        // Its deletion was carried out.
                        host.is_some() || flag.as_ref().is_none_or(|flag| !flag.is_set(page, *at))
                    });
                    if let Some((page, at)) = present {
                        let keys = if host.is_some() { &mut shared } else { &mut extras };
                        keys.push(Key::from_bytes(page.keys.get(at)));
                    }
                })
                .await?;
            let mut extras = listed.without(extras).await?;
            if spares {
                place.walked.foreign += forget_foreign(pipeline, &mut extras).await?;
            }
            spool::put_step(pipeline, &place.run, (place.at, place.after.as_deref()), &extras, again).await?;
            again = false;
            adopt(pipeline, &shared).await?;
            place.after = walk.reached().map(|key| key.as_bytes().to_vec()).or(place.after.take());
            if !more {
                (place.at, place.after) = (place.at + 1, None);
            }
            if keeps {
                place.reached_ms = state.now_ms().await?;
                persisted::store(state, &place::entry(pipeline), &place, Expect::Any).await?;
            }
            if !more {
                break;
            }
        }
    }
    Ok(())
}

/// Whether a row without a mark is somebody else's. Where marks may have been lost it may as well be a record of ours that
/// the host has deleted since (L11): then it is judged like one.
async fn marks_tell(pipeline: &Pipeline) -> Result<bool, Fault> {
    Ok(epoch::owed(pipeline).await? == epoch::Owed::default())
}

/// Leaves out the rows that this pipeline never wrote; how many they are.
async fn forget_foreign(pipeline: &Pipeline, extras: &mut Vec<Key>) -> Result<u64, Fault> {
    if extras.is_empty() {
        return Ok(0);
    }
    let marks = pipeline.backplane.hashes.get(&pipeline.id, extras).await?;
    let before = extras.len();
    let mut marks = marks.iter();
    extras.retain(|_| marks.next().is_some_and(Option::is_some));
    Ok((before - extras.len()) as u64)
}

/// Marks what the target holds and the host has, where no mark tells of it, or one says that the target holds nothing (one
/// that was restored from a backup does): were the host to delete such a record before any import has met it, nothing would
/// remember that the target holds it. The mark proves nothing about what is held (L5): older than every change of this
/// epoch, or as old as the mark before (L4), and without a fingerprint.
pub(crate) async fn adopt(pipeline: &Pipeline, keys: &[Key]) -> Result<(), Fault> {
    let hashes = &*pipeline.backplane.hashes;
    for portion in keys.chunks(pipeline.limits.page_records_max.max(1)) {
        let marks = hashes.get(&pipeline.id, portion).await?;
        let is_told = |mark: &Option<Mark>| mark.is_some_and(|mark| mark.may_exist());
        if marks.iter().all(is_told) {
            continue;
        }
        let lowest = Version::scan(epoch::current(pipeline).await?, 0);
        let version = |mark: Option<Mark>| mark.map_or(lowest, |mark| mark.version.max(lowest));
        let untold = portion.iter().zip(marks).filter(|(_, mark)| !is_told(mark));
        let adopted: Vec<(Key, Mark)> = untold
            .map(|(key, mark)| (key.clone(), Mark { version: version(mark), fingerprint: None, held: Held::Present }))
            .collect();
        hashes.advance(&pipeline.id, &adopted).await?;
    }
    Ok(())
}
