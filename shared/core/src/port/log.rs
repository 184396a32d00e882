use std::sync::Arc;

use async_trait::async_trait;

use crate::{Decode, Fault, Fingerprint, Key, Slices};

/// The log of one selection of a host, read from one place on by one reader.
///
/// Whatever a log leaves open its adapter closes: a row that the log carries only in part, or a root whose included
/// record changed, is fetched in a state that is not older than the change.
#[async_trait]
pub trait Log: Send {
    /// Waits for what was committed next: as soon as there is something, without waiting for a full page. A transaction
    /// that does not fit comes on several pages. Cancel-safe. After a fault the log is to be opened anew.
    async fn next(&mut self) -> Result<LogPage, Fault>;

    /// Says that everything through `place` is published and that `place` is stored, so that the host may forget it (L3).
    async fn release(&mut self, place: u64) -> Result<(), Fault>;
}

/// How a log was opened.
pub struct Opened {
    /// Goes on directly behind the place that was asked for, or at `from` where something is missing.
    pub log: Box<dyn Log>,
    /// Where it begins.
    pub from: u64,
    /// What may be missing between the place that was asked for and `from`.
    pub gap: Option<Gap>,
}

/// Something that a log does not tell, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Changes before `from`: an import that begins now finds them.
    Missing(String),
    /// The place that was asked for lies beyond the log's end: positions have gone backward under the same lineage, as
    /// those of a server do that was restored. The epoch has to rise (DESIGN §5).
    Backward(String),
}

impl Gap {
    /// Why.
    pub fn why(&self) -> &str {
        match self {
            Gap::Missing(why) | Gap::Backward(why) => why,
        }
    }
}

/// Something about a log that a person has to mend, or should know, before it is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concern {
    /// Whether it keeps the log from being followed.
    pub stops: bool,
    /// What was found, and what was expected.
    pub what: String,
    /// What mends it: the statement to run, where there is one.
    pub mend: Option<String>,
}

/// Changes in the order of the log.
#[derive(Clone)]
pub struct LogPage {
    /// The changes.
    pub changes: Vec<Logged>,
    /// Raw rows of [`What::Row`]: the very bytes that a scan has, so that their fingerprints agree.
    pub rows: Slices,
    /// Fingerprints of the raw rows.
    pub fingerprints: Vec<Fingerprint>,
    /// Reads a raw row.
    pub decoder: Arc<dyn Decode>,
    /// Every change up to this place is on this page or on an earlier one; what [`Log::release`] and the next opening take.
    pub place: u64,
}

/// One change of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Position of the transaction's commit: greater than that of every snapshot that does not see it, and not greater
    /// than that of any that does, but for a snapshot of sequence 0 at the same position, which does not (DESIGN §5).
    pub position: u64,
    /// Place inside the transaction, from 1.
    pub sequence: u32,
    /// What happened.
    pub what: What,
}

/// What a logged change did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The record is now that row of the page.
    Row {
        /// Its key.
        key: Key,
        /// Which row.
        at: usize,
    },
    /// The record is gone: deleted, or its key is another now.
    Gone(Key),
    /// All records are gone at once: judged like every absence, by an import (L8).
    Emptied,
}
