use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use fides_core::Change;
use fides_core::port::{Outcome, Target, Write};

use super::world::LOOK;
use crate::fake::Applies;

/// A target that does not answer writes for a while.
pub(super) struct Stalling(pub(super) Arc<AtomicBool>);

#[async_trait]
impl Applies for Stalling {
    async fn apply(&self, target: &dyn Target, write: &Write<'_>, changes: &[Change]) -> Vec<Outcome> {
        while self.0.load(Ordering::Relaxed) {
            tokio::time::sleep(LOOK).await;
        }
        target.apply(write, changes).await
    }
}
