//! What an import would do, without doing it.

use fides_core::port::Snapshot;
use fides_core::{Fault, Key, KeyRange, Mark, Page};
use serde::Serialize;

use crate::import::Comparing;
use crate::{Mapping, Pipeline, Progress};

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
    /// A few of each.
    pub samples: Vec<Sample>,
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
}

/// Reads the host, compares with the marks and counts. Writes nothing, neither to the target nor to the state.
pub async fn plan(pipeline: &Pipeline, samples_max: usize, progress: &Progress) -> Result<Plan, Fault> {
    progress.enter("comparing the host with the marks");
    let host = pipeline.peek_host().await?;
    let mut planner = Planner { pipeline, samples_max, plan: Plan::default(), wanted: Vec::new() };
    for range in host.plan(1).await? {
        planner.range(&*host, &range, progress).await?;
    }
    drop(host);
    planner.show_target().await?;
    Ok(planner.plan)
}

struct Planner<'a> {
    pipeline: &'a Pipeline,
    samples_max: usize,
    plan: Plan,
    /// Keys of the samples, in their order.
    wanted: Vec<Key>,
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
                self.plan.unchanged += (work.unchanged + work.dead) as u64;
                let keys: Vec<Key> = work.changed.iter().map(|&at| Key::from_bytes(page.keys.get(at))).collect();
                let marks = hashes.get(&self.pipeline.id, &keys).await?;
                self.judge(&page, &work.changed, &marks);
                for (key, _) in work.unmet {
                    self.plan.delete += 1;
                    self.sample(&key, "delete", None);
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    fn judge(&mut self, page: &Page, changed: &[usize], marks: &[Option<Mark>]) {
        let pipeline = self.pipeline;
        let mut mapping = Mapping::new(&*pipeline.mapper, &pipeline.selection, &pipeline.limits);
        for (&at, mark) in changed.iter().zip(marks) {
            let key = Key::from_bytes(page.keys.get(at));
            let exists = mark.is_some_and(|mark| mark.may_exist());
            match mapping.map(page, at) {
                Err(fault) => {
                    self.plan.reject += 1;
                    self.sample(&key, "reject", Some(fault.to_string()));
                }
                Ok(None) if exists => {
                    self.plan.delete += 1;
                    self.sample(&key, "delete", None);
                }
                Ok(None) => self.plan.unchanged += 1,
                Ok(Some(document)) => {
                    let action = if exists { "change" } else { "create" };
                    *(if exists { &mut self.plan.change } else { &mut self.plan.create }) += 1;
                    let shown = fides_core::decode_row(&document)
                        .map(|values| fides_format::document_to_json(pipeline.shape(), &values));
                    self.sample(&key, action, shown.ok());
                }
            }
        }
    }

    fn sample(&mut self, key: &Key, action: &'static str, after: Option<String>) {
        let same = self.plan.samples.iter().filter(|sample| sample.action == action).count();
        if same < self.samples_max {
            self.plan.samples.push(Sample { key: key.to_string(), action, before: None, after });
            self.wanted.push(key.clone());
        }
    }

    /// Adds what the target holds for the samples.
    async fn show_target(&mut self) -> Result<(), Fault> {
        if self.wanted.is_empty() {
            return Ok(());
        }
        // A target that is yet to be created holds nothing.
        if self.pipeline.target.describe(&self.pipeline.sink.namespace).await?.is_none() {
            return Ok(());
        }
        let found = self.pipeline.open_target().await?.fetch(&self.wanted).await?;
        for (sample, key) in self.plan.samples.iter_mut().zip(&self.wanted) {
            if let Some(at) = found.find(key.as_bytes()) {
                sample.before = Some(fides_format::document_to_json(self.pipeline.shape(), &found.values(at)?));
            }
        }
        Ok(())
    }
}
