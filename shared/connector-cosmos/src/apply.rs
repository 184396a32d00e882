//! A batch of changes: written one by one, up to a bound at the same time, each with an outcome of its own.

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

/// Writes changes; one outcome each. What was not sent when `time_max` has passed is given back.
pub(crate) async fn apply(
    places: &Places,
    layout: &Layout,
    write: &Write<'_>,
    changes: &[Change],
    concurrency: usize,
    time_max: Duration,
) -> Vec<Outcome> {
    let start = Instant::now();
    let mut outcomes: Vec<Option<Outcome>> = vec![None; changes.len()];
    let mut relied_on: Option<Instant> = None;
    let mut running = FuturesUnordered::new();
    let mut next = 0;
    let mut stop: Option<Fault> = None;
    loop {
        while next < changes.len() && running.len() < concurrency && stop.is_none() {
            stop = ready(places, start + time_max).await.err();
            if stop.is_none() && relied_on.is_none_or(|since| since.elapsed() >= RELIED_ON) {
                relied_on = Some(Instant::now());
                stop = fence::hold(&places.own, &places.documents, write).await.err();
            }
            if stop.is_none() {
                let at = next;
                running.push(async move { (at, one(places, layout, &changes[at]).await) });
                next += 1;
            }
        }
        let Some((at, outcome)) = running.next().await else { break };
        if stops(&outcome) && stop.is_none() {
            stop = fault_of(&outcome).cloned();
        }
        outcomes[at] = Some(outcome);
    }
    let rest = stop.unwrap_or_else(|| Fault::transient("a change was left without an outcome"));
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Outcome::Failed(rest.clone()))).collect()
}

/// Waits until a request may be sent; a fault when that is too late.
async fn ready(places: &Places, end: Instant) -> Result<(), Fault> {
    loop {
        let (now, free_at) = (Instant::now(), places.documents.pace.free_at());
        if free_at.max(now) >= end {
            let after = free_at.saturating_duration_since(now);
            return Err(Fault::new(FaultKind::Throttled { after }, "the time of one write ended before all was sent"));
        }
        if free_at <= now {
            return Ok(());
        }
        tokio::time::sleep_until(free_at).await;
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

/// Nothing further is sent to an account that is not there. One that is busy, or slow with one item, gets the others: the
/// pace has heard what it asks for.
fn stops(outcome: &Outcome) -> bool {
    fault_of(outcome).is_some_and(|fault| fault.kind == FaultKind::Unavailable)
}

fn fault_of(outcome: &Outcome) -> Option<&Fault> {
    match outcome {
        Outcome::Unknown(fault) | Outcome::Failed(fault) => Some(fault),
        Outcome::Applied | Outcome::Stale => None,
    }
}
