use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::{Fencing, Obstacle, Outcome, Sink, Snapshot, Target, Write};
use fides_core::{Change, Fault, Lane, Namespace, Selection, Shape, Table};

/// A target that keeps nothing, and answers so many changes with what it is told to. It forgets who claimed a lane, too: a lane
/// is to be claimed once.
pub struct Hollow(pub fn(usize) -> Vec<Outcome>);

#[async_trait]
impl Target for Hollow {
    fn fencing(&self) -> Fencing {
        Fencing::Conditional
    }

    async fn describe(&self, _: &Namespace) -> Result<Option<Table>, Fault> {
        Ok(None)
    }

    async fn inspect(&self, _: &Sink, _: &Shape, _: bool) -> Result<Vec<Obstacle>, Fault> {
        Ok(Vec::new())
    }

    async fn prepare(&self, _: &Sink, _: &Shape, _: bool) -> Result<(), Fault> {
        Ok(())
    }

    async fn claim(&self, _: &Sink, _: &Lane, _: u64) -> Result<(), Fault> {
        Ok(())
    }

    async fn claimed(&self, _: &Sink, _: &Lane) -> Result<Option<u64>, Fault> {
        Ok(None)
    }

    async fn apply(&self, _: &Write<'_>, changes: &[Change]) -> Vec<Outcome> {
        (self.0)(changes.len())
    }

    async fn snapshot(&self, _: &Sink, _: &Selection) -> Result<Arc<dyn Snapshot>, Fault> {
        Err(Fault::permanent("it holds nothing"))
    }
}
