use std::sync::Arc;

use fides_core::port::Snapshot;
use fides_core::{Fault, Selection, Version};

use crate::Pipeline;
use crate::snapshot::Renewed;

/// The snapshots of a run. Versions belong to pages, so a run simply goes on under a newer one (DESIGN §5).
pub(crate) struct Snapshots<'a> {
    pipeline: &'a Pipeline,
    /// What is read for looking only, if it is not what the pipeline reads.
    other: Option<Selection>,
    open: Renewed,
}

impl<'a> Snapshots<'a> {
    pub(crate) fn new(pipeline: &'a Pipeline) -> Self {
        Self { pipeline, other: None, open: Renewed::default() }
    }

    /// Of another selection, for looking only: nothing is drawn, and their versions label nothing.
    pub(crate) fn of(pipeline: &'a Pipeline, selection: Selection) -> Self {
        Self { pipeline, other: Some(selection), open: Renewed::default() }
    }

    /// A snapshot that is young enough.
    pub(crate) async fn current(&self) -> Result<Arc<dyn Snapshot>, Fault> {
        let opening = async {
            match &self.other {
                None => self.pipeline.open_host().await,
                Some(selection) => self.pipeline.host.snapshot(selection, Version::default()).await,
            }
        };
        self.open.current(&self.pipeline.limits, opening).await
    }
}
