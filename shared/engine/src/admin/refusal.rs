//! A pipeline's latest refused clean-up: an alert until one is not refused, and what an approval names.

use fides_core::Fault;
use fides_core::port::Expect;
use serde::{Deserialize, Serialize};

use crate::{Pipeline, persisted};

/// Deletions that were refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The run that wanted them.
    pub run: String,
    /// How many.
    pub candidates: u64,
    /// Why they were refused.
    pub why: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The command that approved them: each refusal is approved once.
    #[serde(default)]
    pub approved_by: Option<String>,
}

fn key(pipeline: &Pipeline) -> String {
    format!("refused/{}", pipeline.id)
}

/// The latest refusal that still stands.
pub async fn refusal(pipeline: &Pipeline) -> Result<Option<Refusal>, Fault> {
    let stored = persisted::load::<Refusal>(&*pipeline.backplane.state, &key(pipeline)).await?;
    Ok(stored.map(|(refusal, _)| refusal))
}

/// Keeps a refusal. The name that is shown stays as long as the same is refused for: whoever reads it can approve it, however
/// often runs of the same kind come meanwhile. Returns the reason, which names the command for that run.
pub(crate) async fn refuse(pipeline: &Pipeline, run: &str, candidates: u64, why: &str) -> Result<String, Fault> {
    let state = &*pipeline.backplane.state;
    let kind = |run: &str| run.split('-').next().unwrap_or_default().to_owned();
    let is_same = |known: &Refusal| {
        known.candidates == candidates && candidates > 0 && known.approved_by.is_none() && kind(&known.run) == kind(run)
    };
    let known = refusal(pipeline).await?.filter(is_same);
    let refusal = Refusal {
        // The reason may be another one by now.
        why: known.as_ref().map_or(why.to_owned(), |known| why.replace(run, &known.run)),
        run: known.as_ref().map_or(run.to_owned(), |known| known.run.clone()),
        candidates,
        at_ms: match known {
            Some(known) => known.at_ms,
            None => state.now_ms().await?,
        },
        approved_by: None,
    };
    persisted::store(state, &key(pipeline), &refusal, Expect::Any).await?;
    Ok(refusal.why)
}

/// Ends the alert: a run of the same kind was not refused. `kind` begins the names of such runs.
pub(crate) async fn lift(pipeline: &Pipeline, kind: &str) -> Result<(), Fault> {
    if refusal(pipeline).await?.is_some_and(|known| known.run.starts_with(kind)) {
        pipeline.backplane.state.remove(&key(pipeline)).await?;
    }
    Ok(())
}

/// Marks the refusal of `run` as approved by a command; why not, if it cannot be.
pub(super) async fn approve(pipeline: &Pipeline, run: &str, command: &str) -> Result<Result<(), String>, Fault> {
    let (state, key, id) = (&*pipeline.backplane.state, key(pipeline), &pipeline.id);
    let Some((mut known, revision)) = persisted::load::<Refusal>(state, &key).await? else {
        return Ok(Err(format!("no clean-up of {id} is refused")));
    };
    if known.run != run {
        return Ok(Err(format!("`run`: found {run:?}; the refused run of {id} is {}", known.run)));
    }
    if known.candidates == 0 {
        return Ok(Err(format!("nothing of run {run} can be approved: {}", known.why)));
    }
    match &known.approved_by {
        Some(by) if by == command => return Ok(Ok(())),
        Some(by) => {
            return Ok(Err(format!("run {run} was approved before, by command {by}: an approval is used once")));
        }
        None => {}
    }
    known.approved_by = Some(command.to_owned());
    let stored = persisted::store(state, &key, &known, Expect::Revision(revision)).await?;
    stored.map(|_| Ok(())).ok_or_else(|| persisted::lost_race(&key))
}
