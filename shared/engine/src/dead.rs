//! What an operator does with dead letters.

use fides_core::{Fault, Held, Key, Mark, Origin};

use crate::{Pipeline, refresh};

/// Sends the host's present state of dead records again; an old body is never sent (DESIGN §7). The letters go away when
/// their records are written. Returns how many changes were published.
pub async fn replay(pipeline: &Pipeline, keys: &[Key]) -> Result<u64, Fault> {
    refresh(pipeline, keys, Origin::Repair, true).await
}

/// Drops letters without sending anything. Their records stay as the target has them until the host changes them.
pub async fn drop_letters(pipeline: &Pipeline, keys: &[Key]) -> Result<(), Fault> {
    pipeline.backplane.dead.remove(&pipeline.id, keys).await
}

/// Whether a mark says that its version is a dead letter.
pub(crate) fn is_dead(mark: Option<&Mark>) -> bool {
    mark.is_some_and(|mark| mark.held == Held::Dead)
}
