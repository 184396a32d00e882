//! How many records the host had when it was last listed to its end: one that has lost many since is asked about (L8).

use fides_core::Fault;
use fides_core::port::Expect;
use serde::{Deserialize, Serialize};

use crate::{Pipeline, follow, persisted};

/// The last complete listing that nothing spoke against.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Last {
    records: u64,
    /// Deletions that the host's log had told until then.
    told: u64,
}

fn key(pipeline: &Pipeline) -> String {
    format!("listing/{}", pipeline.id)
}

/// How many records a listing is expected to have: as many as the last one, less those of which the host itself has told
/// that they are gone. 0 where there was none.
pub(crate) async fn expected(pipeline: &Pipeline) -> Result<u64, Fault> {
    let stored = persisted::load::<Last>(&*pipeline.backplane.state, &key(pipeline)).await?;
    let Some((last, _)) = stored else { return Ok(0) };
    let told = follow::told_gone(pipeline).await?.saturating_sub(last.told);
    Ok(last.records.saturating_sub(told))
}

/// Keeps the count of a complete listing whose deletions were not refused. `told` are the deletions that the host's log had
/// told when it began: what it tells of meanwhile may be counted or not.
pub(crate) async fn keep(pipeline: &Pipeline, records: u64, told: u64) -> Result<(), Fault> {
    let last = Last { records, told };
    persisted::store(&*pipeline.backplane.state, &key(pipeline), &last, Expect::Any).await.map(drop)
}
