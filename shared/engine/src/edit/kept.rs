//! The mapping that the marks were made with: kept until an import under the next one has ended, so that a crash in
//! between keeps it. What it makes cheap is never what makes it right: a fingerprint carries its mapping's revision.

use fides_core::Fault;
use fides_core::port::Expect;
use serde::{Deserialize, Serialize};

use crate::{Pipeline, import, persisted};

/// A mapping as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Its revision.
    pub(super) revision: u64,
    /// What it is made again of; unknown where the marks were made before mappings were kept.
    pub(super) recipe: Option<Vec<u8>>,
}

fn key(pipeline: &Pipeline) -> String {
    format!("mapping/{}", pipeline.id)
}

impl Kept {
    fn present(pipeline: &Pipeline) -> Self {
        Self { revision: pipeline.mapper.revision(), recipe: Some(pipeline.mapper.recipe().to_vec()) }
    }
}

/// The mapping that the marks were made with; `None` where there are none yet.
pub(super) async fn load(pipeline: &Pipeline) -> Result<Option<Kept>, Fault> {
    let kept = persisted::load::<Kept>(&*pipeline.backplane.state, &key(pipeline)).await?;
    match kept {
        Some((kept, _)) => Ok(Some(kept)),
        None => Ok(import::latest(pipeline).await?.map(|run| {
            let (present, revision) = (Kept::present(pipeline), run.mapping);
            if present.revision == revision { present } else { Kept { revision, recipe: None } }
        })),
    }
}

/// Keeps the mapping of the marks. Before a run is stored: the run would hide which mapping made them.
pub(crate) async fn keep(pipeline: &Pipeline) -> Result<(), Fault> {
    let kept = load(pipeline).await?.unwrap_or_else(|| Kept::present(pipeline));
    // Whoever was first kept the same.
    persisted::store(&*pipeline.backplane.state, &key(pipeline), &kept, Expect::Absent).await?;
    Ok(())
}

/// An import under the present mapping has ended: the one before is not needed any more.
pub(crate) async fn replace(pipeline: &Pipeline) -> Result<(), Fault> {
    let (state, key) = (&*pipeline.backplane.state, key(pipeline));
    let expect = match persisted::load::<Kept>(state, &key).await? {
        Some((kept, _)) if kept.revision == pipeline.mapper.revision() => return Ok(()),
        Some((_, revision)) => Expect::Revision(revision),
        None => Expect::Absent,
    };
    if persisted::store(state, &key, &Kept::present(pipeline), expect).await?.is_some() {
        tracing::info!(pipeline = %pipeline.id, "an import under the edited mapping has ended");
    }
    Ok(())
}
