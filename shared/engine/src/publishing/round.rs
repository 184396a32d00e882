//! One round of a lane: admit, apply, mark. Settling is the caller's, and comes last (L2).

use std::time::Duration;

use fides_core::decide::{Disposition, admit, disposition};
use fides_core::port::{Backplane, DeadLetter, Outcome, Write};
use fides_core::{Change, Fault, FaultKind, Held, Key, Lane, Mark, Op, Shape};

use tokio::time::Instant;

use super::gather::Gathered;
use super::portion::Portion;
use crate::{Pipeline, Progress, dead, record};

/// A change that another one may unblock (a unique or foreign-key violation) is tried this often before it is dead.
const DEFERRED_ATTEMPTS_MAX: u32 = 5;
/// Wait before a deferred change is tried again: other lanes work meanwhile. Doubled each time.
const DEFERRED_BASE_MS: u64 = 50;

pub(super) struct Round<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) progress: &'a Progress,
    pub(super) lane: &'a Lane,
    pub(super) token: u64,
    pub(super) portion: &'a Portion,
}

/// What is known of a change before it is applied.
#[derive(Clone, Copy)]
pub(super) struct Known {
    /// Whether the version before it is a dead letter.
    was_dead: bool,
    /// What the target holds once it is applied. A soft deletion writes a document, of a record that is gone.
    held: Held,
}

impl Known {
    fn of(change: &Change, mark: Option<&Mark>) -> Self {
        let held = if matches!(change.op, Op::Upsert(_)) { Held::Present } else { Held::Absent };
        Self { was_dead: dead::is_dead(mark), held }
    }
}

/// What is known of each change after applying.
#[derive(Default)]
pub(super) struct Settlement {
    marks: Vec<(Key, Mark)>,
    letters: Vec<DeadLetter>,
    revived: Vec<Key>,
    distrusted: Vec<Key>,
    pub(super) pause: Option<Fault>,
}

impl Round<'_> {
    /// Works through what was gathered. `Ok`: every change is written, stale or a durable dead letter, and marked.
    /// `Err`: something is not; the deliveries must return to the lane.
    pub(super) async fn run(&self, gathered: &Gathered) -> Result<(), Fault> {
        let Some(shape) = &gathered.shape else { return Ok(()) };
        self.check_dead_rate().await?;
        let pipeline = self.pipeline;
        let hashes = &*pipeline.backplane.hashes;
        let keys: Vec<Key> = gathered.changes.iter().map(|change| change.key.clone()).collect();
        let marks = hashes.get(&pipeline.id, &keys).await?;
        let admitted = admit(&gathered.changes, &marks);
        Progress::add(&self.progress.stale, gathered.changes.len() - admitted.len());
        let (orphans, admitted) = self.orphans(&gathered.changes, &marks, admitted).await?;
        let refreshed = self.refreshed(&gathered.changes, &orphans).await?;

        let mut settlement = Settlement::default();
        let trace = gathered.trace.as_deref();
        let known = |at: usize| Known::of(&gathered.changes[at], marks[at].as_ref());
        let mut queued: Vec<_> = admitted.into_iter().map(|at| (gathered.changes[at].clone(), known(at))).collect();
        let refreshed = refreshed.into_iter().map(|change| {
            let known = Known::of(&change, None);
            (change, known)
        });
        let mut refreshed: Vec<_> = refreshed.collect();
        let softened = self.soften(&mut queued, trace, &mut settlement).await;
        refreshed.extend(softened);
        let mapped = pipeline.shape();
        if **mapped == **shape {
            let all = queued.into_iter().chain(refreshed).collect();
            self.write(shape, all, trace, &mut settlement).await;
        } else {
            // Rows are positional: each is written in the shape that it was mapped with.
            self.write(shape, queued, trace, &mut settlement).await;
            self.write(mapped, refreshed, trace, &mut settlement).await;
        }
        self.record(settlement).await
    }

    /// Buries what was rejected and applies the rest, each with its mark, unless an earlier part of the round is to be
    /// delivered again.
    async fn write(
        &self,
        shape: &Shape,
        changes: Vec<(Change, Known)>,
        trace: Option<&str>,
        settlement: &mut Settlement,
    ) {
        if settlement.pause.is_some() {
            return;
        }
        let mut batch: Vec<Change> = Vec::with_capacity(changes.len());
        let mut known: Vec<Known> = Vec::with_capacity(changes.len());
        for (change, of) in changes {
            if let Op::Reject { reason, record } = &change.op {
                let fault = Fault::permanent(reason.clone());
                settlement.bury(&change, &fault, record.clone(), 1, trace);
            } else {
                known.push(of);
                batch.push(change);
            }
        }
        self.apply(shape, batch, known, trace, settlement).await;
    }

    /// More dead letters than the limit are a broken mapping or target, not broken records: the lane waits until a person
    /// has replayed or dropped them.
    async fn check_dead_rate(&self) -> Result<(), Fault> {
        let limits = &self.pipeline.limits;
        let (dead, all) = self.progress.dead_of();
        // Counted in f64 on purpose: a ratio of counts, not a datum.
        #[allow(clippy::cast_precision_loss)]
        let ratio = dead as f64 / all.max(1) as f64;
        if dead <= limits.dead_count_min || ratio <= limits.dead_ratio_max {
            return Ok(());
        }
        let kept = self.pipeline.backplane.dead.count(&self.pipeline.id).await?;
        if kept <= limits.dead_count_min {
            self.progress.forgive_dead();
            return Ok(());
        }
        Err(Fault::unavailable(format!(
            "{dead} of {all} records became dead letters, and {kept} are kept; dead_ratio_max allows {:.1} %",
            limits.dead_ratio_max * 100.0
        ))
        .advise(format!(
            "see `fides dead list`, mend the cause, then replay or drop them: it goes on when at most {} are left",
            limits.dead_count_min
        )))
    }

    /// Applies the batch, and what was deferred again behind the others.
    async fn apply(
        &self,
        shape: &Shape,
        mut batch: Vec<Change>,
        mut known: Vec<Known>,
        trace: Option<&str>,
        settlement: &mut Settlement,
    ) {
        let write = Write { sink: &self.pipeline.sink, shape, lane: self.lane, token: self.token };
        for attempt in 1..=DEFERRED_ATTEMPTS_MAX {
            if batch.is_empty() {
                return;
            }
            let outcomes = self.apply_portions(&write, &batch).await;
            let mut deferred = Vec::new();
            for ((change, known), outcome) in batch.drain(..).zip(known.drain(..)).zip(outcomes) {
                match outcome {
                    Outcome::Applied => {
                        Progress::add(&self.progress.written, 1);
                        settlement.applied(&change, known);
                    }
                    Outcome::Stale => settlement.stale(&change, known),
                    Outcome::Unknown(fault) => {
                        settlement.distrusted.push(change.key);
                        settlement.pause.get_or_insert(fault);
                    }
                    Outcome::Failed(fault) => match disposition(fault.kind, u32::MAX, &self.pipeline.limits) {
                        Disposition::Defer if attempt < DEFERRED_ATTEMPTS_MAX => deferred.push((change, known)),
                        Disposition::Defer | Disposition::Dead => {
                            let body = record::bounded(document(shape, &change));
                            settlement.bury(&change, &fault, body, attempt, trace);
                        }
                        _ => {
                            settlement.pause.get_or_insert(fault);
                        }
                    },
                }
            }
            if settlement.pause.is_some() {
                // What was deferred returns with its delivery.
                return;
            }
            (batch, known) = deferred.into_iter().unzip();
            if !batch.is_empty() {
                let wait = DEFERRED_BASE_MS << (attempt - 1);
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
        }
    }

    /// Writes portion by portion, until one fails: there are as many outcomes as changes that were tried.
    async fn apply_portions(&self, write: &Write<'_>, changes: &[Change]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(changes.len());
        while outcomes.len() < changes.len() {
            let rest = &changes[outcomes.len()..];
            let began = Instant::now();
            let tried = self.pipeline.target.apply(write, &rest[..rest.len().min(self.portion.records())]).await;
            let failed = tried.iter().any(|outcome| self.pauses(outcome));
            outcomes.extend(tried);
            if failed {
                self.portion.failed();
                break;
            }
            self.portion.done(began.elapsed());
        }
        outcomes
    }

    /// Whether the lane cannot go on after this outcome.
    fn pauses(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Applied | Outcome::Stale => false,
            Outcome::Unknown(_) => true,
            Outcome::Failed(fault) => !matches!(
                disposition(fault.kind, u32::MAX, &self.pipeline.limits),
                Disposition::Defer | Disposition::Dead
            ),
        }
    }

    /// Makes durable what is known. Dead letters before their marks, marks before anything is settled (L2).
    async fn record(&self, settlement: Settlement) -> Result<(), Fault> {
        let Backplane { hashes, dead, state, .. } = &self.pipeline.backplane;
        let id = &self.pipeline.id;
        if !settlement.letters.is_empty() {
            let now_ms = state.now_ms().await?;
            let mut letters = settlement.letters;
            for letter in &mut letters {
                (letter.first_ms, letter.last_ms) = (now_ms, now_ms);
                tracing::warn!(pipeline = %id, key = %letter.key, reason = letter.reason, "dead letter");
            }
            dead.put(id, &letters).await?;
            Progress::add(&self.progress.dead, letters.len());
        }
        if !settlement.revived.is_empty() {
            dead.remove(id, &settlement.revived).await?;
        }
        if !settlement.marks.is_empty() {
            hashes.advance(id, &settlement.marks).await?;
        }
        if !settlement.distrusted.is_empty() {
            // L5: nobody knows what the target holds now; an import must send these again, whatever they equal.
            hashes.distrust(id, &settlement.distrusted).await?;
        }
        settlement.pause.map_or(Ok(()), Err)
    }
}

impl Settlement {
    pub(super) fn applied(&mut self, change: &Change, known: Known) {
        let Known { was_dead, held } = known;
        self.marks.push((change.key.clone(), Mark { version: change.version, fingerprint: change.fingerprint, held }));
        if was_dead {
            self.revived.push(change.key.clone());
        }
    }

    /// The target holds something newer than our mark knew: the mark takes the version, and no fingerprint, so that the
    /// next import sends the record again.
    fn stale(&mut self, change: &Change, known: Known) {
        let mark = Mark { version: change.version, fingerprint: None, held: Held::Present };
        self.marks.push((change.key.clone(), mark));
        if known.was_dead {
            self.revived.push(change.key.clone());
        }
    }

    pub(super) fn bury(&mut self, change: &Change, fault: &Fault, record: String, attempts: u32, trace: Option<&str>) {
        debug_assert!(matches!(fault.kind, FaultKind::Permanent | FaultKind::Deferred));
        self.letters.push(DeadLetter {
            key: change.key.clone(),
            reason: fault.to_string(),
            record,
            attempts,
            first_ms: 0,
            last_ms: 0,
            trace: trace.map(ToOwned::to_owned),
        });
        // What another record stood in the way of may be well by the next import, which therefore sends it again.
        let fingerprint = change.fingerprint.filter(|_| fault.kind == FaultKind::Permanent);
        self.marks.push((change.key.clone(), Mark { version: change.version, fingerprint, held: Held::Dead }));
    }
}

/// The document of a change as JSON, for people.
fn document(shape: &Shape, change: &Change) -> String {
    match &change.op {
        Op::Upsert(document) => match fides_core::decode_row(document) {
            Ok(values) => fides_format::document_to_json(shape, &values),
            Err(fault) => fault.to_string(),
        },
        Op::Delete => String::from("(deletion)"),
        Op::Reject { record, .. } => record.clone(),
    }
}
