//! The proof: both sides compared record by record, field by field.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fides_core::{Fault, Held, Key, KeyRange, Mark, Page};
use tokio::task::JoinSet;

use super::judge::{Judge, Judged};
use super::walk::{Found, Sources};
use super::{Difference, DifferenceKind, VerifyReport};
use crate::spool::{self, Source};
use crate::{DeletePolicy, Pipeline, Progress};

/// Differing keys of a range that wait to be looked at again.
const PENDING_MAX: usize = 8_192;
/// Waits before differences are looked at once more while lanes are at work.
const WAITS_MS: [u64; 3] = [100, 400, 1_500];
/// All waits of one comparison together.
const WAITED_MS_MAX: u64 = 15_000;

/// Compares the whole host with the whole target. What differs is looked at again in newer snapshots, portion by portion
/// and however much there is, so that changes in flight are not taken for differences: while lanes are at work a few
/// times, with growing waits. Writes nothing. Memory: a page of each side and the keys of one portion per range. Ranges are
/// compared side by side, as tasks of the runtime: it is the comparison that takes the time, more than the two scans.
pub async fn verify(pipeline: &Pipeline, progress: &Arc<Progress>) -> Result<VerifyReport, Fault> {
    progress.enter("comparing both sides");
    Comparison::new(pipeline, progress, None).run().await
}

/// One comparison of host and target; its clones are parts of the same.
#[derive(Clone)]
pub(super) struct Comparison {
    pipeline: Pipeline,
    progress: Arc<Progress>,
    /// The run under which the keys that differ are spooled.
    spool: Option<String>,
    waited_ms: Arc<AtomicU64>,
}

impl Comparison {
    pub(super) fn new(pipeline: &Pipeline, progress: &Arc<Progress>, spool: Option<&str>) -> Self {
        let spool = spool.map(ToOwned::to_owned);
        Self { pipeline: pipeline.clone(), progress: progress.clone(), spool, waited_ms: Arc::default() }
    }

    pub(super) async fn run(&self) -> Result<VerifyReport, Fault> {
        let sources = Arc::new(Sources::new(&self.pipeline));
        let mut running = JoinSet::new();
        // As many as are planned: a range for each of `host_partitions`. What is left is given up with the set.
        for (at, range) in sources.plan().await?.into_iter().enumerate() {
            let (part, sources) = (self.clone(), sources.clone());
            running.spawn(async move { part.range(&sources, &range).await.map(|report| (at, report)) });
        }
        let mut reports: BTreeMap<usize, VerifyReport> = BTreeMap::new();
        while let Some(compared) = running.join_next().await {
            let failed = |error| Fault::permanent("a comparison failed unexpectedly").because(error);
            reports.extend([compared.map_err(failed)??]);
        }
        let mut report = VerifyReport::default();
        for part in reports.into_values() {
            report.add(part);
        }
        Ok(report)
    }

    async fn range(&self, sources: &Sources, range: &KeyRange) -> Result<VerifyReport, Fault> {
        let mut report = VerifyReport::default();
        let mut judge = Judge::new(&self.pipeline);
        let mut walk = sources.walk(range, None);
        let mut pending: Vec<Key> = Vec::new();
        loop {
            let read = report.host_records;
            let more = walk
                .step(|host, target| {
                    report.host_records += u64::from(host.is_some());
                    report.target_records += u64::from(target.is_some());
                    let mut excluded = false;
                    match judge.judge(host, target, &mut excluded) {
                        Judged::Equal => report.equal += 1,
                        Judged::Absent => {}
                        Judged::Differs(_) => pending.push(key_of(host, target)),
                    }
                    report.excluded += u64::from(excluded);
                })
                .await?;
            self.progress.read.fetch_add(report.host_records - read, Ordering::Relaxed);
            if pending.len() >= PENDING_MAX || !more {
                report.add(self.settle(std::mem::take(&mut pending)).await?);
            }
            if !more {
                return Ok(report);
            }
        }
    }

    /// Looks again at keys that differed, in newer snapshots of both sides, and counts those that still do. What is equal
    /// now was in flight. Looks once where the lanes are empty: then nothing is on its way.
    pub(super) async fn settle(&self, mut keys: Vec<Key>) -> Result<VerifyReport, Fault> {
        let mut settled = VerifyReport::default();
        let mut waits = WAITS_MS.into_iter();
        while !keys.is_empty() {
            // Before anything is read: what is queued later is told by its mark.
            let idle = self.lanes_are_empty().await?;
            let wait = waits
                .next()
                .filter(|_| !idle)
                .filter(|&wait| self.waited_ms.fetch_add(wait, Ordering::Relaxed) + wait <= WAITED_MS_MAX);
            keys = self.look_again(keys, wait.is_none(), &mut settled).await?;
            match wait {
                Some(wait) if !keys.is_empty() => tokio::time::sleep(Duration::from_millis(wait)).await,
                _ => break,
            }
        }
        Ok(settled)
    }

    async fn lanes_are_empty(&self) -> Result<bool, Fault> {
        for lane in self.pipeline.lanes() {
            if self.pipeline.backplane.queue.depth(&lane).await? > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fetches keys from both sides. Returns those that differ; at the `last` look they are counted, explained and spooled.
    async fn look_again(&self, keys: Vec<Key>, last: bool, settled: &mut VerifyReport) -> Result<Vec<Key>, Fault> {
        let pipeline = &self.pipeline;
        let mut judge = Judge::new(pipeline);
        let mut differing = Vec::new();
        let sources = Sources::new(pipeline);
        for portion in keys.chunks(pipeline.limits.batch_records_max.max(1)) {
            // Marks first: one that is as new as what is read later may have been written in between.
            let marks = pipeline.backplane.hashes.get(&pipeline.id, portion).await?;
            let (host, target) = futures::try_join!(sources.host.current(), sources.target.current())?;
            let (left, right) = futures::try_join!(host.fetch(portion), target.fetch(portion))?;
            for (key, mark) in portion.iter().zip(marks) {
                let (host, target) = (find(&left, key), find(&right, key));
                match judge.judge(host, target, &mut false) {
                    Judged::Differs(kind) => {
                        differing.push(key.clone());
                        let known = is_known(pipeline, kind, host, mark);
                        if last && settled.count(kind, known) {
                            let explained = judge.explain(host, target);
                            settled.differences.push(Difference {
                                key: key.to_string(),
                                kind,
                                known,
                                fields: explained.fields,
                                reason: explained.reason,
                                encoded: key.clone(),
                            });
                        }
                    }
                    judged => {
                        settled.in_flight += 1;
                        settled.equal += u64::from(judged == Judged::Equal);
                    }
                }
            }
        }
        if let Some(run) = self.spool.as_ref().filter(|_| last) {
            spool::put(pipeline, run, Source::Walk, &differing).await?;
        }
        Ok(differing)
    }
}

fn key_of(host: Option<Found<'_>>, target: Option<Found<'_>>) -> Key {
    // A walk shows no key that neither side has.
    host.or(target).map_or_else(|| Key::from_bytes([]), |(page, at)| Key::from_bytes(page.keys.get(at)))
}

fn find<'p>(page: &'p Page, key: &Key) -> Option<Found<'p>> {
    page.find(key.as_bytes()).map(|at| (page, at))
}

/// Whether something will be done about a difference without anybody asking: its mark does not say that the target holds
/// what the host has, or says that it cannot.
fn is_known(pipeline: &Pipeline, kind: DifferenceKind, host: Option<Found<'_>>, mark: Option<Mark>) -> bool {
    if kind == DifferenceKind::Extra && pipeline.delete == DeletePolicy::Never {
        // It stays, but for what somebody else has put there.
        return mark.is_some();
    }
    match (host, mark) {
        (Some((page, at)), Some(mark)) => mark.held == Held::Dead || mark.fingerprint != Some(page.fingerprints[at]),
        (Some(_), None) => true,
        (None, mark) => mark.is_some_and(|mark| mark.may_exist()),
    }
}

impl DifferenceKind {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            DifferenceKind::Missing => "missing",
            DifferenceKind::Extra => "extra",
            DifferenceKind::Different => "different",
            DifferenceKind::Unmappable => "unmappable",
        }
    }
}
