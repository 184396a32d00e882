//! What people and programs ask of a running Fides, and what they are told: JSON objects, whatever they travel over.

#![allow(clippy::result_large_err)] // a refusal is an answer, ready to be sent; one per command

mod parse;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Bounds of a command (L10).
pub mod bounds {
    /// Bytes of a command.
    pub const COMMAND_BYTES_MAX: usize = 256 << 10;
    /// Characters of an id.
    pub const ID_CHARS_MAX: usize = 128;
    /// Bytes of the requester's name.
    pub const REQUESTER_BYTES_MAX: usize = 256;
    /// Bytes of the name of a pipeline or of a run.
    pub const NAME_BYTES_MAX: usize = 256;
    /// Pipelines that one command names.
    pub const PIPELINES_MAX: usize = 1_024;
    /// Keys that one command names.
    pub const KEYS_MAX: usize = 10_000;
    /// Ranges that one command names.
    pub const RANGES_MAX: usize = 1_024;
    /// Bytes of one key.
    pub const KEY_BYTES_MAX: usize = 4 << 10;
    /// How long an approval holds if the command does not say.
    pub const EXPIRES_SECONDS_DEFAULT: u64 = 3_600;
    /// How long an approval holds at most.
    pub const EXPIRES_SECONDS_MAX: u64 = 86_400;
}

/// A command: `{"id": "…", "requester": "…", "command": "pause", "pipelines": ["shop"]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Command {
    /// Chosen by whoever asks, 1 to 128 visible ASCII characters. The same id again is the same command, and is answered
    /// again.
    pub id: String,
    /// Who asks, for the audit trail and for `status`.
    pub requester: String,
    /// What is asked.
    #[serde(flatten)]
    pub action: Action,
}

/// What a command asks. A list of pipelines that is empty names all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Action {
    /// Import now: whole pipelines, or single keys or ranges of keys of one.
    Reimport {
        /// Which pipelines.
        pipelines: Vec<String>,
        /// What is sent.
        mode: Extent,
        /// Keys; empty for all.
        keys: Vec<KeyText>,
        /// Ranges of keys; empty for all.
        ranges: Vec<KeySpan>,
    },
    /// Stop working on pipelines until they are resumed. What is queued stays queued.
    Pause {
        /// Which pipelines.
        pipelines: Vec<String>,
    },
    /// Go on with paused pipelines.
    Resume {
        /// Which pipelines.
        pipelines: Vec<String>,
    },
    /// Search the target for what the host no longer has.
    Cleanup {
        /// Which pipelines.
        pipelines: Vec<String>,
    },
    /// Compare both sides.
    Verify {
        /// Which pipelines.
        pipelines: Vec<String>,
        /// Whether differing records are sent again.
        repair: bool,
    },
    /// Let one refused clean-up delete. It searches anew, and may delete so many records, once.
    Approve {
        /// Which pipeline.
        pipeline: String,
        /// The run whose deletions were refused.
        run: String,
        /// The ceiling: with more candidates than that nothing is deleted.
        deletions_max: u64,
        /// How long the approval holds.
        expires_seconds: u64,
    },
    /// Send the host's present state of dead letters again.
    Replay {
        /// Which pipeline.
        pipeline: String,
        /// Keys; empty for all letters.
        keys: Vec<KeyText>,
    },
    /// End the import, the clean-up and every other job that is under way or waits.
    Cancel {
        /// Which pipelines.
        pipelines: Vec<String>,
    },
}

/// How much a reimport sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extent {
    /// What differs from its mark.
    Delta,
    /// Everything, whatever its mark says.
    Full,
}

/// A key as people write it: `42`, `de/berlin`, or a JSON array where a part of a composite key holds a `/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyText(pub String);

/// The keys from `from` (inclusive) to `to` (exclusive); an end that is left out is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySpan {
    /// The first key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<KeyText>,
    /// The first key that is not meant any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<KeyText>,
}

/// What is told to whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Of the command; empty where it could not be read.
    pub id: String,
    /// What became of it.
    pub status: Status,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was done or is going to be, by pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is kept, and will be carried out. The same command asked again tells how far it is.
    Accepted,
    /// It is carried out.
    Done,
    /// It is not, and will not be.
    Refused,
}

impl Command {
    /// Reads a command. A refusal is ready to be sent: it names the place, what was found and what was expected.
    pub fn parse(bytes: &[u8]) -> Result<Self, Answer> {
        parse::command(bytes)
    }

    /// The command as it is sent, in one spelling: equal commands have equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Neither a map with keys that are no text nor a failing Serialize is in it.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Action {
    /// Its name in JSON and on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Reimport { .. } => "reimport",
            Action::Pause { .. } => "pause",
            Action::Resume { .. } => "resume",
            Action::Cleanup { .. } => "cleanup",
            Action::Verify { .. } => "verify",
            Action::Approve { .. } => "approve",
            Action::Replay { .. } => "replay",
            Action::Cancel { .. } => "cancel",
        }
    }

    /// The pipelines that it names; none for all.
    pub fn pipelines(&self) -> &[String] {
        match self {
            Action::Reimport { pipelines, .. }
            | Action::Pause { pipelines }
            | Action::Resume { pipelines }
            | Action::Cleanup { pipelines }
            | Action::Verify { pipelines, .. }
            | Action::Cancel { pipelines } => pipelines,
            Action::Approve { pipeline, .. } | Action::Replay { pipeline, .. } => std::slice::from_ref(pipeline),
        }
    }
}

impl Answer {
    /// That a command will not be carried out, and why.
    pub fn refused(id: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { id: id.into(), status: Status::Refused, reason: Some(reason.into()), detail: None }
    }

    /// The answer as it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        // As in [`Command::to_bytes`].
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
