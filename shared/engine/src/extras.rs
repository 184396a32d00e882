//! What the target holds beyond the host, found by one ordered walk over both: for clean-up, and after an epoch was
//! raised again, when no mark tells of it (L11).

use fides_core::port::Expect;
use fides_core::{Fault, Held, Key, KeyRange, Mark, Version};
use serde::{Deserialize, Serialize};

use crate::inspect::walk::Sources;
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
/// What both have is marked where it was not. Holds a page of each side, and as many keys.
///
/// Goes on at `place`, and keeps under `entry`, if there is one, how far it is.
pub(crate) async fn spool_extras(pipeline: &Pipeline, mut place: Place, entry: Option<&str>) -> Result<Walked, Fault> {
    let run = place.run.clone();
    let spares = pipeline.foreign == ForeignPolicy::Keep && marks_tell(pipeline).await?;
    let sources = Sources::new(pipeline);
    if place.ranges.is_empty() {
        place.ranges = sources.plan().await?.into_iter().map(Bounds::from).collect();
    }
    let mut listed = Listed::new(pipeline, &run);
    let flag = Flag::of(pipeline);
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
                walked.foreign += forget_foreign(pipeline, &mut extras).await?;
            }
            spool::put(pipeline, &run, Source::Walk, &extras).await?;
            adopt(pipeline, &shared).await?;
            place.after = walk.reached().map(|key| key.as_bytes().to_vec()).or(place.after);
            if !more {
                (place.at, place.after) = (place.at + 1, None);
            }
            if let Some(entry) = entry {
                // L3: what was found is spooled; only now the place moves.
                persisted::store(&*pipeline.backplane.state, entry, &place, Expect::Any).await?;
            }
            if !more {
                break;
            }
        }
    }
    Ok(place.walked)
}

/// How far a walk is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The run that its candidates are spooled for.
    pub(crate) run: String,
    /// The epoch of the marks that it trusts.
    pub(crate) epoch: u32,
    /// When it began, in milliseconds since 1970.
    pub(crate) began_ms: u64,
    /// Planned once: they must be the same when the walk goes on.
    ranges: Vec<Bounds>,
    /// The range at hand.
    at: usize,
    /// The last key of it that was seen.
    after: Option<Vec<u8>>,
    walked: Walked,
}

impl Place {
    /// At the beginning.
    pub(crate) fn new(run: String, epoch: u32, began_ms: u64) -> Self {
        Self { run, epoch, began_ms, ..Self::default() }
    }
}

/// A range of keys, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Bounds {
    lower: Option<Vec<u8>>,
    upper: Option<Vec<u8>>,
}

impl Bounds {
    fn range(&self) -> KeyRange {
        let key = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(Key::from_bytes);
        KeyRange { lower: key(&self.lower), upper: key(&self.upper) }
    }
}

impl From<KeyRange> for Bounds {
    fn from(KeyRange { lower, upper }: KeyRange) -> Self {
        let bytes = |key: Option<Key>| key.map(|key| key.as_bytes().to_vec());
        Self { lower: bytes(lower), upper: bytes(upper) }
    }
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
