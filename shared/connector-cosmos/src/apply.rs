//! A batch of changes: written one by one, up to a bound at the same time, each with an outcome of its own.

use std::collections::VecDeque;
use std::time::Duration;

use fides_core::port::{Outcome, Write};
use fides_core::{Change, Fault, FaultKind, Op, decode_row};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::container::Container;
use crate::document;
use crate::fence::{self, RELIED_ON};
use crate::layout::{Layout, version_text};
use crate::moves::Movers;
use crate::record::{Body, put};
use crate::tombstone::tombstone;

/// The containers that a pipeline writes.
pub(crate) struct Places {
    pub documents: Container,
    /// Fides' own.
    pub own: Container,
}

/// Writes changes; one outcome each. A request that is answered 429 is sent again when the account is free again: a write is
/// thousands of requests, of which the guard sees none, and repeats only what is left open when `time_max` has passed.
pub(crate) async fn apply(
    places: &Places,
    layout: &Layout,
    write: &Write<'_>,
    changes: &[Change],
    concurrency: usize,
    time_max: Duration,
) -> Vec<Outcome> {
    let end = Instant::now() + time_max;
    let patient = &Places { documents: places.documents.patient(end), own: places.own.patient(end) };
    let mut batch = Batch::new(changes.len());
    let mut relied_on: Option<Instant> = None;
    let mut running = FuturesUnordered::new();
    loop {
        let may_send = batch.stop.is_none() && running.len() < concurrency && !batch.waiting.is_empty();
        tokio::select! {
            biased;
            Some((at, outcome)) = running.next() => batch.settle(at, outcome),
            () = tokio::time::sleep_until(places.documents.pace.free_at().min(end)), if may_send => {
                let free_at = places.documents.pace.free_at();
                if free_at >= end || Instant::now() >= end {
                    batch.stop = Some(Stop::Late(free_at));
                } else if batch.throttled.is_some() && places.documents.pace.is_shut() {
                    batch.stop = Some(Stop::Throttled(free_at));
                } else if free_at > Instant::now() {
                    // Somebody was told to wait meanwhile.
                } else if relied_on.is_none_or(|since| since.elapsed() >= RELIED_ON) {
                    let since = Instant::now();
                    match fence::hold(&places.own, &places.documents, write).await {
                        Ok(()) => relied_on = Some(since),
                        Err(fault) => batch.refused(fault),
                    }
                } else if let Some(at) = batch.waiting.pop_front() {
                    running.push(async move { (at, one(patient, layout, &changes[at]).await) });
                }
            }
            else => break,
        }
    }
    batch.outcomes()
}

/// Why nothing more is sent.
enum Stop {
    /// The account, or the lane, is not there.
    Fault(Fault),
    /// The time of one write is over, or will be before the account is free again.
    Late(Instant),
    /// The account answers nothing but 429.
    Throttled(Instant),
}

/// What became of a batch so far.
struct Batch {
    outcomes: Vec<Option<Outcome>>,
    /// Changes to be sent, or sent again.
    waiting: VecDeque<usize>,
    stop: Option<Stop>,
    /// Whether any change was written.
    answered: bool,
    /// The last 429.
    throttled: Option<Fault>,
}

impl Batch {
    fn new(changes: usize) -> Self {
        let waiting = (0..changes).collect();
        Self { outcomes: vec![None; changes], waiting, stop: None, answered: false, throttled: None }
    }

    fn settle(&mut self, at: usize, outcome: Outcome) {
        match fault_of(&outcome) {
            Some(fault) if matches!(fault.kind, FaultKind::Throttled { .. }) => {
                self.throttled = Some(fault.clone());
                self.waiting.push_back(at);
            }
            // Nothing further is sent to an account that is not there. One that is slow with one item gets the others.
            Some(fault) if fault.kind == FaultKind::Unavailable => {
                self.stop = Some(Stop::Fault(fault.clone()));
            }
            Some(_) => {}
            None => self.answered = true,
        }
        self.outcomes[at] = Some(match (self.outcomes[at].take(), outcome) {
            // L5: what is unknown stays so until it is written; that it was refused later says nothing of the first time.
            (Some(Outcome::Unknown(_)), Outcome::Failed(fault)) => Outcome::Unknown(fault),
            (_, outcome) => outcome,
        });
    }

    /// The lane could not be looked at.
    fn refused(&mut self, fault: Fault) {
        if matches!(fault.kind, FaultKind::Throttled { .. }) {
            self.throttled = Some(fault);
        } else {
            self.stop = Some(Stop::Fault(fault));
        }
    }

    /// Why what is left was not sent. An account that wrote a part until the end is asked for the rest at once, because the
    /// pace of requests is kept here; one that only throttles is left alone for longer.
    fn rest(&self) -> Fault {
        let free_at = match &self.stop {
            Some(Stop::Fault(fault)) => return fault.clone(),
            Some(Stop::Late(_)) if self.answered => {
                return Fault::transient("the time of one write ended before all was sent");
            }
            Some(Stop::Late(free_at) | Stop::Throttled(free_at)) => *free_at,
            None => return Fault::transient("a change was left without an outcome"),
        };
        let after = free_at.saturating_duration_since(Instant::now());
        match &self.throttled {
            Some(fault) if after.is_zero() => fault.clone(),
            _ => Fault::new(FaultKind::Throttled { after }, "the account asks for patience"),
        }
    }

    fn outcomes(self) -> Vec<Outcome> {
        let rest = self.rest();
        let mut outcomes = self.outcomes;
        for at in self.waiting {
            let before = outcomes[at].take();
            outcomes[at] = Some(match before {
                Some(Outcome::Unknown(_)) => Outcome::Unknown(rest.clone()),
                _ => Outcome::Failed(rest.clone()),
            });
        }
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Outcome::Failed(rest.clone()))).collect()
    }
}

async fn one(places: &Places, layout: &Layout, change: &Change) -> Outcome {
    let version = version_text(change);
    let movers = layout.moves().then_some(Movers { documents: &places.documents, addresses: &places.own, layout });
    let written = match (&change.op, movers) {
        (Op::Upsert(document), Some(movers)) => match decode_row(document) {
            Ok(row) => Ok(movers.upsert(&change.key, &row, &version).await),
            Err(fault) => Err(fault),
        },
        (Op::Upsert(document), None) => upsert(places, layout, change, document, &version).await,
        (Op::Delete, Some(movers)) => Ok(movers.delete(&change.key, &version).await),
        (Op::Delete, None) => delete(places, layout, change, &version).await,
        (Op::Reject { .. }, _) => Err(Fault::permanent("a rejected record was sent to the target")),
    };
    match written {
        Ok(outcome) => outcome,
        Err(fault) => Outcome::Failed(fault.at(format_args!("container {}", layout.place))),
    }
}

async fn upsert(
    places: &Places,
    layout: &Layout,
    change: &Change,
    row: &[u8],
    version: &str,
) -> Result<Outcome, Fault> {
    let row = decode_row(row)?;
    let address = layout.of_row(&change.key, &row)?;
    let json = document::write(layout, &address.id, &change.key, version, &row)?;
    Ok(put(&places.documents, layout, &address, Body { json: &json, version }).await)
}

async fn delete(places: &Places, layout: &Layout, change: &Change, version: &str) -> Result<Outcome, Fault> {
    let address = layout.fixed(&change.key)?;
    let json = tombstone(layout, &address, version);
    Ok(put(&places.documents, layout, &address, Body { json: &json, version }).await)
}

fn fault_of(outcome: &Outcome) -> Option<&Fault> {
    match outcome {
        Outcome::Unknown(fault) | Outcome::Failed(fault) => Some(fault),
        Outcome::Applied | Outcome::Stale => None,
    }
}
