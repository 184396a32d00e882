//! What was asked for and is no whole import: durable, in the order in which it was asked, carried out one after another.

use fides_core::Fault;
use fides_core::command::{KeySpan, KeyText};
use fides_core::port::Expect;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ledger::{self, Outcome};
use crate::{Pipeline, persisted, spool};

/// Jobs that wait at the same time, of one pipeline and office.
const WAITING_MAX: usize = 64;

/// Who does a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Office {
    /// Importers: what is read of the host and sent.
    Sending,
    /// Clean-up schedulers: what compares both sides.
    Comparing,
}

impl Office {
    const ALL: [Office; 2] = [Office::Sending, Office::Comparing];

    pub(super) fn name(self) -> &'static str {
        match self {
            Office::Sending => "sending",
            Office::Comparing => "comparing",
        }
    }
}

/// A job and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) command: String,
    pub(super) work: Work,
    /// Changes that it has published.
    pub(super) published: u64,
    /// The first thing that could not be done; the rest is done all the same.
    #[serde(default)]
    pub(super) refused: Option<String>,
}

/// What is to be done; cursors move when what lies before them is confirmed (L3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Work {
    /// Send the present state of keys.
    Keys {
        keys: Vec<KeyText>,
        /// How many of them are sent.
        sent: usize,
    },
    /// Send every record of ranges.
    Ranges {
        ranges: Vec<KeySpan>,
        /// How many of them are sent.
        sent: usize,
        /// The last key that was sent of the next one.
        after: Option<Vec<u8>>,
    },
    /// Send the present state of all dead letters behind a key.
    Letters { after: Option<Vec<u8>> },
    /// Clean up, with an approval or without.
    CleanUp { approval: Option<Approval> },
    /// Compare, and send what differs.
    Verify { repair: bool },
}

/// The right to delete more than is allowed otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Approval {
    /// The run that was refused.
    pub(crate) run: String,
    /// What is left of the ceiling.
    pub(crate) deletions_max: u64,
    pub(crate) expires_ms: u64,
    /// The spooled entry that was counted last.
    #[serde(default)]
    pub(crate) spent: Option<String>,
}

/// An approval that is being used.
pub(crate) struct Allowance<'a> {
    pipeline: &'a Pipeline,
    entry: &'a str,
}

impl<'a> Allowance<'a> {
    pub(super) fn new(pipeline: &'a Pipeline, entry: &'a str) -> Self {
        Self { pipeline, entry }
    }

    /// The state entry of the job that uses it.
    pub(crate) fn job(&self) -> &str {
        self.entry
    }

    async fn load(&self) -> Result<(Job, u64), Fault> {
        let stored = persisted::load::<Job>(&*self.pipeline.backplane.state, self.entry).await?;
        stored.ok_or_else(|| Fault::transient(format!("state entry {} is gone: the job was cancelled", self.entry)))
    }

    /// How many deletions it still allows, or why none.
    pub(crate) async fn left(&self) -> Result<Result<u64, String>, Fault> {
        let (job, _) = self.load().await?;
        let Work::CleanUp { approval: Some(approval) } = job.work else { return Ok(Ok(0)) };
        if self.pipeline.backplane.state.now_ms().await? >= approval.expires_ms {
            return Ok(Err(format!("the approval of {} has expired", approval.run)));
        }
        // What is still spooled of what was counted is to be deleted again.
        let again = match &approval.spent {
            Some(entry) => spool::len(self.pipeline, entry).await?,
            None => 0,
        };
        Ok(Ok(approval.deletions_max.saturating_add(again)))
    }

    /// Counts the deletions of a spooled entry that are about to be published: after a crash the rest of the ceiling is
    /// left, and the entry is not counted twice.
    pub(crate) async fn spend(&self, spooled: &str, deletions: u64) -> Result<(), Fault> {
        let (mut job, revision) = self.load().await?;
        if let Work::CleanUp { approval: Some(approval) } = &mut job.work {
            if approval.spent.as_deref() == Some(spooled) {
                return Ok(());
            }
            approval.deletions_max = approval.deletions_max.saturating_sub(deletions);
            approval.spent = Some(spooled.to_owned());
        }
        save(self.pipeline, self.entry, &job, revision).await.map(drop)
    }
}

impl Work {
    fn office(&self) -> Office {
        match self {
            Work::Keys { .. } | Work::Ranges { .. } | Work::Letters { .. } => Office::Sending,
            Work::CleanUp { .. } | Work::Verify { .. } => Office::Comparing,
        }
    }
}

fn prefix(pipeline: &Pipeline, office: Office) -> String {
    format!("job/{}/{}/", pipeline.id, office.name())
}

/// Keeps a job. Repeating it is harmless: the same command at the same time is the same job.
pub(super) async fn ask(pipeline: &Pipeline, command: &str, asked_ms: u64, work: Work) -> Result<Outcome, Fault> {
    let state = &*pipeline.backplane.state;
    let prefix = prefix(pipeline, work.office());
    let entry = format!("{prefix}{asked_ms:013}-{command}");
    let waiting = state.list(&prefix, None, WAITING_MAX).await?;
    if waiting.len() >= WAITING_MAX && !waiting.iter().any(|(known, _)| *known == entry) {
        return Ok(Outcome::refused(format!("{WAITING_MAX} such jobs wait already; cancel them or let them end")));
    }
    let job = Job { command: command.to_owned(), work, published: 0, refused: None };
    persisted::store(state, &entry, &job, Expect::Absent).await?;
    Ok(Outcome::accepted(json!({"waiting": waiting.len()})))
}

/// The oldest job of an office: its entry, itself, its revision.
pub(super) async fn first(pipeline: &Pipeline, office: Office) -> Result<Option<(String, Job, u64)>, Fault> {
    let listed = pipeline.backplane.state.list(&prefix(pipeline, office), None, 1).await?;
    let Some((entry, stored)) = listed.into_iter().next() else { return Ok(None) };
    let job = persisted::decode(&entry, &stored.value)?;
    Ok(Some((entry, job, stored.revision)))
}

/// Keeps how far a job is. One that was cancelled meanwhile ends here.
pub(super) async fn save(pipeline: &Pipeline, entry: &str, job: &Job, revision: u64) -> Result<u64, Fault> {
    let saved = persisted::store(&*pipeline.backplane.state, entry, job, Expect::Revision(revision)).await?;
    saved.ok_or_else(|| persisted::lost_race(entry))
}

/// Tells what became of a job, and forgets it.
pub(super) async fn end(pipeline: &Pipeline, entry: &str, job: &Job, outcome: &Outcome) -> Result<(), Fault> {
    let state = &*pipeline.backplane.state;
    ledger::complete(state, &job.command, pipeline.id.as_str(), outcome).await?;
    state.remove(entry).await
}

/// Ends every job; how many there were.
pub(super) async fn drop_all(pipeline: &Pipeline, outcome: &Outcome) -> Result<usize, Fault> {
    let mut dropped = 0;
    for office in Office::ALL {
        while let Some((entry, job, _)) = first(pipeline, office).await? {
            end(pipeline, &entry, &job, outcome).await?;
            dropped += 1;
        }
    }
    Ok(dropped)
}
