//! One round of a lane: admit, apply, mark. Settling is the caller's, and comes last (L2).

use std::collections::HashSet;
use std::time::Duration;

use fides_core::decide::{Disposition, admit, disposition};
use fides_core::port::{Backplane, DeadLetter, Outcome, Write};
use fides_core::{Change, Fault, FaultKind, Held, Key, Lane, Mark, Op, Shape};

use tokio::time::Instant;

use super::aside::Aside;
use super::gather::Gathered;
use super::poison;
use super::portion::Portion;
use crate::{Pipeline, Progress, dead, record};

/// A change that another one may unblock (a unique or foreign-key violation) is tried this often in vain before it is dead.
const DEFERRED_ATTEMPTS_MAX: u32 = 5;
/// The same where it may step aside: the change that it waits for is perhaps queued in another lane, behind some that wait, too.
const CONTESTED_ATTEMPTS_MAX: u32 = 12;
/// However well it goes on, deliveries are not held longer for it: what is written is marked, the rest comes again (L10).
const DEFERRED_TIME_MAX: Duration = Duration::from_secs(10);
/// Wait before a deferred change is tried again: other lanes work meanwhile. Doubled each time.
const DEFERRED_BASE_MS: u64 = 50;
const DEFERRED_WAIT_MS_MAX: u64 = 1_000;

pub(super) struct Round<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) progress: &'a Progress,
    pub(super) lane: &'a Lane,
    pub(super) token: u64,
    pub(super) portion: &'a Portion,
    /// Whether something of the lane is aside that an earlier owner left, and that cannot come back yet.
    pub(super) is_aside: bool,
}

/// What is known of a change before it is applied.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    /// Whether the version before it is a dead letter.
    was_dead: bool,
    /// What the target holds once it is applied. A soft deletion writes a document, of a record that is gone.
    held: Held,
    /// Whether the target may hold something before.
    may_exist: bool,
    /// Whether no mark says that this version is written. What is forced is written again with every attempt.
    is_news: bool,
    /// Of the batch that it came in.
    pub(super) trace: Option<&'a str>,
}

impl<'a> Known<'a> {
    fn of(change: &Change, mark: Option<&Mark>, trace: Option<&'a str>) -> Self {
        let held = if matches!(change.op, Op::Upsert(_)) { Held::Present } else { Held::Absent };
        let may_exist = mark.is_some_and(Mark::may_exist);
        let is_news = mark.is_none_or(|mark| mark.version < change.version);
        Self { was_dead: dead::is_dead(mark), held, may_exist, is_news, trace }
    }
}

/// What is known of each change after applying.
#[derive(Default)]
pub(super) struct Settlement {
    /// Of what the target holds now.
    marks: Vec<(Key, Mark)>,
    letters: Vec<DeadLetter>,
    /// Of what the letters are about.
    buried: Vec<(Key, Mark)>,
    revived: Vec<Key>,
    /// Some of it may have been a letter in an attempt that ended before its mark said so.
    redelivered: bool,
    distrusted: Vec<Key>,
    /// Whether something was written that was not before.
    got_on: bool,
    pub(super) pause: Option<Fault>,
}

impl Round<'_> {
    /// Works through what was gathered. `Ok`: every change is written, stale or a durable dead letter, and marked.
    /// `Err`: something is not; the deliveries must return to the lane. `wrote` says then whether anything is written and marked
    /// that was not before.
    pub(super) async fn run(&self, gathered: &Gathered, wrote: &mut bool) -> Result<(), Fault> {
        let Some(shape) = &gathered.shape else { return Ok(()) };
        let pipeline = self.pipeline;
        let hashes = &*pipeline.backplane.hashes;
        let keys: Vec<Key> = gathered.changes.iter().map(|change| change.key.clone()).collect();
        let open = poison::gate(pipeline, self.progress);
        // Both at once: somebody may wait for the change.
        let ((), marks) = futures::try_join!(open, hashes.get(&pipeline.id, &keys))?;
        let admitted = admit(&gathered.changes, &marks);
        Progress::add(&self.progress.stale, gathered.changes.len() - admitted.len());
        let (orphans, admitted) = self.orphans(&gathered.changes, &marks, admitted).await?;
        let refreshed = self.refreshed(&gathered.changes, &orphans).await?;

        let mut settlement = Settlement { redelivered: gathered.redelivered > 0, ..Settlement::default() };
        let known = |at: usize| Known::of(&gathered.changes[at], marks[at].as_ref(), gathered.trace(at));
        let mut queued: Vec<_> = admitted.into_iter().map(|at| (gathered.changes[at].clone(), known(at))).collect();
        let refreshed = refreshed.into_iter().map(|change| {
            // It comes from the host, not from a message, and nobody asked what is known of it.
            let known = Known { is_news: false, ..Known::of(&change, None, None) };
            (change, known)
        });
        let mut refreshed: Vec<_> = refreshed.collect();
        let mut softened = self.soften(&mut queued, &mut settlement).await;
        softened.extend(self.soften(&mut refreshed, &mut settlement).await);
        refreshed.extend(softened);
        let mapped = pipeline.shape();
        if **mapped == **shape {
            let all = queued.into_iter().chain(refreshed).collect();
            self.write(shape, all, &mut settlement).await;
        } else {
            // Rows are positional: each is written in the shape that it was mapped with.
            self.write(shape, queued, &mut settlement).await;
            self.write(mapped, refreshed, &mut settlement).await;
        }
        self.record(settlement, wrote).await
    }

    /// Buries what was rejected and applies the rest, each with its mark, unless an earlier part of the round is to be
    /// delivered again.
    async fn write(&self, shape: &Shape, changes: Vec<(Change, Known<'_>)>, settlement: &mut Settlement) {
        if settlement.pause.is_some() {
            return;
        }
        let mut batch: Vec<Change> = Vec::with_capacity(changes.len());
        let mut known: Vec<Known<'_>> = Vec::with_capacity(changes.len());
        for (change, it) in changes {
            if let Op::Reject { reason, record } = &change.op {
                let fault = Fault::permanent(reason.clone());
                settlement.bury(&change, &fault, record.clone(), 1, it.trace);
            } else {
                known.push(it);
                batch.push(change);
            }
        }
        self.apply(shape, batch, known, settlement).await;
    }

    /// Applies the batch, and what was deferred again behind the others.
    async fn apply(
        &self,
        shape: &Shape,
        mut batch: Vec<Change>,
        mut known: Vec<Known<'_>>,
        settlement: &mut Settlement,
    ) {
        let write = Write { sink: &self.pipeline.sink, shape, lane: self.lane, token: self.token };
        let mut aside = Aside::new(self, write);
        let began = Instant::now();
        // All, and those since one got through: as long as some do, others may have waited for them.
        let (mut attempts, mut in_a_row) = (0, 0);
        let mut written: HashSet<Key> = HashSet::new();
        while !batch.is_empty() {
            (attempts, in_a_row) = (attempts + 1, in_a_row + 1);
            let outcomes = self.apply_portions(&write, &batch).await;
            let attempts_max = if aside.may_help() { CONTESTED_ATTEMPTS_MAX } else { DEFERRED_ATTEMPTS_MAX };
            let (mut deferred, mut refused) = (Vec::new(), Vec::new());
            let mut moves_on = false;
            for ((change, it), outcome) in batch.drain(..).zip(known.drain(..)).zip(outcomes) {
                match outcome {
                    Outcome::Applied => {
                        Progress::add(&self.progress.written, 1);
                        settlement.applied(&change, it);
                        moves_on = true;
                        // Who is written at once did not step aside in this round.
                        if attempts > 1 || self.is_aside {
                            written.insert(change.key);
                        }
                    }
                    Outcome::Stale => {
                        Progress::add(&self.progress.newer, 1);
                        tracing::warn!(pipeline = %self.pipeline.id, key = %change.key, version = %change.version,
                            "not written: the target holds a newer version");
                        settlement.stale(&change, it);
                    }
                    Outcome::Unknown(fault) => {
                        settlement.distrusted.push(change.key);
                        settlement.pause.get_or_insert(fault);
                    }
                    Outcome::Failed(fault) => match disposition(fault.kind, u32::MAX, &self.pipeline.limits) {
                        Disposition::Defer if in_a_row < attempts_max => deferred.push((change, it)),
                        Disposition::Defer | Disposition::Dead => refused.push((change, it, fault)),
                        _ => {
                            settlement.pause.get_or_insert(fault);
                        }
                    },
                }
            }
            if settlement.pause.is_some() {
                // What was deferred or refused returns with its delivery.
                return;
            }
            let in_vain: Vec<Key> = refused.iter().map(|(change, ..)| change.key.clone()).collect();
            if let Err(fault) = aside.step_back(&in_vain).await {
                settlement.pause = Some(fault);
                return;
            }
            for (change, it, fault) in refused {
                let body = record::bounded(document(shape, &change));
                settlement.bury(&change, &fault, body, attempts, it.trace);
            }
            if moves_on {
                in_a_row = 0;
            }
            (batch, known) = deferred.into_iter().unzip();
            if batch.is_empty() {
                break;
            }
            // What is in vain is bounded by its attempts.
            if moves_on && began.elapsed() >= DEFERRED_TIME_MAX {
                settlement.pause = Some(Fault::transient(format!(
                    "lane {}: {} records still wait for others, which are written one after another",
                    self.lane,
                    batch.len()
                )));
                return;
            }
            if let Err(fault) = aside.make_room(&batch).await {
                settlement.pause = Some(fault);
                return;
            }
            let wait = (DEFERRED_BASE_MS << in_a_row.saturating_sub(1)).min(DEFERRED_WAIT_MS_MAX);
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        if let Err(fault) = aside.end(|key| written.contains(key)).await {
            settlement.pause = Some(fault);
        }
    }

    /// Writes portion by portion, until one fails: there are as many outcomes as changes that were tried.
    pub(super) async fn apply_portions(&self, write: &Write<'_>, changes: &[Change]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(changes.len());
        while outcomes.len() < changes.len() {
            let rest = &changes[outcomes.len()..];
            let began = Instant::now();
            let tried = self.pipeline.target.apply(write, &rest[..rest.len().min(self.portion.records())]).await;
            let failed = tried.iter().any(|outcome| self.pause_of(outcome).is_some());
            outcomes.extend(tried);
            if failed {
                self.portion.failed();
                break;
            }
            self.portion.done(began.elapsed());
        }
        outcomes
    }

    /// Why the lane cannot go on after this outcome; `None` where it can.
    pub(super) fn pause_of(&self, outcome: &Outcome) -> Option<Fault> {
        match outcome {
            Outcome::Applied | Outcome::Stale => None,
            Outcome::Unknown(fault) => Some(fault.clone()),
            Outcome::Failed(fault) => match disposition(fault.kind, u32::MAX, &self.pipeline.limits) {
                Disposition::Defer | Disposition::Dead => None,
                _ => Some(fault.clone()),
            },
        }
    }

    /// Makes durable what is known. Marks before anything is settled (L2), and dead letters before their marks. What was
    /// written is marked also where a letter finds no room: it would be written again with every attempt.
    async fn record(&self, settlement: Settlement, wrote: &mut bool) -> Result<(), Fault> {
        let Backplane { hashes, dead, .. } = &self.pipeline.backplane;
        let id = &self.pipeline.id;
        if !settlement.revived.is_empty() {
            dead.remove(id, &settlement.revived).await?;
        }
        let written = settlement.marks.len() as u64;
        if !settlement.marks.is_empty() {
            hashes.advance(id, &settlement.marks).await?;
            *wrote = settlement.got_on;
        }
        if !settlement.distrusted.is_empty() {
            // L5: nobody knows what the target holds now; an import must send these again, whatever they equal.
            hashes.distrust(id, &settlement.distrusted).await?;
        }
        let buried = settlement.letters.len();
        if buried > 0 {
            self.bury(settlement.letters).await?;
            hashes.advance(id, &settlement.buried).await?;
            Progress::add(&self.progress.dead, buried);
        }
        poison::judge(self.pipeline, self.progress, buried as u64, written).await?;
        settlement.pause.map_or(Ok(()), Err)
    }

    /// Keeps letters durably.
    async fn bury(&self, mut letters: Vec<DeadLetter>) -> Result<(), Fault> {
        let Backplane { dead, state, .. } = &self.pipeline.backplane;
        let id = &self.pipeline.id;
        let now_ms = state.now_ms().await?;
        for letter in &mut letters {
            (letter.first_ms, letter.last_ms) = (now_ms, now_ms);
            tracing::warn!(pipeline = %id, key = %letter.key, reason = letter.reason, trace = letter.trace, "dead letter");
        }
        dead.put(id, &letters).await
    }
}

impl Settlement {
    pub(super) fn applied(&mut self, change: &Change, known: Known<'_>) {
        let Known { was_dead, held, is_news, .. } = known;
        self.got_on |= is_news;
        self.marks.push((change.key.clone(), Mark { version: change.version, fingerprint: change.fingerprint, held }));
        self.revive(change, was_dead);
    }

    /// A deletion that is not carried out, because nothing is ever deleted.
    pub(super) fn spared(&mut self, change: &Change, known: Known<'_>) {
        let held = if known.may_exist { Held::Present } else { Held::Absent };
        self.marks.push((change.key.clone(), Mark { version: change.version, fingerprint: change.fingerprint, held }));
        self.revive(change, known.was_dead);
    }

    /// Its letter, if there is one, is out of date.
    fn revive(&mut self, change: &Change, was_dead: bool) {
        if was_dead || self.redelivered {
            self.revived.push(change.key.clone());
        }
    }

    /// The target holds something newer than our mark knew: the mark takes the version, and no fingerprint, so that the
    /// next import sends the record again.
    fn stale(&mut self, change: &Change, known: Known<'_>) {
        let mark = Mark { version: change.version, fingerprint: None, held: Held::Present };
        self.marks.push((change.key.clone(), mark));
        self.revive(change, known.was_dead);
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
        self.buried.push((change.key.clone(), Mark { version: change.version, fingerprint, held: Held::Dead }));
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
