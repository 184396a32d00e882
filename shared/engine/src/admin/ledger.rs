//! Every command that was taken, by its id, with what became of it: asked again it is answered again, and done once.

use std::collections::BTreeMap;

use fides_core::command::{Answer, Command, Status};
use fides_core::port::{Expect, StateStore};
use fides_core::{Fault, Fingerprint, fingerprint};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::persisted;

const PREFIX: &str = "command/";
/// What is older is forgotten: its id is free again.
const KEPT_MS: u64 = 7 * 86_400_000;
/// How often is looked for old ones.
const FORGET_EVERY_MS: u64 = 3_600_000;
/// Entries read at a time.
const LIST_MAX: usize = 256;
/// Roles that write to one command at the same moment: each race has a winner.
const RACES_MAX: usize = 16;

/// What became of a command in one pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<Value>,
}

impl Outcome {
    pub(crate) fn accepted(detail: Value) -> Self {
        Self { status: Status::Accepted, reason: None, detail: Some(detail) }
    }

    pub(crate) fn done(detail: Value) -> Self {
        Self { status: Status::Done, reason: None, detail: Some(detail) }
    }

    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self { status: Status::Refused, reason: Some(reason.into()), detail: None }
    }
}

/// A command as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    command: String,
    requester: String,
    /// Tells the same command from another one under the same id.
    content: Fingerprint,
    pub(crate) received_ms: u64,
    /// Whether everything that taking it consists of is done; otherwise it is done again.
    taken: bool,
    /// Why none of it is done.
    refused: Option<String>,
    outcomes: BTreeMap<String, Outcome>,
}

impl Kept {
    /// What became of it in a pipeline, if that is known.
    pub(crate) fn outcome(&self, pipeline: &str) -> Option<&Outcome> {
        self.outcomes.get(pipeline)
    }

    fn status(&self) -> Status {
        let any = |status| self.outcomes.values().any(|outcome| outcome.status == status);
        if self.refused.is_some() || (any(Status::Refused) && !any(Status::Accepted)) {
            Status::Refused
        } else if !self.taken || any(Status::Accepted) {
            Status::Accepted
        } else {
            Status::Done
        }
    }

    fn answer(&self, id: &str) -> Answer {
        let reasons = self
            .outcomes
            .iter()
            .filter_map(|(pipeline, outcome)| outcome.reason.as_ref().map(|reason| format!("{pipeline}: {reason}")));
        let reasons: Vec<String> = self.refused.clone().into_iter().chain(reasons).collect();
        let detail = |(pipeline, outcome): (&String, &Outcome)| {
            let mut detail = serde_json::json!({"status": outcome.status});
            if let Some(Value::Object(fields)) = &outcome.detail {
                detail.as_object_mut().into_iter().for_each(|detail| detail.extend(fields.clone()));
            }
            (pipeline.clone(), detail)
        };
        Answer {
            id: id.to_owned(),
            status: self.status(),
            reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
            detail: (!self.outcomes.is_empty()).then(|| self.outcomes.iter().map(detail).collect()),
        }
    }
}

/// What [`begin`] found.
pub(crate) enum Begun {
    /// It is to be carried out: it is new, or was interrupted while it was taken.
    Open(Kept),
    /// It was taken before.
    Known(Answer),
    /// Its id was used for another command.
    Other(String),
}

fn key(id: &str) -> String {
    format!("{PREFIX}{id}")
}

/// Keeps a command before anything is done for it.
pub(crate) async fn begin(state: &dyn StateStore, command: &Command) -> Result<Begun, Fault> {
    let received_ms = state.now_ms().await?;
    forget(state, received_ms).await?;
    let new = Kept {
        command: command.action.name().to_owned(),
        requester: command.requester.clone(),
        content: fingerprint(&command.to_bytes(), 0),
        received_ms,
        taken: false,
        refused: None,
        outcomes: BTreeMap::new(),
    };
    let key = key(&command.id);
    if persisted::store(state, &key, &new, Expect::Absent).await?.is_some() {
        return Ok(Begun::Open(new));
    }
    let Some((kept, _)) = persisted::load::<Kept>(state, &key).await? else {
        return Err(persisted::lost_race(&key));
    };
    Ok(if kept.content != new.content {
        let Kept { command: name, requester, .. } = &kept;
        Begun::Other(format!("`id`: {:?} was used for another command ({name} by {requester})", command.id))
    } else if kept.taken {
        Begun::Known(kept.answer(&command.id))
    } else {
        Begun::Open(kept)
    })
}

/// Says that a command was taken, and what became of it so far. What a role has said of it meanwhile is newer, and stays.
pub(crate) async fn taken(
    state: &dyn StateStore,
    id: &str,
    refused: Option<String>,
    outcomes: BTreeMap<String, Outcome>,
) -> Result<Answer, Fault> {
    let kept = change(state, id, |kept| {
        kept.taken = true;
        kept.refused.clone_from(&refused);
        for (pipeline, outcome) in &outcomes {
            kept.outcomes.entry(pipeline.clone()).or_insert_with(|| outcome.clone());
        }
    });
    match kept.await? {
        Some(kept) => Ok(kept.answer(id)),
        None => Err(persisted::lost_race(&key(id))),
    }
}

/// Says what became of a command in one pipeline. A command that was forgotten meanwhile stays so.
pub(crate) async fn complete(state: &dyn StateStore, id: &str, pipeline: &str, outcome: &Outcome) -> Result<(), Fault> {
    let kept = change(state, id, |kept| drop(kept.outcomes.insert(pipeline.to_owned(), outcome.clone()))).await?;
    if let Some(kept) = kept {
        let Outcome { status, reason, .. } = outcome;
        tracing::info!(target: "fides::audit", id, requester = kept.requester, command = kept.command, pipeline,
            ?status, reason, "command carried out");
    }
    Ok(())
}

async fn change(state: &dyn StateStore, id: &str, change: impl Fn(&mut Kept)) -> Result<Option<Kept>, Fault> {
    let key = key(id);
    for _ in 0..RACES_MAX {
        let Some((mut kept, revision)) = persisted::load::<Kept>(state, &key).await? else { return Ok(None) };
        change(&mut kept);
        if persisted::store(state, &key, &kept, Expect::Revision(revision)).await?.is_some() {
            return Ok(Some(kept));
        }
    }
    Err(persisted::lost_race(&key))
}

/// Forgets old commands, now and then. One that still waits is kept.
async fn forget(state: &dyn StateStore, now_ms: u64) -> Result<(), Fault> {
    const FORGOTTEN: &str = "commands-forgotten";
    let last = persisted::load::<u64>(state, FORGOTTEN).await?;
    if last.as_ref().is_some_and(|(last_ms, _)| now_ms < last_ms + FORGET_EVERY_MS) {
        return Ok(());
    }
    let expect = last.map_or(Expect::Absent, |(_, revision)| Expect::Revision(revision));
    if persisted::store(state, FORGOTTEN, &now_ms, expect).await?.is_none() {
        return Ok(());
    }
    for (id, kept) in all(state).await? {
        if kept.received_ms + KEPT_MS < now_ms && kept.status() != Status::Accepted {
            state.remove(&key(&id)).await?;
        }
    }
    Ok(())
}

/// A command and what became of it, for people.
#[derive(Clone, Debug, Serialize)]
pub struct CommandStatus {
    /// When it was taken, in milliseconds since 1970.
    pub received_ms: u64,
    /// Who asked.
    pub requester: String,
    /// What was asked.
    pub command: String,
    /// What became of it.
    pub answer: Answer,
}

/// The latest commands, the newest first, at most `limit`.
pub async fn commands(state: &dyn StateStore, limit: usize) -> Result<Vec<CommandStatus>, Fault> {
    let mut kept = all(state).await?;
    kept.sort_by_key(|(_, kept)| std::cmp::Reverse(kept.received_ms));
    let status = |(id, kept): (String, Kept)| CommandStatus {
        received_ms: kept.received_ms,
        answer: kept.answer(&id),
        requester: kept.requester,
        command: kept.command,
    };
    Ok(kept.into_iter().take(limit).map(status).collect())
}

async fn all(state: &dyn StateStore) -> Result<Vec<(String, Kept)>, Fault> {
    let mut found: Vec<(String, Kept)> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let listed = state.list(PREFIX, after.as_deref(), LIST_MAX).await?;
        let end = listed.len() < LIST_MAX;
        for (entry, stored) in listed {
            found.push((entry[PREFIX.len()..].to_owned(), persisted::decode(&entry, &stored.value)?));
            after = Some(entry);
        }
        if end {
            return Ok(found);
        }
    }
}
