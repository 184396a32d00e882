//! What an import would do, without doing it.

use bytes::Bytes;
use fides_core::decide::Verdict;
use fides_core::port::Snapshot;
use fides_core::{Change, Fault, Key, KeyRange, Mark, Op, Page, Selection, Shape, Value};
use serde::Serialize;

use super::FieldDifference;
use super::judge::shown;
use crate::deletions::{self, Wanted};
use crate::edit::{self, Edit, Sorted};
use crate::import::{Comparing, Work};
use crate::{DeletePolicy, Mapping, Pipeline, Progress};

/// What an import would send.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Records of the host.
    pub read: u64,
    /// Records that need not be sent.
    pub unchanged: u64,
    /// Documents that the target does not have yet.
    pub create: u64,
    /// Documents that would be written again.
    pub change: u64,
    /// Candidates for deletion, the ones that the mapping now leaves out included.
    pub delete: u64,
    /// Records that cannot be mapped.
    pub reject: u64,
    /// Records that equal a dead letter, kept or dropped: they are not sent again until they change.
    pub dead: u64,
    /// Why the deletions would be refused, if they would be.
    pub refused: Option<String>,
    /// What an edit of the mapping does, if it was edited since the last import that came to its end.
    pub edit: Option<EditPlan>,
    /// A few of each.
    pub samples: Vec<Sample>,
}

/// What an edit of the mapping does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EditPlan {
    /// Of the unchanged records, those whose documents it leaves as they are: they only get another mark.
    pub relabel: u64,
    /// Of the deletions, records that it leaves out.
    pub exclude: u64,
    /// Why the mapping before cannot be evaluated: then every document counts as changed.
    pub unknown: Option<String>,
}

/// One record of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// Its key.
    pub key: String,
    /// `create`, `change`, `delete` or `reject`.
    pub action: &'static str,
    /// What the target holds, as JSON.
    pub before: Option<String>,
    /// What it would hold, as JSON; for a reject, the reason.
    pub after: Option<String>,
    /// For a change, the fields in which the two differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldDifference>,
}

/// Reads the host, compares with the marks and counts. Writes nothing, neither to the target nor to the state.
pub async fn plan(pipeline: &Pipeline, samples_max: usize, progress: &Progress) -> Result<Plan, Fault> {
    progress.enter("comparing the host with the marks");
    let host = pipeline.peek_host().await?;
    let edit = Edit::open(pipeline).await?;
    let unknown = |edit: &Edit<'_>| edit.unknown().map(ToOwned::to_owned);
    let told = edit.as_ref().map(|edit| EditPlan { unknown: unknown(edit), ..EditPlan::default() });
    let plan = Plan { edit: told, ..Plan::default() };
    let mut planner = Planner { pipeline, edit, samples_max, plan, absent: 0, unknown: 0, wanted: Vec::new() };
    for range in host.plan(1).await? {
        planner.range(&*host, &range, progress).await?;
    }
    drop(host);
    planner.judge_deletions().await?;
    planner.show_target().await?;
    Ok(planner.plan)
}

struct Planner<'a> {
    pipeline: &'a Pipeline,
    edit: Option<Edit<'a>>,
    samples_max: usize,
    plan: Plan,
    /// Of the deletions, records that the host does not have.
    absent: u64,
    /// Records that are left out, and whose marks do not tell since when.
    unknown: u64,
    /// Keys of the samples, in their order, and what the target would hold.
    wanted: Vec<(Key, Option<Bytes>)>,
}

impl Planner<'_> {
    async fn range(&mut self, host: &dyn Snapshot, range: &KeyRange, progress: &Progress) -> Result<(), Fault> {
        let hashes = &*self.pipeline.backplane.hashes;
        let mut after: Option<Key> = None;
        loop {
            let page = host.scan(range, after.as_ref()).await?;
            Progress::add(&progress.read, page.len());
            self.plan.read += page.len() as u64;
            let mut comparing = Comparing::begin(hashes, &self.pipeline.id, range, after.as_ref(), &page).await?;
            while let Some(work) = comparing.next().await? {
                self.plan.unchanged += work.unchanged as u64;
                self.plan.dead += work.dead as u64;
                self.judge(&page, &work).await?;
                self.absent += work.unmet.len() as u64;
                for (key, _) in work.unmet {
                    self.delete(&key);
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Judges what differs from its mark, in portions, as an import does.
    async fn judge(&mut self, page: &Page, work: &Work) -> Result<(), Fault> {
        let pipeline = self.pipeline;
        let mut mapping = Mapping::new(&*pipeline.mapper, &pipeline.selection, &pipeline.limits);
        let portion = pipeline.limits.batch_records_max.max(1);
        for (records, known) in work.changed.chunks(portion).zip(work.known.chunks(portion)) {
            let changes: Vec<Change> = records.iter().map(|&at| mapping.change(page, at, false)).collect();
            let sorted = match &self.edit {
                Some(edit) => edit.sort(true, page, records, known, changes).await?,
                None => Sorted { send: changes, ..Sorted::default() },
            };
            self.plan.unchanged += sorted.same.len() as u64;
            if let Some(edit) = &mut self.plan.edit {
                edit.relabel += sorted.same.len() as u64;
                edit.exclude += sorted.excluded.len() as u64;
            }
            for key in sorted.excluded {
                self.leave_out(&key);
            }
            for change in sorted.send {
                let place = page.find(change.key.as_bytes()).and_then(|at| records.binary_search(&at).ok());
                self.judge_change(change, place.and_then(|place| known[place]));
            }
        }
        Ok(())
    }

    fn judge_change(&mut self, change: Change, mark: Option<Mark>) {
        let exists = mark.is_some_and(|mark| mark.may_exist());
        match change.op {
            Op::Reject { reason, .. } => {
                self.plan.reject += 1;
                self.sample(&change.key, "reject", Some(reason), None);
            }
            Op::Delete if exists => {
                // As an import does: a mark that does not tell is judged.
                self.unknown += u64::from(!mark.as_ref().is_some_and(edit::tells));
                self.leave_out(&change.key);
            }
            Op::Delete => self.plan.unchanged += 1,
            Op::Upsert(document) => {
                let action = if exists { "change" } else { "create" };
                *(if exists { &mut self.plan.change } else { &mut self.plan.create }) += 1;
                let shown = fides_core::decode_row(&document)
                    .map(|values| fides_format::document_to_json(self.pipeline.shape(), &values));
                self.sample(&change.key, action, shown.ok(), Some(document));
            }
        }
    }

    fn never_deletes(&self) -> bool {
        self.pipeline.delete == DeletePolicy::Never
    }

    /// A record that was read, and whose document the mapping leaves out.
    fn leave_out(&mut self, key: &Key) {
        self.plan.unchanged += u64::from(self.never_deletes());
        self.delete(key);
    }

    fn delete(&mut self, key: &Key) {
        if !self.never_deletes() {
            self.plan.delete += 1;
            self.sample(key, "delete", None, None);
        }
    }

    /// Says why deletions would be refused. What a host's own change makes the mapping leave out is not judged.
    async fn judge_deletions(&mut self) -> Result<(), Fault> {
        if self.never_deletes() {
            return Ok(());
        }
        let absent = self.absent;
        let left_out = self.plan.edit.as_ref().map_or(self.unknown, |edit| edit.exclude);
        let host_records = self.plan.read;
        let wanted = Wanted { deletions: absent + left_out, host_records, listing_complete: true, approved: 0 };
        if let Verdict::Refused(why) = deletions::judge(self.pipeline, &wanted).await? {
            self.plan.refused = Some(if absent == 0 { edit::refusal(&why) } else { why });
        }
        Ok(())
    }

    fn sample(&mut self, key: &Key, action: &'static str, after: Option<String>, document: Option<Bytes>) {
        let same = self.plan.samples.iter().filter(|sample| sample.action == action).count();
        if same < self.samples_max {
            self.plan.samples.push(Sample { key: key.to_string(), action, before: None, after, fields: Vec::new() });
            self.wanted.push((key.clone(), document));
        }
    }

    /// Adds what the target holds for the samples.
    async fn show_target(&mut self) -> Result<(), Fault> {
        if self.wanted.is_empty() {
            return Ok(());
        }
        // A target that is yet to be created holds nothing, and what an edit adds has no place in it yet.
        let Some(table) = self.pipeline.target.describe(&self.pipeline.sink.namespace).await? else { return Ok(()) };
        let has = |name: &str| table.column(name).is_some();
        let wanted = &self.pipeline.target_selection;
        let columns = wanted.columns.iter().filter(|column| has(&column.name)).cloned().collect();
        let fields = self.pipeline.shape().fields.iter().filter(|field| has(&field.name)).cloned().collect();
        let (selection, shape) = (Selection { columns, ..wanted.clone() }, Shape { fields, key: Vec::new() });
        let snapshot = self.pipeline.target.snapshot(&self.pipeline.sink, &selection).await?;
        let keys: Vec<Key> = self.wanted.iter().map(|(key, _)| key.clone()).collect();
        let found = snapshot.fetch(&keys).await?;
        for (sample, (key, document)) in self.plan.samples.iter_mut().zip(&self.wanted) {
            let Some(at) = found.find(key.as_bytes()) else { continue };
            let before = found.values(at)?;
            sample.before = Some(fides_format::document_to_json(&shape, &before));
            if let Some(document) = document {
                let after = fides_core::decode_row(document)?;
                sample.fields = fields_that_change(&shape, &before, self.pipeline.shape(), &after);
            }
        }
        Ok(())
    }
}

/// The fields in which a document differs from the one before. What that did not have counts as absent.
fn fields_that_change(old: &Shape, before: &[Value<'_>], new: &Shape, after: &[Value<'_>]) -> Vec<FieldDifference> {
    let absent = Value::Absent;
    let value_before = |name: &str| {
        let at = old.fields.iter().position(|field| field.name == name);
        at.and_then(|at| before.get(at)).unwrap_or(&absent)
    };
    let fields = new.fields.iter().enumerate();
    let pairs = fields.map(|(at, field)| (field, after.get(at).unwrap_or(&absent), value_before(&field.name)));
    pairs
        .filter(|(_, expected, found)| expected != found && !fides_format::same(expected, found))
        .map(|(field, expected, found)| FieldDifference {
            field: field.name.clone(),
            expected: shown(expected),
            found: shown(found),
        })
        .collect()
}
