use std::sync::Arc;

use fides_core::port::{Backplane, Host, Mapper, Sink, Snapshot, Target};
use fides_core::{Fault, Lane, Limits, PipelineId, Selection, Shape, Version};

use crate::SoftDelete;

/// One pipeline with everything it needs, wired.
#[derive(Clone)]
pub struct Pipeline {
    /// Its name.
    pub id: PipelineId,
    /// Guarded.
    pub host: Arc<dyn Host>,
    /// Guarded.
    pub target: Arc<dyn Target>,
    /// Host record -> target document.
    pub mapper: Arc<dyn Mapper>,
    /// What is read of the host.
    pub selection: Selection,
    /// Where it writes.
    pub sink: Sink,
    /// How the target is read back: its columns are the fields of the shape.
    pub target_selection: Selection,
    /// Bounds.
    pub limits: Limits,
    /// What a proven absence does.
    pub delete: DeletePolicy,
    /// What a clean-up does with rows of the target that this pipeline never wrote.
    pub foreign: ForeignPolicy,
    /// Queue, hash store, state store, dead letters.
    pub backplane: Backplane,
}

/// What happens to a document whose record is proven absent.
#[derive(Clone, Debug, PartialEq)]
pub enum DeletePolicy {
    /// It is deleted.
    Hard,
    /// It stays, and one of its fields says that its record is gone.
    Soft(SoftDelete),
    /// It stays.
    Never,
}

/// What happens to rows of the target that this pipeline never wrote: no mark tells of them.
///
/// After marks were lost (L11) such a row cannot be told from one of ours that the host has deleted since: until the target
/// was compared anew, every row counts as ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForeignPolicy {
    /// They stay, and are counted.
    #[default]
    Keep,
    /// They are judged like records that the host has deleted.
    Delete,
}

impl Pipeline {
    /// Fields of the documents.
    pub fn shape(&self) -> &Arc<Shape> {
        self.mapper.shape()
    }

    /// All lanes.
    pub fn lanes(&self) -> Vec<Lane> {
        (0..self.limits.lanes.max(1)).map(|index| Lane { pipeline: self.id.clone(), index }).collect()
    }

    /// Opens a state of the host. The version is drawn before anything is read (L1).
    pub async fn open_host(&self) -> Result<Arc<dyn Snapshot>, Fault> {
        let epoch = crate::epoch::current(self).await?;
        let position = self.backplane.state.next_position(&self.id).await?;
        self.host.snapshot(&self.selection, Version::scan(epoch, position)).await
    }

    /// Opens a state of the host for reading only: nothing is drawn, and its version labels nothing.
    pub async fn peek_host(&self) -> Result<Arc<dyn Snapshot>, Fault> {
        self.host.snapshot(&self.selection, Version::default()).await
    }

    /// Opens a state of the target, as documents.
    pub async fn open_target(&self) -> Result<Arc<dyn Snapshot>, Fault> {
        self.target.snapshot(&self.sink, &self.target_selection).await
    }
}
