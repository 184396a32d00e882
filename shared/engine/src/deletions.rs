//! Deletions of the last day, and those that are allowed and not yet published. Whoever judges counts both and writes its
//! own down by compare-and-set: two runs at the same moment never make what only one of them may (L8).

use std::collections::BTreeMap;
use std::time::Duration;

use fides_core::Fault;
use fides_core::decide::{Evidence, Verdict, may_delete};
use fides_core::port::Expect;
use serde::{Deserialize, Serialize};

use crate::{Pipeline, listing, persisted};

const HOUR_MS: u64 = 3_600_000;
const WINDOW_HOURS: u64 = 24;
/// What a run was allowed and has not made so long after its last deletion is not waited for.
const RESERVED_MS: u64 = HOUR_MS;
/// Processes that count deletions at the same moment: each race has a winner, and the others come back at different moments.
const RACES_MAX: usize = 32;
const RACE_MS_MAX: u64 = 10;

/// What a run wants to delete, and what it knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Deletions.
    pub(crate) deletions: u64,
    /// Records that its listing of the host met.
    pub(crate) host_records: u64,
    /// Whether that listing came to its proven end.
    pub(crate) listing_complete: bool,
    /// Deletions that a person has approved.
    pub(crate) approved: u64,
}

/// What is counted of a pipeline.
#[derive(Default, Serialize, Deserialize)]
struct Ledger {
    /// Deletions of proven absences, by hour. What a log says that was deleted is not among them: the host deleted it.
    hours: BTreeMap<u64, u64>,
    /// What was allowed and is not yet published, by who asked.
    reserved: BTreeMap<String, Reserved>,
}

#[derive(Serialize, Deserialize)]
struct Reserved {
    deletions: u64,
    /// When it is no longer waited for, in milliseconds since 1970.
    until_ms: u64,
}

impl Ledger {
    fn lately(&self) -> u64 {
        self.hours.values().sum()
    }

    /// What others than `name` may still delete.
    fn reserved_beside(&self, name: &str) -> u64 {
        self.reserved.iter().filter(|(other, _)| *other != name).map(|(_, reserved)| reserved.deletions).sum()
    }
}

/// The right to delete so many records. Dropped without [`Grant::end`], as a crash does, it is held until who asked asks
/// again under the same name, or for [`RESERVED_MS`].
pub(crate) struct Grant<'a> {
    pipeline: &'a Pipeline,
    name: String,
}

/// Whether so much may be deleted, as it stands now.
pub(crate) async fn judge(pipeline: &Pipeline, wanted: &Wanted) -> Result<Verdict, Fault> {
    let (ledger, ..) = load(pipeline).await?;
    Ok(may_delete(&evidence(pipeline, &ledger, "", wanted).await?, &pipeline.limits))
}

/// Asks [`may_delete`] with everything that is known, and reserves what it allows, in the place of what was reserved under
/// the same name. Why not, if it may not be deleted; a transient fault where it may be when others are through: they may
/// mean the same records, so that whoever asks counts anew.
pub(crate) async fn reserve<'a>(
    pipeline: &'a Pipeline,
    name: &str,
    wanted: &Wanted,
) -> Result<Result<Grant<'a>, String>, Fault> {
    for _ in 0..RACES_MAX {
        let (mut ledger, expect, now_ms) = load(pipeline).await?;
        let evidence = evidence(pipeline, &ledger, name, wanted).await?;
        if let Verdict::Refused(why) = may_delete(&evidence, &pipeline.limits) {
            let alone = Evidence { reserved: 0, ..evidence };
            return match may_delete(&alone, &pipeline.limits) {
                Verdict::Refused(_) => Ok(Err(why)),
                Verdict::Allowed => Err(Fault::transient(format!("deleting waits for another run: {why}"))),
            };
        }
        let reserved = Reserved { deletions: wanted.deletions, until_ms: now_ms + RESERVED_MS };
        ledger.reserved.insert(name.to_owned(), reserved);
        if store(pipeline, &ledger, expect).await? {
            return Ok(Ok(Grant { pipeline, name: name.to_owned() }));
        }
    }
    Err(persisted::lost_race(&key(pipeline)))
}

/// Gives back what somebody of this name may have left, who will not ask again.
pub(crate) async fn forget(pipeline: &Pipeline, name: &str) -> Result<(), Fault> {
    update(pipeline, |ledger, _| Ok(ledger.reserved.remove(name).is_some())).await
}

impl Grant<'_> {
    /// Before deletions are published: whether the right to them still stands. It does not where it was waited with for too
    /// long, or where there are more than were counted; then who asked counts and asks anew.
    pub(crate) async fn check(&self, deletions: u64) -> Result<(), Fault> {
        update(self.pipeline, |ledger, now_ms| match ledger.reserved.get_mut(&self.name) {
            _ if deletions == 0 => Ok(false),
            Some(reserved) if reserved.deletions >= deletions => {
                // Publishing may wait for room.
                let is_old = reserved.until_ms < now_ms + RESERVED_MS / 2;
                reserved.until_ms = now_ms + RESERVED_MS;
                Ok(is_old)
            }
            _ => Err(Fault::transient("the right to these deletions has passed: they are counted and judged anew")),
        })
        .await
    }

    /// Counts deletions that are published. Until then they are among what is reserved; counted before, they would count
    /// again with every attempt to publish them.
    pub(crate) async fn spend(&self, deletions: u64) -> Result<(), Fault> {
        update(self.pipeline, |ledger, now_ms| {
            if deletions == 0 {
                return Ok(false);
            }
            *ledger.hours.entry(now_ms / HOUR_MS).or_default() += deletions;
            if let Some(reserved) = ledger.reserved.get_mut(&self.name) {
                reserved.deletions = reserved.deletions.saturating_sub(deletions);
                reserved.until_ms = now_ms + RESERVED_MS;
                if reserved.deletions == 0 {
                    ledger.reserved.remove(&self.name);
                }
            }
            Ok(true)
        })
        .await
    }

    /// Gives back what was not needed. Everything is done by then; what cannot be given back is free after an hour.
    pub(crate) async fn end(self) {
        if let Err(fault) = forget(self.pipeline, &self.name).await {
            tracing::warn!(pipeline = %self.pipeline.id, of = self.name, %fault, "the right to deletions was not given back");
        }
    }
}

/// Changes the ledger by compare-and-set; nothing is written where `change` says that nothing has changed.
async fn update(pipeline: &Pipeline, change: impl Fn(&mut Ledger, u64) -> Result<bool, Fault>) -> Result<(), Fault> {
    for _ in 0..RACES_MAX {
        let (mut ledger, expect, now_ms) = load(pipeline).await?;
        if !change(&mut ledger, now_ms)? || store(pipeline, &ledger, expect).await? {
            return Ok(());
        }
    }
    Err(persisted::lost_race(&key(pipeline)))
}

async fn evidence(pipeline: &Pipeline, ledger: &Ledger, name: &str, wanted: &Wanted) -> Result<Evidence, Fault> {
    let (held_records, _) = pipeline.backplane.hashes.size(&pipeline.id).await?;
    Ok(Evidence {
        listing_complete: wanted.listing_complete,
        host_records: wanted.host_records,
        expected_records: listing::expected(pipeline).await?,
        held_records,
        candidates: wanted.deletions,
        deleted_lately: ledger.lately(),
        reserved: ledger.reserved_beside(name),
        approved: wanted.approved,
    })
}

fn key(pipeline: &Pipeline) -> String {
    format!("deletions-ledger/{}", pipeline.id)
}

/// What counts now, its revision, and the present moment in milliseconds since 1970.
async fn load(pipeline: &Pipeline) -> Result<(Ledger, Expect, u64), Fault> {
    let state = &*pipeline.backplane.state;
    let now_ms = state.now_ms().await?;
    let (mut ledger, expect) = match persisted::load::<Ledger>(state, &key(pipeline)).await? {
        Some((ledger, revision)) => (ledger, Expect::Revision(revision)),
        None => (Ledger::default(), Expect::Absent),
    };
    ledger.hours.retain(|&then, _| then + WINDOW_HOURS > now_ms / HOUR_MS);
    ledger.reserved.retain(|_, reserved| reserved.until_ms > now_ms);
    Ok((ledger, expect, now_ms))
}

/// Whether it was stored; nobody else has changed it then.
async fn store(pipeline: &Pipeline, ledger: &Ledger, expect: Expect) -> Result<bool, Fault> {
    let stored = persisted::store(&*pipeline.backplane.state, &key(pipeline), ledger, expect).await?.is_some();
    if !stored {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(1..=RACE_MS_MAX))).await;
    }
    Ok(stored)
}
