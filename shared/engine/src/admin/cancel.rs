//! Whatever began before a cancellation ends. Order is by a number that the state store draws, so that no clock decides
//! what was first.

use fides_core::Fault;
use fides_core::port::Expect;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ledger::Outcome;
use super::{demand, job};
use crate::{Pipeline, import, persisted};

/// A pipeline's latest cancellation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cancelled {
    /// What began under a smaller number is cancelled.
    number: u64,
    pub(crate) requester: String,
    command: String,
}

impl Cancelled {
    /// For people.
    pub(crate) fn told(&self) -> String {
        format!("cancelled by {}", self.requester)
    }
}

fn key(pipeline: &Pipeline) -> String {
    format!("cancel/{}", pipeline.id)
}

/// Numbers something that begins.
pub(crate) async fn number(pipeline: &Pipeline) -> Result<u64, Fault> {
    pipeline.backplane.state.next_position(&pipeline.id).await
}

/// The cancellation of what began as `number`, if there was one.
pub(crate) async fn of(pipeline: &Pipeline, number: u64) -> Result<Option<Cancelled>, Fault> {
    let stored = persisted::load::<Cancelled>(&*pipeline.backplane.state, &key(pipeline)).await?;
    Ok(stored.map(|(cancelled, _)| cancelled).filter(|cancelled| cancelled.number > number))
}

/// Cancels what is under way and what waits. What is under way notices within a lease.
pub(super) async fn cancel(pipeline: &Pipeline, command: &str, requester: &str) -> Result<Outcome, Fault> {
    let state = &*pipeline.backplane.state;
    // What waits goes first: nobody takes it up any more, and whoever has done so began under a smaller number.
    let told = Outcome::refused(format!("cancelled by {requester}"));
    let waiting = demand::demanded(pipeline).await?.commands;
    demand::close(pipeline, &waiting, &told).await?;
    let jobs = job::drop_all(pipeline, &told).await?;
    let stored = persisted::load::<Cancelled>(state, &key(pipeline)).await?;
    if stored.is_none_or(|(known, _)| known.command != command) {
        let number = number(pipeline).await?;
        let cancelled = Cancelled { number, requester: requester.to_owned(), command: command.to_owned() };
        persisted::store(state, &key(pipeline), &cancelled, Expect::Any).await?;
    }
    let run = import::latest(pipeline).await?.filter(|run| run.ended_ms.is_none()).map(|run| run.id);
    Ok(Outcome::done(json!({"run": run, "imports": waiting.len(), "jobs": jobs})))
}
