//! Lanes are shared out over the consumers that live: each registers, sees the others, and works on its part. Two that
//! see different lists may want the same lane for a moment; the lane's lease decides, and its token fences (L6).

use std::collections::BTreeMap;
use std::time::Duration;

use fides_core::decide::lanes_of;
use fides_core::port::Expect;
use fides_core::{Fault, Lane};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::lane::consume_lane;
use crate::{Pipeline, admin, persisted};

/// A member is seen this often in the life of a lease.
const BEATS_PER_LEASE: u64 = 3;
/// Entries of members read at a time: more consumers than this share no lanes.
const MEMBERS_MAX: usize = 1_024;
/// A member that was not seen for so many leases is forgotten.
const FORGET_LEASES: u64 = 10;

/// Consumes this worker's share of a pipeline's lanes until `stop`. Shares move within a beat when a consumer joins or
/// leaves, and within a lease and a beat when one dies; whoever loses a lane finishes what it has in hand and gives the lane back at once.
pub async fn consume_lanes(pipeline: &Pipeline, worker: &Worker, stop: &CancellationToken) {
    let beat = Duration::from_millis(pipeline.limits.lease_ms / BEATS_PER_LEASE);
    let mut running: BTreeMap<u16, Running> = BTreeMap::new();
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut seen = Instant::now();
    while !stop.is_cancelled() {
        match share(pipeline, worker).await {
            Ok(mine) => {
                seen = Instant::now();
                for (_, lane) in running.iter().filter(|(index, _)| !mine.contains(index)) {
                    lane.stop.cancel();
                }
                for lane in mine {
                    running.entry(lane).or_insert_with(|| start(&mut tasks, pipeline, worker, lane));
                }
            }
            // Lanes in hand are guarded by their own leases.
            Err(fault) => {
                let silent_ms = u64::try_from(seen.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(pipeline = %pipeline.id, silent_ms, %fault, "this consumer could not tell that it lives");
            }
        }
        tokio::select! {
            Some(ended) = tasks.join_next_with_id() => forget(&mut running, ended),
            () = sleep(beat) => {}
            () = stop.cancelled() => {}
        }
    }
    for lane in running.values() {
        lane.stop.cancel();
    }
    while tasks.join_next().await.is_some() {}
    if let Err(fault) = pipeline.backplane.state.remove(&entry(pipeline, &worker.holder)).await {
        tracing::debug!(pipeline = %pipeline.id, %fault, "the others will notice later that this consumer has ended");
    }
}

/// A lane's consumer.
struct Running {
    task: Id,
    stop: CancellationToken,
}

fn start(tasks: &mut JoinSet<()>, pipeline: &Pipeline, worker: &Worker, index: u16) -> Running {
    let stop = CancellationToken::new();
    let (pipeline, worker, stopped) = (pipeline.clone(), worker.clone(), stop.clone());
    let lane = Lane { pipeline: pipeline.id.clone(), index };
    let task = tasks.spawn(async move { consume_lane(&pipeline, &worker, &lane, &stopped).await }).id();
    Running { task, stop }
}

/// A lane whose task has ended is free to be started again.
fn forget(running: &mut BTreeMap<u16, Running>, ended: Result<(Id, ()), JoinError>) {
    let task = match ended {
        Ok((task, ())) => task,
        Err(error) => {
            tracing::error!(%error, "a lane's consumer failed unexpectedly; it is started again");
            error.id()
        }
    };
    running.retain(|_, lane| lane.task != task);
}

fn prefix(pipeline: &Pipeline) -> String {
    format!("member/{}/", pipeline.id)
}

fn entry(pipeline: &Pipeline, holder: &str) -> String {
    format!("{}{holder}", prefix(pipeline))
}

/// Says that this worker lives, and computes its lanes from everybody who does.
async fn share(pipeline: &Pipeline, worker: &Worker) -> Result<Vec<u16>, Fault> {
    let state = &*pipeline.backplane.state;
    let now_ms = state.now_ms().await?;
    persisted::store(state, &entry(pipeline, &worker.holder), &now_ms, Expect::Any).await?;
    let prefix = prefix(pipeline);
    let mut members = Vec::new();
    for (key, stored) in state.list(&prefix, None, MEMBERS_MAX).await? {
        let silent_ms = now_ms.saturating_sub(persisted::decode::<u64>(&key, &stored.value)?);
        if silent_ms <= pipeline.limits.lease_ms {
            members.push(key[prefix.len()..].to_owned());
        } else if silent_ms > FORGET_LEASES * pipeline.limits.lease_ms {
            state.remove(&key).await?;
        }
    }
    // A paused pipeline has no lanes for anybody: what is in hand is finished, and what is queued stays queued.
    let paused = admin::paused(pipeline).await?;
    worker.progress.hold(paused.as_ref().map(|paused| paused.told(pipeline)));
    if paused.is_some() {
        return Ok(Vec::new());
    }
    Ok(lanes_of(&worker.holder, &members, pipeline.limits.lanes.max(1)))
}
