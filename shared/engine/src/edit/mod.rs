//! An edit of the mapping (DESIGN §9). Every fingerprint is another one then, and most documents may still be the same.
//! Where the fingerprint under the mapping before equals the mark, both mappings are evaluated: a document that stays the
//! same only gets another mark, and what the edit now leaves out is judged like every deletion.

mod before;
mod excluded;
mod kept;

use fides_core::port::Relabel;
use fides_core::{Change, Fault, Held, Key, Mark, Op, Page};

pub(crate) use excluded::{
    KIND as EXCLUDED_KIND, clear_others, delete as delete_excluded, refusal, split, spool, tells,
};
pub(crate) use kept::{keep, replace};

use crate::Pipeline;
use before::Before;

/// The mapping is another one than the marks were made with.
pub(crate) struct Edit<'a> {
    /// The mapping before, or why it cannot be evaluated: then every document counts as another one.
    before: Result<Before<'a>, String>,
}

/// What is to be done with records that differ from their marks.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    /// Their documents are others: to be published.
    pub(crate) send: Vec<Change>,
    /// Their documents are the same, and their marks have to say so.
    pub(crate) same: Vec<Relabel>,
    /// The target may hold documents of these, and the edited mapping leaves them out.
    pub(crate) excluded: Vec<Key>,
}

impl<'a> Edit<'a> {
    /// `None` when the marks were made with the present mapping, or there are none yet.
    pub(crate) async fn open(pipeline: &'a Pipeline) -> Result<Option<Self>, Fault> {
        let Some(kept) = kept::load(pipeline).await? else { return Ok(None) };
        if kept.revision == pipeline.mapper.revision() {
            return Ok(None);
        }
        Ok(Some(Self { before: Before::open(pipeline, &kept).await? }))
    }

    /// Why every document counts as another one.
    pub(crate) fn unknown(&self) -> Option<&str> {
        self.before.as_ref().err().map(String::as_str)
    }

    /// Says what this import does.
    pub(crate) fn tell(&self, pipeline: &Pipeline) {
        match self.unknown() {
            None => tracing::info!(pipeline = %pipeline.id,
                "the mapping was edited: records are mapped by both, and only documents that differ are sent"),
            Some(why) => tracing::info!(pipeline = %pipeline.id, why,
                "the mapping was edited, and the one before cannot be evaluated: everything is sent"),
        }
    }

    /// Sorts `changes`, which the present mapping makes of the page's `records`. `known` are their marks, aligned.
    ///
    /// A mark is only ever given another fingerprint: what it says of the target stays as true, or as late, as it was
    /// (L5, L7). It keeps its version, so that a change that is on its way is still admitted. Where `skips` is false no mark
    /// is trusted so far: what stays the same is sent, too.
    pub(crate) async fn sort(
        &self,
        skips: bool,
        page: &Page,
        records: &[usize],
        known: &[Option<Mark>],
        changes: Vec<Change>,
    ) -> Result<Sorted, Fault> {
        let wanted = changes.iter().zip(known).map(|(change, mark)| asks(change, mark.as_ref()));
        let wanted: Vec<usize> = wanted.zip(records).filter(|(asks, _)| *asks).map(|(_, &at)| at).collect();
        let rows = match &self.before {
            Ok(before) if !wanted.is_empty() => Some(before.rows(page, &wanted).await?),
            _ => None,
        };
        let mut sorted = Sorted::default();
        for ((change, mark), &at) in changes.into_iter().zip(known).zip(records) {
            let row = rows.as_ref().filter(|_| asks(&change, mark.as_ref())).and_then(|rows| rows.row(at));
            match (mark, &change.op) {
                (Some(mark), _) if skips && row.as_ref().is_some_and(|row| row.says(mark, &change.op)) => {
                    // It asks, therefore it has a fingerprint: a change of a page always has.
                    let Some(fingerprint) = change.fingerprint else { continue };
                    sorted.same.push(Relabel { key: change.key, before: *mark, fingerprint });
                }
                (Some(mark), Op::Delete) if mark.may_exist() => sorted.excluded.push(change.key),
                // Without a mark nobody knows what the target holds: nothing, if the mapping before left it out, too.
                (None, Op::Delete) if !row.is_some_and(|row| row.is_excluded()) => sorted.excluded.push(change.key),
                _ => sorted.send.push(change),
            }
        }
        Ok(sorted)
    }
}

/// Whether the mapping before has a say: the mark may be its own, or is not there. A dead letter of the mapping before is
/// always tried again.
fn asks(change: &Change, mark: Option<&Mark>) -> bool {
    match (mark, &change.op) {
        (Some(mark), Op::Upsert(_)) => mark.held == Held::Present && mark.fingerprint.is_some(),
        (Some(mark), Op::Delete) => mark.held == Held::Absent && mark.fingerprint.is_some(),
        (None, Op::Delete) => true,
        (None, Op::Upsert(_)) | (_, Op::Reject { .. }) => false,
    }
}
