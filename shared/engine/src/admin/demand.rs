//! Whole imports that were asked for. An import that begins later closes them, one that was under way does not: it has
//! read a part already.

use fides_core::Fault;
use fides_core::port::Expect;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ledger::{self, Outcome};
use crate::import::Mode;
use crate::{Pipeline, persisted};

/// Demands that wait at the same time.
const WAITING_MAX: usize = 64;
/// Those who ask and close at the same moment: each race has a winner.
const RACES_MAX: usize = 16;

/// An import that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    command: String,
    mode: Mode,
}

/// What is asked of the next import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demanded {
    /// Whether everything is to be sent.
    pub(crate) full: bool,
    /// The commands that it carries out.
    pub(crate) commands: Vec<String>,
}

fn key(pipeline: &Pipeline) -> String {
    format!("demand/{}", pipeline.id)
}

/// What is asked of an import that begins now.
pub(crate) async fn demanded(pipeline: &Pipeline) -> Result<Demanded, Fault> {
    let stored = persisted::load::<Vec<Asked>>(&*pipeline.backplane.state, &key(pipeline)).await?;
    let waiting = stored.map(|(waiting, _)| waiting).unwrap_or_default();
    Ok(Demanded {
        full: waiting.iter().any(|asked| asked.mode == Mode::Full),
        commands: waiting.into_iter().map(|asked| asked.command).collect(),
    })
}

/// Asks for an import.
pub(super) async fn ask(pipeline: &Pipeline, command: &str, mode: Mode) -> Result<Outcome, Fault> {
    let asked = Asked { command: command.to_owned(), mode };
    let fits = change(pipeline, |waiting| {
        if waiting.contains(&asked) {
            return true;
        }
        let fits = waiting.len() < WAITING_MAX;
        if fits {
            waiting.push(asked.clone());
        }
        fits
    });
    Ok(if fits.await? {
        Outcome::accepted(json!({"mode": mode}))
    } else {
        Outcome::refused(format!("{WAITING_MAX} imports wait already; cancel them or let them end"))
    })
}

/// Says that an import has ended which had those commands to carry out.
pub(crate) async fn close(pipeline: &Pipeline, commands: &[String], outcome: &Outcome) -> Result<(), Fault> {
    if commands.is_empty() {
        return Ok(());
    }
    // Told first: a crash in between tells it once more.
    for command in commands {
        ledger::complete(&*pipeline.backplane.state, command, pipeline.id.as_str(), outcome).await?;
    }
    change(pipeline, |waiting| waiting.retain(|asked| !commands.contains(&asked.command))).await
}

async fn change<T>(pipeline: &Pipeline, change: impl Fn(&mut Vec<Asked>) -> T) -> Result<T, Fault> {
    let (state, key) = (&*pipeline.backplane.state, key(pipeline));
    for _ in 0..RACES_MAX {
        let (mut waiting, expect) = match persisted::load::<Vec<Asked>>(state, &key).await? {
            Some((waiting, revision)) => (waiting, Expect::Revision(revision)),
            None => (Vec::new(), Expect::Absent),
        };
        let result = change(&mut waiting);
        if persisted::store(state, &key, &waiting, expect).await?.is_some() {
            return Ok(result);
        }
    }
    Err(persisted::lost_race(&key))
}
