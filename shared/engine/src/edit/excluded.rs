//! Documents that the mapping leaves out although their records may not have changed: it was edited, or their marks were
//! lost and tell nothing. The host still has their records, so that no listing tells of them; a condition with a mistake
//! would empty the target. They are judged like every deletion (L8), all of a run together.

use fides_core::{Change, Fault, Held, Key, Mark, Op, Origin};

use crate::deletions::{self, Grant, Wanted};
use crate::spool::{self as candidates, Source};
use crate::{Counts, DeletePolicy, Mapping, Pipeline, Progress, SweepReport, epoch, publisher};

/// Begins the names of what is left out, beside the candidates that a listing did not meet.
pub(crate) const KIND: &str = "excluded-";

fn name(run: &str) -> String {
    format!("{KIND}{run}")
}

/// Spools what the mapping leaves out of a page, before the page's cursor moves.
pub(crate) async fn spool(pipeline: &Pipeline, run: &str, keys: &[Key]) -> Result<(), Fault> {
    candidates::put(pipeline, &name(run), Source::Listing, keys).await
}

/// Whether a mark tells that what the mapping leaves out now was there before by the host's own record.
pub(crate) fn tells(mark: &Mark) -> bool {
    mark.fingerprint.is_some() || mark.held != Held::Present
}

/// Splits what may be sent from what has to be judged first: deletions of records that the mapping leaves out, where the mark
/// does not tell what the target holds, or there is none because marks were lost. `known` are their marks, aligned. Where
/// nothing is ever deleted nothing has to be judged.
pub(crate) async fn split(
    pipeline: &Pipeline,
    changes: Vec<Change>,
    known: &[Option<Mark>],
) -> Result<(Vec<Change>, Vec<Key>), Fault> {
    if pipeline.delete == DeletePolicy::Never {
        return Ok((changes, Vec::new()));
    }
    let is_unmarked = |(change, mark): (&Change, &Option<Mark>)| change.op == Op::Delete && mark.is_none();
    let lost = changes.iter().zip(known).any(is_unmarked) && epoch::owed(pipeline).await?.rebuild_marks;
    let (mut send, mut judged) = (Vec::with_capacity(changes.len()), Vec::new());
    for (change, mark) in changes.into_iter().zip(known) {
        if change.op != Op::Delete || mark.as_ref().map_or(!lost, tells) {
            send.push(change);
        } else {
            judged.push(change.key);
        }
    }
    Ok((send, judged))
}

/// Forgets what other runs have spooled.
pub(crate) async fn clear_others(pipeline: &Pipeline, run: &str) -> Result<(), Fault> {
    candidates::clear_others(pipeline, KIND, &name(run)).await
}

/// Judges what the mapping leaves out, and deletes it where that is allowed. Behind the sweep of the same run:
/// what that has deleted counts among the deletions of the last day. Repeating it after a crash is harmless.
pub(crate) async fn delete(
    pipeline: &Pipeline,
    run: &str,
    host_records: u64,
    listing_complete: bool,
    progress: &Progress,
) -> Result<SweepReport, Fault> {
    let name = name(run);
    let mut report = SweepReport { candidates: candidates::count(pipeline, &name).await?, ..SweepReport::default() };
    if report.candidates == 0 {
        deletions::forget(pipeline, KIND).await?;
        return Ok(report);
    }
    progress.enter("deleting what the mapping leaves out");
    let wanted = Wanted { deletions: report.candidates, host_records, listing_complete, approved: 0 };
    let grant = match deletions::reserve(pipeline, KIND, &wanted).await? {
        Ok(grant) => grant,
        Err(why) => {
            let why = refusal(&why);
            tracing::error!(pipeline = %pipeline.id, run, candidates = report.candidates, why, "clean-up refused: nothing was deleted");
            Progress::add(&progress.refused, 1);
            report.refused = Some(why);
            return Ok(report);
        }
    };
    let mut entries = candidates::Distinct::new(pipeline, &name);
    while let Some((entry, keys)) = entries.next().await? {
        let counts = send_present(pipeline, &keys, &grant).await?;
        pipeline.backplane.state.remove(&entry).await?;
        progress.count(&counts);
        report.deleted += counts.deletions;
    }
    grant.end().await;
    Ok(report)
}

/// A refusal that says what is refused.
pub(crate) fn refusal(why: &str) -> String {
    format!(
        "the mapping leaves out records whose documents the target holds: {why} (to allow it, raise the pipeline's \
         delete_ratio_max until an import has ended)"
    )
}

/// Sends what the present mapping makes of the host's present records: a deletion, or a document where a record has
/// changed since. One that is gone is a candidate of the next listing.
async fn send_present(pipeline: &Pipeline, keys: &[Key], grant: &Grant<'_>) -> Result<Counts, Fault> {
    let snapshot = pipeline.open_host().await?;
    let mut mapping = Mapping::new(&*pipeline.mapper, &pipeline.selection, &pipeline.limits);
    let mut counts = Counts::default();
    for portion in keys.chunks(pipeline.limits.batch_records_max.max(1)) {
        let found = snapshot.fetch(portion).await?;
        let changes: Vec<Change> = (0..found.len()).map(|at| mapping.change(&found, at, false)).collect();
        let deletions = changes.iter().filter(|change| change.op == Op::Delete).count() as u64;
        counts.published += changes.len() as u64;
        counts.deletions += deletions;
        grant.check(deletions).await?;
        publisher::publish(pipeline, pipeline.shape(), Origin::Import, changes).await?;
        grant.spend(deletions).await?;
    }
    Ok(counts)
}
