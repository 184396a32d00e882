use fides_core::Fault;
use fides_core::port::Expect;
use serde::{Deserialize, Serialize};

use crate::{Pipeline, persisted};

/// Who paused a pipeline, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// In milliseconds since 1970.
    pub since_ms: u64,
    /// Who asked.
    pub requester: String,
}

impl Paused {
    /// For people: why a pipeline does nothing, and what can be done.
    pub fn told(&self, pipeline: &Pipeline) -> String {
        format!("paused by {}; `fides resume {}` goes on", self.requester, pipeline.id)
    }
}

fn key(pipeline: &Pipeline) -> String {
    format!("paused/{}", pipeline.id)
}

/// Whether a pipeline is paused. Survives restarts.
pub async fn paused(pipeline: &Pipeline) -> Result<Option<Paused>, Fault> {
    let stored = persisted::load::<Paused>(&*pipeline.backplane.state, &key(pipeline)).await?;
    Ok(stored.map(|(paused, _)| paused))
}

/// Pauses a pipeline. One that is paused already stays so since then.
pub(super) async fn pause(pipeline: &Pipeline, requester: &str) -> Result<Paused, Fault> {
    let state = &*pipeline.backplane.state;
    let new = Paused { since_ms: state.now_ms().await?, requester: requester.to_owned() };
    persisted::store(state, &key(pipeline), &new, Expect::Absent).await?;
    Ok(paused(pipeline).await?.unwrap_or(new))
}

/// Goes on. Whether the pipeline was paused.
pub(super) async fn resume(pipeline: &Pipeline) -> Result<bool, Fault> {
    let was_paused = paused(pipeline).await?.is_some();
    pipeline.backplane.state.remove(&key(pipeline)).await?;
    Ok(was_paused)
}
