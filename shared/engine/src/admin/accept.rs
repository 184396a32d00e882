use std::collections::BTreeMap;

use fides_core::Fault;
use fides_core::command::{Action, Answer, Command, Extent, KeyText};
use serde_json::json;

use super::job::{self, Approval, Work};
use super::ledger::{self, Begun, Outcome};
use super::{cancel, demand, pause, refusal};
use crate::Pipeline;
use crate::import::Mode;
use crate::inspect::parse_key;

/// Reads a command as it was sent, and accepts or refuses it. `pipelines` are all that there are.
pub async fn receive(pipelines: &[Pipeline], body: &[u8]) -> Result<Answer, Fault> {
    match Command::parse(body) {
        Ok(command) => accept(pipelines, &command).await,
        Err(answer) => {
            tracing::info!(target: "fides::audit", id = answer.id, status = ?answer.status, reason = answer.reason,
                "command refused: it cannot be read");
            Ok(answer)
        }
    }
}

/// Accepts a command durably, or refuses it. `pipelines` are all that there are, on one backplane.
///
/// Idempotent by id: a command is kept before anything is done for it; the same one asked again is not done again, and is
/// answered with what became of it meanwhile. A fault says nothing about the command: it is to be asked again.
pub async fn accept(pipelines: &[Pipeline], command: &Command) -> Result<Answer, Fault> {
    let Some(any) = pipelines.first() else {
        return Ok(Answer::refused(&command.id, "there is no pipeline"));
    };
    let state = &*any.backplane.state;
    let (answer, again) = match ledger::begin(state, command).await? {
        Begun::Known(answer) => (answer, true),
        Begun::Other(reason) => (Answer::refused(&command.id, reason), false),
        Begun::Open(kept) => {
            let (refused, outcomes) = match named(pipelines, command) {
                Err(refusal) => (Some(refusal), BTreeMap::new()),
                Ok(named) => (None, take(&named, command, &kept).await?),
            };
            (ledger::taken(state, &command.id, refused, outcomes).await?, false)
        }
    };
    let Command { id, requester, action } = command;
    tracing::info!(target: "fides::audit", id, requester, command = action.name(), pipelines = ?action.pipelines(),
        status = ?answer.status, reason = answer.reason, again, "command");
    Ok(answer)
}

/// The pipelines that a command names, when everything that it names is there.
fn named<'a>(pipelines: &'a [Pipeline], command: &Command) -> Result<Vec<&'a Pipeline>, String> {
    let names = command.action.pipelines();
    let field = match command.action {
        Action::Approve { .. } | Action::Replay { .. } => "pipeline",
        _ => "pipelines",
    };
    let find = |name: &String| {
        pipelines.iter().find(|pipeline| pipeline.id.as_str() == name).ok_or_else(|| {
            let known: Vec<&str> = pipelines.iter().map(|pipeline| pipeline.id.as_str()).collect();
            format!("`{field}`: there is no pipeline {name:?}; expected some of {}", known.join(", "))
        })
    };
    let named: Vec<&Pipeline> =
        if names.is_empty() { pipelines.iter().collect() } else { names.iter().map(find).collect::<Result<_, _>>()? };
    if let (Action::Reimport { keys, .. } | Action::Replay { keys, .. }, [only]) = (&command.action, &*named) {
        check_keys(only, "keys", keys.iter())?;
    }
    if let (Action::Reimport { ranges, .. }, [only]) = (&command.action, &*named) {
        check_keys(only, "ranges", ranges.iter().flat_map(|span| span.from.iter().chain(&span.to)))?;
    }
    Ok(named)
}

fn check_keys<'a>(pipeline: &Pipeline, field: &str, keys: impl Iterator<Item = &'a KeyText>) -> Result<(), String> {
    for key in keys {
        parse_key(&pipeline.selection, &key.0).map_err(|fault| format!("`{field}`: {fault}"))?;
    }
    Ok(())
}

/// Does what taking a command consists of, in each pipeline. Repeating it after a crash is harmless.
async fn take(
    pipelines: &[&Pipeline],
    command: &Command,
    kept: &ledger::Kept,
) -> Result<BTreeMap<String, Outcome>, Fault> {
    let mut outcomes = BTreeMap::new();
    for pipeline in pipelines {
        // A role was faster than the crash that interrupted this.
        if kept.outcome(pipeline.id.as_str()).is_none() {
            let outcome = take_in(pipeline, command, kept.received_ms).await?;
            outcomes.insert(pipeline.id.to_string(), outcome);
        }
    }
    Ok(outcomes)
}

async fn take_in(pipeline: &Pipeline, command: &Command, asked_ms: u64) -> Result<Outcome, Fault> {
    let Command { id, requester, action } = command;
    let ask = async |work| job::ask(pipeline, id, asked_ms, work).await;
    match action {
        Action::Pause { .. } => {
            let paused = pause::pause(pipeline, requester).await?;
            Ok(Outcome::done(json!({"paused_by": paused.requester, "since_ms": paused.since_ms})))
        }
        Action::Resume { .. } => Ok(Outcome::done(json!({"was_paused": pause::resume(pipeline).await?}))),
        Action::Reimport { keys, .. } if !keys.is_empty() => ask(Work::Keys { keys: keys.clone(), sent: 0 }).await,
        Action::Reimport { ranges, .. } if !ranges.is_empty() => {
            ask(Work::Ranges { ranges: ranges.clone(), sent: 0, after: None }).await
        }
        Action::Reimport { mode: Extent::Delta, .. } => demand::ask(pipeline, id, Mode::Delta).await,
        Action::Reimport { mode: Extent::Full, .. } => demand::ask(pipeline, id, Mode::Full).await,
        Action::Replay { keys, .. } if keys.is_empty() => ask(Work::Letters { after: None }).await,
        Action::Replay { keys, .. } => ask(Work::Keys { keys: keys.clone(), sent: 0 }).await,
        Action::Cleanup { .. } => ask(Work::CleanUp { approval: None }).await,
        Action::Verify { repair, .. } => ask(Work::Verify { repair: *repair }).await,
        Action::Cancel { .. } => cancel::cancel(pipeline, id, requester).await,
        Action::Approve { run, deletions_max, expires_seconds, .. } => {
            if let Err(why) = refusal::approve(pipeline, run, id).await? {
                return Ok(Outcome::refused(why));
            }
            let expires_ms = asked_ms.saturating_add(expires_seconds.saturating_mul(1_000));
            let approval = Approval { run: run.clone(), deletions_max: *deletions_max, expires_ms, spent: None };
            ask(Work::CleanUp { approval: Some(approval) }).await
        }
    }
}
