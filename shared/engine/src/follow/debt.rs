//! What a log cannot tell any more, and what a queue lost, is found by an import that begins later: a debt, kept until one
//! has ended.

use fides_core::Fault;
use fides_core::port::Expect;
use serde::{Deserialize, Serialize};

use crate::{Pipeline, persisted};

/// Processes that owe and pay at the same moment: each race has a winner.
const RACES_MAX: usize = 16;

/// A pipeline's gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Debt {
    /// How many there were.
    pub(crate) gaps: u64,
    /// How many of them an import has closed.
    pub(crate) closed: u64,
}

impl Debt {
    pub(crate) fn is_owed(self) -> bool {
        self.closed < self.gaps
    }
}

fn key(pipeline: &Pipeline) -> String {
    format!("log-gaps/{}", pipeline.id)
}

/// The gaps so far. An import whose first fence is raised after this closes all of them.
pub(crate) async fn debt(pipeline: &Pipeline) -> Result<Debt, Fault> {
    let stored = persisted::load::<Debt>(&*pipeline.backplane.state, &key(pipeline)).await?;
    Ok(stored.map(|(debt, _)| debt).unwrap_or_default())
}

/// One gap more.
pub(crate) async fn owe(pipeline: &Pipeline) -> Result<(), Fault> {
    change(pipeline, |debt| Debt { gaps: debt.gaps + 1, ..debt }).await
}

/// Says that an import has ended which began when there were so many gaps.
pub(crate) async fn pay(pipeline: &Pipeline, gaps: u64) -> Result<(), Fault> {
    if !debt(pipeline).await?.is_owed() {
        return Ok(());
    }
    change(pipeline, |debt| Debt { closed: debt.closed.max(gaps.min(debt.gaps)), ..debt }).await
}

async fn change(pipeline: &Pipeline, change: impl Fn(Debt) -> Debt) -> Result<(), Fault> {
    let (state, key) = (&*pipeline.backplane.state, key(pipeline));
    for _ in 0..RACES_MAX {
        let (debt, expect) = match persisted::load::<Debt>(state, &key).await? {
            Some((debt, revision)) => (debt, Expect::Revision(revision)),
            None => (Debt::default(), Expect::Absent),
        };
        if persisted::store(state, &key, &change(debt), expect).await?.is_some() {
            return Ok(());
        }
    }
    Err(persisted::lost_race(&key))
}
