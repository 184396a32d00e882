//! Deletions (L8): a listing that missed a record is never evidence enough. Every candidate is judged together with all
//! others, fetched again from the host, and its deletion carries the version of the snapshot that saw the absence.

use fides_core::{Change, Fault, Key, Op, Origin};
use serde::{Deserialize, Serialize};

use crate::admin::{self, Allowance};
use crate::deletions::{self, Grant, Wanted};
use crate::{DeletePolicy, Pipeline, Progress, extras, hints, listing, publisher, spool};

/// What became of the candidates of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepReport {
    /// Records that the listing did not meet.
    pub candidates: u64,
    /// Of those, proven absent, and their deletion published.
    pub deleted: u64,
    /// Rows of the target that this pipeline never wrote, and left alone. Only a clean-up meets them.
    #[serde(default)]
    pub foreign: u64,
    /// Why nothing was deleted, if that was refused. An alert.
    pub refused: Option<String>,
    /// Who ended it early.
    #[serde(default)]
    pub cancelled: Option<String>,
}

/// A listing of the host, and the run that made it.
pub(crate) struct Listing<'a> {
    pub(crate) run: &'a str,
    /// Begins the names of such runs.
    pub(crate) kind: &'a str,
    /// Records that it met.
    pub(crate) host_records: u64,
    /// Deletions that the host's log had told when it began.
    pub(crate) told: u64,
    /// Whether it came to its proven end.
    pub(crate) complete: bool,
}

impl SweepReport {
    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        let refused = match (self.refused, other.refused) {
            (Some(one), Some(other)) => Some(format!("{one}; {other}")),
            (one, other) => one.or(other),
        };
        Self {
            candidates: self.candidates + other.candidates,
            deleted: self.deleted + other.deleted,
            foreign: self.foreign + other.foreign,
            refused,
            cancelled: self.cancelled.or(other.cancelled),
        }
    }
}

/// Judges and publishes the deletions of a run's candidates. Repeating it after a crash is harmless.
pub(crate) async fn sweep(
    pipeline: &Pipeline,
    listing: &Listing<'_>,
    allowance: Option<&Allowance<'_>>,
    progress: &Progress,
) -> Result<SweepReport, Fault> {
    let run = listing.run;
    let candidates = spool::count(pipeline, run).await?;
    let mut report = SweepReport { candidates, ..SweepReport::default() };
    let wanted = if pipeline.delete == DeletePolicy::Never { 0 } else { candidates };
    if wanted == 0 {
        deletions::forget(pipeline, listing.kind).await?;
        settled(pipeline, listing, allowance.is_some()).await?;
        return Ok(report);
    }
    let grant = match allowed(pipeline, listing, wanted, allowance).await? {
        Ok(grant) => grant,
        Err(why) => {
            let why = admin::refuse(pipeline, run, candidates, &why).await?;
            tracing::error!(pipeline = %pipeline.id, run, candidates, why, "clean-up refused: nothing was deleted");
            Progress::add(&progress.refused, 1);
            report.refused = Some(why);
            return Ok(report);
        }
    };
    let mut entries = spool::Distinct::new(pipeline, run);
    while let Some((entry, keys)) = entries.next().await? {
        if let Some(allowance) = allowance {
            allowance.spend(&entry, keys.len() as u64).await?;
        }
        let deleted = delete_absent(pipeline, &keys, &grant).await?;
        pipeline.backplane.state.remove(&entry).await?;
        progress.count(&crate::Counts { published: deleted, deletions: deleted, ..crate::Counts::default() });
        report.deleted += deleted;
    }
    grant.end().await;
    settled(pipeline, listing, allowance.is_some()).await?;
    Ok(report)
}

/// The right to delete the candidates, or why nothing may be deleted and what can be done about it.
async fn allowed<'a>(
    pipeline: &'a Pipeline,
    listing: &Listing<'_>,
    candidates: u64,
    allowance: Option<&Allowance<'_>>,
) -> Result<Result<Grant<'a>, String>, Fault> {
    let (approved, expired) = match allowance {
        None => (0, None),
        Some(allowance) => match allowance.left().await? {
            Ok(left) => (left, None),
            Err(expired) => (0, Some(expired)),
        },
    };
    let why = if expired.is_none() && allowance.is_some() && candidates > approved && listing.complete {
        // A ceiling is one also where so few would need none.
        format!("{candidates} records would be deleted; the approval allows {approved}")
    } else {
        let Listing { host_records, complete: listing_complete, .. } = *listing;
        let wanted = Wanted { deletions: candidates, host_records, listing_complete, approved };
        match deletions::reserve(pipeline, listing.kind, &wanted).await? {
            Ok(grant) => return Ok(Ok(grant)),
            Err(why) => expired.map_or(why.clone(), |expired| format!("{why}; {expired}")),
        }
    };
    if !listing.complete {
        return Ok(Err(why));
    }
    let (id, run) = (&pipeline.id, listing.run);
    Ok(Err(format!("{why} (to allow it once: `fides approve {id} {run} --deletions-max {candidates}`)")))
}

/// A listing that nothing speaks against is what the next one is compared with, and ends the alert of one before.
async fn settled(pipeline: &Pipeline, listing: &Listing<'_>, approved: bool) -> Result<(), Fault> {
    if listing.complete {
        // Where nothing is ever deleted nothing speaks against a listing: it proves nothing.
        if pipeline.delete != DeletePolicy::Never {
            listing::keep(pipeline, listing.host_records, listing.told).await?;
        }
        // What was approved is carried out, whichever kind of run had been refused.
        admin::lift(pipeline, if approved { "" } else { listing.kind }).await?;
        // What a listing does not find absent, or deletes, no hint can want to have deleted.
        admin::lift(pipeline, hints::KIND).await?;
    }
    Ok(())
}

/// Fetches candidates again and publishes a deletion for each that is still absent, labelled with the version of the
/// snapshot that saw it (L8). A candidate whose mark is at or above that version is dropped by `admit`. One that the host
/// has again is the target's all the same: it is marked.
pub(crate) async fn delete_absent(pipeline: &Pipeline, keys: &[Key], grant: &Grant<'_>) -> Result<u64, Fault> {
    // Before the host is asked: an import that met a record again meanwhile must not take it for unchanged, because a
    // deletion of it may be on its way. One that compared earlier has read an older state than the one asked for now.
    pipeline.backplane.hashes.distrust(&pipeline.id, keys).await?;
    let snapshot = pipeline.open_host().await?;
    let mut deleted = 0;
    for portion in keys.chunks(pipeline.limits.batch_records_max.max(1)) {
        let found = snapshot.fetch(portion).await?;
        let (present, absent): (Vec<Key>, Vec<Key>) =
            portion.iter().cloned().partition(|key| found.find(key.as_bytes()).is_some());
        extras::adopt(pipeline, &present).await?;
        let changes: Vec<Change> = absent
            .into_iter()
            .map(|key| Change { key, version: found.version, fingerprint: None, op: Op::Delete, forced: false })
            .collect();
        deleted += changes.len() as u64;
        let count = changes.len() as u64;
        grant.check(count).await?;
        publisher::publish(pipeline, pipeline.shape(), Origin::Cleanup, changes).await?;
        grant.spend(count).await?;
    }
    Ok(deleted)
}
