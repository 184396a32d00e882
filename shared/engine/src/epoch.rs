//! The epoch of a pipeline's versions (DESIGN §5, L11).

use fides_core::port::{Expect, Lineage};
use fides_core::{Fault, Lane};
use serde::{Deserialize, Serialize};

use crate::{Pipeline, persisted};

/// Processes that establish the same epoch at the same moment: each race has a winner.
const RACES_MAX: usize = 16;
/// A billion changes of owner in one epoch.
const LEASE_BITS: u32 = 30;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Epoch {
    epoch: u32,
    lineage: Lineage,
    incarnation: String,
    /// How many lanes the records of this epoch go through.
    #[serde(default)]
    lanes: u16,
    /// No mark can be trusted; cleared by the end of an import that trusted none.
    #[serde(default)]
    rebuild_marks: bool,
    /// The target must be compared too before this epoch can be trusted; cleared by the run that did it.
    #[serde(default)]
    compare_target: bool,
}

fn key(pipeline: &Pipeline) -> String {
    format!("epoch/{}", pipeline.id)
}

/// What [`establish`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    /// The epoch is the one that was stored.
    No,
    /// The pipeline had no epoch: it is new, or everything about it was lost.
    First,
    /// Marks may be missing, or positions may have gone backward: the listing of the target must be compared too.
    Again,
}

/// Makes sure that the pipeline's epoch belongs to this host's lineage, this incarnation of the hash store and this number of
/// lanes, and raises it where it does not: positions may have gone backward. Every import begins with this. Faults while the
/// epoch's lanes hold messages and are not as many as the pipeline's.
pub async fn establish(pipeline: &Pipeline) -> Result<Raised, Fault> {
    for _ in 0..RACES_MAX {
        if let Some(raised) = try_establish(pipeline, None).await? {
            return Ok(raised);
        }
    }
    Err(persisted::lost_race(&key(pipeline)))
}

/// Raises the epoch unless it is above `passed` already: what marks tell of the target is not true any more.
pub(crate) async fn raise(pipeline: &Pipeline, passed: u32) -> Result<(), Fault> {
    for _ in 0..RACES_MAX {
        if try_establish(pipeline, Some(passed)).await?.is_some() {
            return Ok(());
        }
    }
    Err(persisted::lost_race(&key(pipeline)))
}

/// `None` when another process was faster: what it stored may be what is wanted.
async fn try_establish(pipeline: &Pipeline, passed: Option<u32>) -> Result<Option<Raised>, Fault> {
    let state = &*pipeline.backplane.state;
    let lineage = pipeline.host.lineage().await?;
    let incarnation = incarnation(pipeline).await?;
    let key = key(pipeline);
    let stored = persisted::load::<Epoch>(state, &key).await?;
    let lanes = pipeline.limits.lanes.max(1);
    let holds = |epoch: &Epoch| {
        epoch.lineage == lineage
            && epoch.incarnation == incarnation
            && epoch.lanes == lanes
            && passed.is_none_or(|passed| epoch.epoch > passed)
    };
    if stored.as_ref().is_some_and(|(epoch, _)| holds(epoch)) {
        return Ok(Some(Raised::No));
    }
    if let Some((stored, _)) = &stored
        && stored.lanes != lanes
    {
        abandon(pipeline, stored.lanes).await?;
        tracing::info!(pipeline = %pipeline.id, before = stored.lanes, lanes, "another number of lanes: the epoch rises");
    }
    let seconds = u32::try_from(state.now_ms().await? / 1_000).unwrap_or(u32::MAX);
    let (stored, expect) = match stored {
        Some((stored, revision)) => (stored.epoch, Expect::Revision(revision)),
        None => (0, Expect::Absent),
    };
    // L11: the target remembers who wrote it. Where the state store was lost, that alone tells a pipeline that had
    // written before from a new one, and from which epoch on its writes would be refused.
    let last = stored.max(written_in(pipeline).await?);
    let epoch = seconds.max(last.saturating_add(1));
    let raised = Epoch { epoch, lineage, incarnation, lanes, rebuild_marks: last > 0, compare_target: last > 0 };
    if persisted::store(state, &key, &raised, expect).await?.is_none() {
        return Ok(None);
    }
    if last == 0 {
        return Ok(Some(Raised::First));
    }
    tracing::warn!(pipeline = %pipeline.id, last, epoch, lineage = raised.lineage.0,
        "versions have a new authority, or marks were lost: the epoch has risen");
    Ok(Some(Raised::Again))
}

/// Makes sure that nothing waits in the lanes of an epoch that another one of other lanes is to follow. Nobody would consume the
/// surplus ones although what is in them was confirmed (L3), no fence would see them (L7), and changes of one record in two
/// lanes have no order. What a process of the old number still publishes was read before the epoch rose: the import that
/// follows sees it.
async fn abandon(pipeline: &Pipeline, lanes: u16) -> Result<(), Fault> {
    let mut waiting = 0;
    for index in 0..lanes {
        waiting += pipeline.backplane.queue.depth(&Lane { pipeline: pipeline.id.clone(), index }).await?;
    }
    if waiting == 0 {
        return Ok(());
    }
    let now = pipeline.limits.lanes.max(1);
    Err(Fault::unavailable(format!(
        "limits.lanes of pipeline {} was {lanes} and is {now}, and {waiting} messages wait in its lanes",
        pipeline.id
    ))
    .advise(format!(
        "set it to {lanes} again; to change it, stop importers and event-handlers, let the lanes empty, stop the consumers, and \
         start all of them with the new number"
    )))
}

/// The latest epoch in which somebody took a lane to write the target; 0 when nobody ever did.
async fn written_in(pipeline: &Pipeline) -> Result<u32, Fault> {
    let mut epoch = 0;
    for lane in pipeline.lanes() {
        let token = pipeline.target.claimed(&pipeline.sink, &lane).await?;
        epoch = epoch.max(token.map_or(0, epoch_of));
    }
    Ok(epoch)
}

/// The token of a lane's owner at the target. The epoch comes first, because a state store that was lost begins to count
/// its leases again, while the target remembers the last token (L6, L11). Stays below 2^63, which SQL can hold.
pub(crate) fn write_token(epoch: u32, lease: u64) -> u64 {
    (u64::from(epoch) << LEASE_BITS) | (lease & ((1 << LEASE_BITS) - 1))
}

/// The epoch of a [`write_token`].
pub(crate) fn epoch_of(token: u64) -> u32 {
    u32::try_from(token >> LEASE_BITS).unwrap_or(u32::MAX)
}

/// The hash store's sentinel (L11); a store without one is new and gets one.
async fn incarnation(pipeline: &Pipeline) -> Result<String, Fault> {
    let hashes = &*pipeline.backplane.hashes;
    if let Some(name) = hashes.incarnation().await? {
        return Ok(name);
    }
    let name = format!("{:x}-{:x}", pipeline.backplane.state.now_ms().await?, fastrand::u64(..));
    hashes.create_incarnation(&name).await?;
    // Another process may have named it at the same moment; the store keeps one name.
    Ok(hashes.incarnation().await?.unwrap_or(name))
}

/// The epoch that [`establish`] stored.
pub async fn current(pipeline: &Pipeline) -> Result<u32, Fault> {
    let stored = persisted::load::<Epoch>(&*pipeline.backplane.state, &key(pipeline)).await?;
    stored.map(|(stored, _)| stored.epoch).ok_or_else(|| {
        Fault::unavailable(format!("pipeline {} has no epoch yet", pipeline.id)).advise("start an import first")
    })
}

/// What an epoch that was raised again still asks of imports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owed {
    /// An import that trusts no mark: those that survived may be older than what the target holds.
    pub(crate) rebuild_marks: bool,
    /// A comparison of the target: marks may be missing.
    pub(crate) compare_target: bool,
}

/// What the current epoch still asks of imports.
pub(crate) async fn owed(pipeline: &Pipeline) -> Result<Owed, Fault> {
    let stored = persisted::load::<Epoch>(&*pipeline.backplane.state, &key(pipeline)).await?;
    Ok(stored.map_or_else(Owed::default, |(stored, _)| Owed {
        rebuild_marks: stored.rebuild_marks,
        compare_target: stored.compare_target,
    }))
}

/// Says that the target may hold rows that no mark tells of: the next import of `epoch` compares it.
pub(crate) async fn doubt_marks(pipeline: &Pipeline, epoch: u32) -> Result<(), Fault> {
    for _ in 0..RACES_MAX {
        let (key, state) = (key(pipeline), &*pipeline.backplane.state);
        let Some((stored, revision)) = persisted::load::<Epoch>(state, &key).await? else { return Ok(()) };
        // A later epoch begins with that comparison.
        if stored.epoch != epoch || stored.compare_target {
            return Ok(());
        }
        let doubted = Epoch { compare_target: true, ..stored };
        if persisted::store(state, &key, &doubted, Expect::Revision(revision)).await?.is_some() {
            return Ok(());
        }
    }
    Err(persisted::lost_race(&key(pipeline)))
}

/// Says what is still owed in `epoch`. Changes nothing where the epoch has risen since.
pub(crate) async fn settle(pipeline: &Pipeline, epoch: u32, owed: Owed) -> Result<(), Fault> {
    let key = key(pipeline);
    let state = &*pipeline.backplane.state;
    let Some((stored, revision)) = persisted::load::<Epoch>(state, &key).await? else { return Ok(()) };
    if stored.epoch != epoch {
        return Ok(());
    }
    let settled = Epoch { rebuild_marks: owed.rebuild_marks, compare_target: owed.compare_target, ..stored };
    persisted::store(state, &key, &settled, Expect::Revision(revision))
        .await?
        .ok_or_else(|| persisted::lost_race(&key))?;
    Ok(())
}

/// Whether hash store and lanes are those that the epoch was established with.
pub(crate) async fn is_current(pipeline: &Pipeline) -> Result<bool, Fault> {
    let stored = persisted::load::<Epoch>(&*pipeline.backplane.state, &key(pipeline)).await?;
    let incarnation = pipeline.backplane.hashes.incarnation().await?;
    let lanes = pipeline.limits.lanes.max(1);
    Ok(stored.is_some_and(|(stored, _)| Some(stored.incarnation) == incarnation && stored.lanes == lanes))
}
