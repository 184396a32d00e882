use fides_core::port::Expect;
use fides_core::{Fault, Lane};

use crate::lease::Held;
use crate::{Pipeline, epoch, persisted};

/// Claims a lane at the target: from here on no write of an earlier owner lands (L6).
///
/// Target and state store both remember who claimed it last. Where they disagree, one of them is not what it was: made
/// anew, or restored from a backup. The epoch rises, and the import that follows trusts no mark (L11).
pub(super) async fn claim(pipeline: &Pipeline, lane: &Lane, lease: &Held<'_>) -> Result<u64, Fault> {
    let (state, target) = (&*pipeline.backplane.state, &*pipeline.target);
    let current = epoch::current(pipeline).await?;
    let token = epoch::write_token(current, lease.token);
    let key = format!("claimed/{lane}");
    let known = persisted::load::<u64>(state, &key).await?.map(|(known, _)| known);
    let found = target.claimed(&pipeline.sink, lane).await?;
    let known = known.filter(|&known| epoch::epoch_of(known) == current);
    let lost = if known.is_some() && found < known {
        Some("the target does not remember who claimed it last: it was made anew, or restored from a backup")
    } else if found > Some(token) && lease.is_held().await? {
        Some("the state store does not remember who claimed the target last: it was restored from a backup")
    } else {
        None
    };
    if let Some(lost) = lost {
        epoch::raise(pipeline, current).await?;
        return Err(Fault::transient(format!("{lost}; everything is compared anew")));
    }
    target.claim(&pipeline.sink, lane, token).await?;
    persisted::store(state, &key, &token, Expect::Any).await?;
    Ok(token)
}
