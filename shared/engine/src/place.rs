//! How far a clean-up's walk is: kept, so that one that died is gone on with, for a short while.
//!
//! What is found is fetched again before it is deleted, however long ago it was found. What grows old is the count of the
//! host: so a walk is not gone on with after [`RESUME_MS_MAX`], nor when its listing was through, nor under other rules.

use fides_core::{Fault, Key, KeyRange, put_bytes};
use serde::{Deserialize, Serialize};

use crate::admin::{self, Allowance};
use crate::extras::Walked;
use crate::{Pipeline, cleanup, epoch, follow, persisted};

/// Begins the names of clean-ups, among other runs.
pub(crate) const RUN_KIND: &str = "cleanup-";
/// A walk is gone on with so long after its last step.
const RESUME_MS_MAX: u64 = 10 * 60_000;

/// How far a walk is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The run that its candidates are spooled for.
    pub(crate) run: String,
    /// The epoch of the marks that it trusts (L11).
    epoch: u32,
    /// What it compares, and by which rules.
    rules: Vec<u8>,
    /// What orders it among cancellations.
    number: u64,
    /// The state entry of the job whose approval it uses.
    job: Option<String>,
    /// The instant that it is due for, in milliseconds since 1970.
    pub(crate) due_ms: u64,
    /// When it was last a step further, in milliseconds since 1970.
    pub(crate) reached_ms: u64,
    /// Deletions that the host's log had told when it began.
    pub(crate) told: u64,
    /// Planned once: they must be the same when the walk goes on.
    pub(crate) ranges: Vec<Bounds>,
    /// The range at hand.
    pub(crate) at: usize,
    /// The last key of it that was seen.
    pub(crate) after: Option<Vec<u8>>,
    pub(crate) walked: Walked,
}

impl Place {
    /// Of a run that keeps none: it begins anew with every attempt.
    pub(crate) fn of(run: &str) -> Self {
        Self { run: run.to_owned(), ..Self::default() }
    }
}

/// A range of keys, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Bounds {
    lower: Option<Vec<u8>>,
    upper: Option<Vec<u8>>,
}

impl Bounds {
    pub(crate) fn range(&self) -> KeyRange {
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

/// The state entry of a pipeline's place.
pub(crate) fn entry(pipeline: &Pipeline) -> String {
    format!("cleanup-place/{}", pipeline.id)
}

/// What a walk compares, and by which rules: under others its candidates may be none.
fn rules(pipeline: &Pipeline) -> Vec<u8> {
    let Pipeline { selection, sink, delete, foreign, .. } = pipeline;
    let mut rules = Vec::new();
    for part in [
        format!("{:?}", selection.namespace),
        format!("{:?}", selection.key),
        format!("{:?}", sink.namespace),
        format!("{delete:?}"),
        format!("{foreign:?}"),
    ] {
        put_bytes(&mut rules, part.as_bytes());
    }
    rules
}

/// The kept place of a clean-up that nobody has cancelled.
async fn kept(pipeline: &Pipeline) -> Result<Option<Place>, Fault> {
    let kept = persisted::load::<Place>(&*pipeline.backplane.state, &entry(pipeline)).await?;
    let Some((place, _)) = kept else { return Ok(None) };
    Ok(admin::cancelled(pipeline, place.number).await?.is_none().then_some(place))
}

/// The instant that an unfinished clean-up of the schedule was due for: it is due now.
pub async fn unfinished_due_ms(pipeline: &Pipeline) -> Result<Option<u64>, Fault> {
    let Some(place) = kept(pipeline).await?.filter(|place| place.job.is_none()) else { return Ok(None) };
    // A place that was kept by somebody who had lost the lease may be of one that is done.
    let last_ms = cleanup::last_due_ms(pipeline).await?;
    Ok(Some(place.due_ms).filter(|due_ms| last_ms.is_none_or(|last_ms| last_ms < *due_ms)))
}

/// Where a clean-up goes on that died, or begins. `number` orders it among cancellations.
pub(crate) async fn open(
    pipeline: &Pipeline,
    due_ms: u64,
    number: u64,
    allowance: Option<&Allowance<'_>>,
) -> Result<Place, Fault> {
    let state = &*pipeline.backplane.state;
    let (now_ms, epoch) = (state.now_ms().await?, epoch::current(pipeline).await?);
    let job = allowance.map(|allowance| allowance.job().to_owned());
    let new = Place {
        run: format!("{RUN_KIND}{now_ms:013}"),
        epoch,
        rules: rules(pipeline),
        number,
        job,
        due_ms,
        reached_ms: now_ms,
        told: follow::told_gone(pipeline).await?,
        ..Place::default()
    };
    let Some(kept) = kept(pipeline).await? else { return Ok(new) };
    let same = (kept.epoch, &kept.rules, &kept.job) == (new.epoch, &new.rules, &new.job);
    // A person has approved so many deletions, whatever the host's count is: those of the same job go on anywhere.
    let is_approved = match allowance {
        Some(allowance) => allowance.left().await?.is_ok(),
        None => false,
    };
    let fresh = is_approved || (kept.at < kept.ranges.len() && now_ms <= kept.reached_ms + RESUME_MS_MAX);
    if same && fresh && !is_empty(pipeline, &kept).await? { Ok(kept) } else { Ok(new) }
}

/// Whether the host has nothing left where the walk began: it may have been emptied since.
async fn is_empty(pipeline: &Pipeline, place: &Place) -> Result<bool, Fault> {
    let Some(first) = place.ranges.first() else { return Ok(true) };
    if place.walked.host_records == 0 {
        return Ok(false);
    }
    Ok(pipeline.peek_host().await?.scan(&first.range(), None).await?.is_empty())
}
