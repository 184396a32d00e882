use fides_core::port::{Expect, Fencing};
use fides_core::{Fault, Lane};

use crate::{Pipeline, epoch, persisted};

/// Claims a lane at the target: from here on no write of an earlier owner lands (L6).
///
/// A target that does not remember the last claim of this epoch is not the one that the marks tell of: it was made anew,
/// or restored from a backup. The epoch rises, and the import that follows trusts no mark (L11).
pub(super) async fn claim(pipeline: &Pipeline, lane: &Lane, lease: u64) -> Result<u64, Fault> {
    let (state, target) = (&*pipeline.backplane.state, &*pipeline.target);
    let current = epoch::current(pipeline).await?;
    let token = epoch::write_token(current, lease);
    let key = format!("claimed/{lane}");
    let known = persisted::load::<u64>(state, &key).await?.map(|(known, _)| known);
    if let Some(known) = known.filter(|&known| epoch::epoch_of(known) == current)
        && target.fencing() == Fencing::LaneToken
        && target.claimed(&pipeline.sink, lane).await? < Some(known)
    {
        tracing::warn!(%lane, "the target is not what it was: it was made anew, or restored from a backup");
        epoch::raise(pipeline, current).await?;
        return Err(Fault::transient("the target does not remember the lane's last owner: everything is sent again"));
    }
    target.claim(&pipeline.sink, lane, token).await?;
    persisted::store(state, &key, &token, Expect::Any).await?;
    Ok(token)
}
