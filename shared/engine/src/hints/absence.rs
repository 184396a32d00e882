//! A hint whose fetch finds nothing is a candidate for deletion: kept until it is looked for a second time, and judged then
//! (L8). The host may have told of a change before it could be read.

use std::time::Duration;

use fides_core::decide::backoff_ms_max;
use fides_core::port::Expect;
use fides_core::{Fault, Key, Origin};
use tokio_util::sync::CancellationToken;

use super::gather::distinct;
use crate::lease::Held;
use crate::publishing::Worker;
use crate::refresh::{Refreshed, refresh_judged};
use crate::{DeletePolicy, Pipeline, Progress, admin, persisted};

/// Entries that are settled together.
const ENTRIES_MAX: usize = 64;
/// Begins the names of judgements, as those of runs.
pub(crate) const KIND: &str = "hints-";

fn prefix(pipeline: &Pipeline) -> String {
    format!("hints/{}/", pipeline.id)
}

/// Keeps candidates durably until they are due: their hints may be answered then. Entries are named by when that is, so
/// that they are listed in this order.
pub(super) async fn keep(pipeline: &Pipeline, absent: &[Key]) -> Result<(), Fault> {
    if absent.is_empty() || pipeline.delete == DeletePolicy::Never {
        return Ok(());
    }
    let state = &*pipeline.backplane.state;
    let due_ms = state.now_ms().await? + pipeline.limits.hint_settle_ms;
    let entry = format!("{}{due_ms:020}-{:016x}", prefix(pipeline), fastrand::u64(..));
    let bytes: Vec<&[u8]> = absent.iter().map(Key::as_bytes).collect();
    persisted::store(state, &entry, &bytes, Expect::Any).await.map(drop)
}

/// Settles candidates when they are due, until `stop`. One process does, under a lease: they are looked for and judged once.
pub(super) async fn settle_all(pipeline: &Pipeline, worker: &Worker, stop: &CancellationToken) {
    let mut failures = 0;
    while !stop.is_cancelled() {
        let turn = async {
            admin::until_resumed(pipeline, &worker.progress).await?;
            turn(pipeline, worker).await
        };
        // Dropped where it stands, as after a crash: what was not settled is settled by the next one.
        let wait_ms = match stop.run_until_cancelled(turn).await {
            None => return,
            Some(Ok(wait_ms)) => {
                failures = 0;
                wait_ms
            }
            Some(Err(fault)) => {
                failures += 1;
                tracing::warn!(pipeline = %pipeline.id, failures, %fault, "what hints did not find is looked for again later");
                fastrand::u64(1..=backoff_ms_max(failures, &pipeline.limits).max(1))
            }
        };
        stop.run_until_cancelled(tokio::time::sleep(Duration::from_millis(wait_ms))).await;
    }
}

/// Settles what is due, if this process may; how long there is nothing more to do.
async fn turn(pipeline: &Pipeline, worker: &Worker) -> Result<u64, Fault> {
    let Some((due, wait_ms)) = due(pipeline).await? else { return Ok(pipeline.limits.hint_settle_ms.max(1)) };
    if due.is_empty() {
        return Ok(wait_ms);
    }
    let (state, lease_ms) = (&*pipeline.backplane.state, pipeline.limits.lease_ms);
    let Some(lease) = Held::take(state, format!("settling/{}", pipeline.id), &worker.holder, lease_ms).await? else {
        return Ok(pipeline.limits.hint_settle_ms.max(1));
    };
    // Listed anew: another process may have settled them before this one had the lease.
    let settled = lease.during(async {
        let due = self::due(pipeline).await?.map(|(due, _)| due).unwrap_or_default();
        settle(pipeline, &worker.progress, due).await
    });
    let settled = settled.await;
    lease.release().await;
    settled.map(|()| 0)
}

/// Candidates under their names.
type Entries = Vec<(String, Vec<Key>)>;

/// The first entries that are due, and when there are none, how long until one is; `None` where there is no entry at all.
async fn due(pipeline: &Pipeline) -> Result<Option<(Entries, u64)>, Fault> {
    let (state, prefix) = (&*pipeline.backplane.state, prefix(pipeline));
    let listed = state.list(&prefix, None, ENTRIES_MAX).await?;
    let now_ms = state.now_ms().await?;
    let (mut due, mut records) = (Vec::new(), 0);
    for (entry, stored) in listed {
        let wait_ms = due_ms(&entry, &prefix).saturating_sub(now_ms);
        if wait_ms > 0 || records >= pipeline.limits.page_records_max {
            return Ok(Some((due, wait_ms.min(pipeline.limits.hint_settle_ms).max(1))));
        }
        let keys: Vec<Vec<u8>> = persisted::decode(&entry, &stored.value)?;
        records += keys.len();
        due.push((entry, keys.into_iter().map(Key::from_bytes).collect()));
    }
    Ok((!due.is_empty()).then_some((due, 1)))
}

/// When an entry is due, by its name; one whose name is not understood is due now.
fn due_ms(entry: &str, prefix: &str) -> u64 {
    let name = entry.strip_prefix(prefix).unwrap_or_default();
    name.split('-').next().and_then(|due_ms| due_ms.parse().ok()).unwrap_or_default()
}

/// Looks for candidates a second time: those that are there now are sent, those that are not are judged and deleted.
/// Repeating it after a crash is harmless. What is refused is left to imports and clean-ups, which find it again.
async fn settle(pipeline: &Pipeline, progress: &Progress, entries: Entries) -> Result<(), Fault> {
    let Some((first, _)) = entries.first() else { return Ok(()) };
    let run = format!("{KIND}{:x}", due_ms(first, &prefix(pipeline)));
    let keys = distinct(entries.iter().flat_map(|(_, keys)| keys));
    match refresh_judged(pipeline, KIND, &keys, Origin::Event, false).await? {
        Refreshed { refused: None, absent, .. } if absent > 0 => admin::lift(pipeline, KIND).await?,
        Refreshed { refused: None, .. } => {}
        Refreshed { refused: Some(why), absent, .. } => {
            let id = &pipeline.id;
            let why = format!("{why} (to allow it once: `fides approve {id} {run} --deletions-max {absent}`)");
            let why = admin::refuse(pipeline, &run, absent, &why).await?;
            tracing::error!(pipeline = %id, run, candidates = absent, why, "deletions after hints refused: nothing was deleted");
            Progress::add(&progress.refused, 1);
        }
    }
    for (entry, _) in &entries {
        pipeline.backplane.state.remove(entry).await?;
    }
    Ok(())
}
