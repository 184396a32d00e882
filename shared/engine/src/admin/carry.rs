//! Jobs, carried out.

use std::time::Duration;

use fides_core::command::{KeySpan, KeyText, Status};
use fides_core::decide::backoff_ms_max;
use fides_core::{Fault, FaultKind, Key, KeyRange, Origin};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::job::{self, Allowance, Job, Office, Work};
use super::ledger::Outcome;
use super::orders::Orders;
use crate::import::Snapshots;
use crate::inspect::{VerifyReport, parse_key, repair as mend, verify};
use crate::lease::Held;
use crate::publishing::Worker;
use crate::refresh::{refresh_named, without_unjudged};
use crate::{Mapping, Pipeline, SweepReport, cleanup, persisted, publisher};

/// Jobs are looked for this often in the life of a lease.
const LOOKS_PER_LEASE: u64 = 4;

/// Carries out the jobs of an office, one after another, until `stop`: one process does, and the others stand by. What a
/// job has sent when its process dies is not sent again, but for one portion. Needs consumers at work.
///
/// A job that can never work is refused with its fault. After any other fault it is tried again, after a growing wait.
pub async fn carry_out(pipeline: &Pipeline, worker: &Worker, office: Office, stop: &CancellationToken) {
    let worker = &worker.at(office.name());
    let look_ms = (pipeline.limits.lease_ms / LOOKS_PER_LEASE).max(1);
    let mut failures = 0u32;
    while !stop.is_cancelled() {
        let turn = stop.run_until_cancelled(all(pipeline, worker, office)).await;
        let wait_ms = match turn {
            None => return,
            Some(Ok(())) => {
                failures = 0;
                look_ms
            }
            Some(Err(fault)) => {
                failures += 1;
                tracing::warn!(pipeline = %pipeline.id, office = office.name(), failures, %fault, "a job waits");
                fastrand::u64(1..=backoff_ms_max(failures, &pipeline.limits).max(1))
            }
        };
        stop.run_until_cancelled(tokio::time::sleep(Duration::from_millis(wait_ms))).await;
    }
}

/// Carries out every job that waits, unless another process is at it.
async fn all(pipeline: &Pipeline, worker: &Worker, office: Office) -> Result<(), Fault> {
    if job::first(pipeline, office).await?.is_none() {
        return Ok(());
    }
    let lease = format!("jobs/{}/{}", pipeline.id, office.name());
    let state = &*pipeline.backplane.state;
    let Some(lease) = Held::take(state, lease, &worker.holder, pipeline.limits.lease_ms).await? else { return Ok(()) };
    let work = async {
        while let Some((entry, job, _)) = job::first(pipeline, office).await? {
            let orders = Orders::begin(pipeline, &worker.progress).await?;
            let ended = orders.obey(|| Box::pin(carry(pipeline, worker, &entry, orders.number))).await;
            let outcome = match ended {
                Ok(Ok(Some(outcome))) => outcome,
                // Another process is at it.
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(stopped)) => Outcome::refused(stopped.told()),
                Err(fault) if fault.kind == FaultKind::Permanent => Outcome::refused(fault.to_string()),
                Err(fault) => return Err(fault),
            };
            job::end(pipeline, &entry, &job, &outcome).await?;
        }
        Ok(())
    };
    let done = lease.during(work).await;
    lease.release().await;
    done
}

/// Carries out one job from where it is.
async fn carry(pipeline: &Pipeline, worker: &Worker, entry: &str, number: u64) -> Result<Option<Outcome>, Fault> {
    let state = &*pipeline.backplane.state;
    let Some((job, revision)) = persisted::load::<Job>(state, entry).await? else {
        return Err(Fault::transient(format!("state entry {entry} is gone: the job was cancelled")));
    };
    let mut step = Step { pipeline, entry, job, revision };
    match step.job.work.clone() {
        Work::Keys { keys, sent } => step.keys(&keys, sent).await?,
        Work::Ranges { ranges, sent, after } => step.ranges(&ranges, sent, after).await?,
        Work::Letters { after } => step.letters(after).await?,
        Work::CleanUp { approval } => {
            let allowance = approval.map(|_| Allowance::new(pipeline, entry));
            let now_ms = state.now_ms().await?;
            return match cleanup::clean_up_allowed(pipeline, worker, now_ms, number, allowance.as_ref()).await? {
                Some(report) => Ok(Some(swept(report))),
                None => Ok(None),
            };
        }
        Work::Verify { repair } => return step.verify(worker, repair).await.map(Some),
    }
    let Job { published, refused, .. } = step.job;
    let status = if refused.is_some() { Status::Refused } else { Status::Done };
    Ok(Some(Outcome { status, reason: refused, detail: Some(json!({"published": published})) }))
}

fn swept(report: SweepReport) -> Outcome {
    let SweepReport { candidates, deleted, foreign, refused, cancelled } = report;
    match refused.or(cancelled) {
        Some(why) => Outcome::refused(why),
        None => Outcome::done(json!({"candidates": candidates, "deleted": deleted, "foreign": foreign})),
    }
}

/// A job at work.
struct Step<'a> {
    pipeline: &'a Pipeline,
    entry: &'a str,
    job: Job,
    revision: u64,
}

impl Step<'_> {
    /// L3: what was published is confirmed; only now the cursor moves.
    async fn reached(&mut self, work: Work, published: u64) -> Result<(), Fault> {
        self.job.published += published;
        self.job.work = work;
        self.revision = job::save(self.pipeline, self.entry, &self.job, self.revision).await?;
        Ok(())
    }

    /// Sends the present state of keys. What can never be done of it (deletions that are refused, say) is told at the end,
    /// and stops nothing else.
    async fn refresh(&mut self, keys: &[Key]) -> Result<u64, Fault> {
        match refresh_named(self.pipeline, self.entry, keys, Origin::Repair, true).await {
            Err(fault) if fault.kind == FaultKind::Permanent => {
                self.job.refused.get_or_insert(fault.to_string());
                Ok(0)
            }
            published => published,
        }
    }

    async fn keys(&mut self, keys: &[KeyText], mut sent: usize) -> Result<(), Fault> {
        let portion = self.pipeline.limits.batch_records_max.max(1);
        while let Some(rest) = keys.get(sent..).filter(|rest| !rest.is_empty()) {
            let rest = &rest[..rest.len().min(portion)];
            let parse = |key: &KeyText| parse_key(&self.pipeline.selection, &key.0);
            let encoded: Vec<Key> = rest.iter().map(parse).collect::<Result<_, _>>()?;
            let published = self.refresh(&encoded).await?;
            sent += rest.len();
            self.reached(Work::Keys { keys: keys.to_vec(), sent }, published).await?;
        }
        Ok(())
    }

    /// Records that the target has and the host has not are found by imports and clean-ups, not here.
    async fn ranges(&mut self, spans: &[KeySpan], mut sent: usize, mut after: Option<Vec<u8>>) -> Result<(), Fault> {
        let pipeline = self.pipeline;
        let snapshots = Snapshots::new(pipeline);
        let mut mapping = Mapping::new(&*pipeline.mapper, &pipeline.selection, &pipeline.limits);
        while let Some(span) = spans.get(sent) {
            let range = range_of(pipeline, span)?;
            let page = snapshots.current().await?.scan(&range, after.as_deref().map(Key::from_bytes).as_ref()).await?;
            let portion = (2 * pipeline.limits.batch_records_max * usize::from(pipeline.limits.lanes)).max(1);
            let rows: Vec<usize> = (0..page.len()).collect();
            for rows in rows.chunks(portion) {
                let changes = rows.iter().map(|&at| mapping.change(&page, at, true)).collect();
                let changes = without_unjudged(pipeline, changes).await?;
                publisher::publish(pipeline, pipeline.shape(), Origin::Repair, changes).await?;
            }
            after = page.next.as_ref().map(|key| key.as_bytes().to_vec());
            sent += usize::from(after.is_none());
            let work = Work::Ranges { ranges: spans.to_vec(), sent, after: after.clone() };
            self.reached(work, page.len() as u64).await?;
        }
        Ok(())
    }

    async fn letters(&mut self, mut after: Option<Vec<u8>>) -> Result<(), Fault> {
        let pipeline = self.pipeline;
        let portion = pipeline.limits.batch_records_max.max(1);
        loop {
            let from = after.as_deref().map(Key::from_bytes);
            let letters = pipeline.backplane.dead.list(&pipeline.id, from.as_ref(), portion).await?;
            let keys: Vec<Key> = letters.into_iter().map(|letter| letter.key).collect();
            let Some(last) = keys.last() else { return Ok(()) };
            let published = self.refresh(&keys).await?;
            after = Some(last.as_bytes().to_vec());
            self.reached(Work::Letters { after: after.clone() }, published).await?;
        }
    }

    /// Compares; what differs is sent again if that was asked for.
    async fn verify(&mut self, worker: &Worker, repair: bool) -> Result<Outcome, Fault> {
        let pipeline = self.pipeline;
        let done = if repair { Some(Box::pin(mend(pipeline, worker)).await?) } else { None };
        let report = match &done {
            Some(done) => done.found.clone(),
            None => verify(pipeline, &worker.progress).await?,
        };
        let state = &*pipeline.backplane.state;
        let mut counts = counts_of(&report);
        if let Some(done) = &done {
            counts["sent"] = done.sent.into();
            counts["deleted"] = done.deleted.into();
            counts["mended"] = done.mended.into();
        }
        counts["at_ms"] = state.now_ms().await?.into();
        let refused = done.and_then(|done| done.refused);
        let status = if refused.is_some() { Status::Refused } else { Status::Done };
        Ok(Outcome { status, reason: refused, detail: Some(counts) })
    }
}

/// What a comparison found, without the records themselves.
fn counts_of(report: &VerifyReport) -> serde_json::Value {
    json!({
        "equal_sides": report.is_equal(),
        "host_records": report.host_records,
        "target_records": report.target_records,
        "equal": report.equal,
        "missing": report.missing,
        "extra": report.extra,
        "different": report.different,
        "unmappable": report.unmappable,
        "excluded": report.excluded,
        "in_flight": report.in_flight,
    })
}

fn range_of(pipeline: &Pipeline, span: &KeySpan) -> Result<KeyRange, Fault> {
    let end = |key: &Option<KeyText>| key.as_ref().map(|key| parse_key(&pipeline.selection, &key.0)).transpose();
    Ok(KeyRange { lower: end(&span.from)?, upper: end(&span.to)? })
}
