//! Floor 3: hash store, state store and dead letters in Redis 7, for many processes.
//!
//! **Durable on return** only where Redis runs with `appendonly yes` and `appendfsync always` and never evicts (L11):
//! [`RedisBackplane::check`] says what is missing. A failover to a replica loses what was not yet copied, and no client
//! can tell: use a Redis that keeps its own file, not one that fails over.
//!
//! **Every call may be repeated.** A fault means that its outcome is not known: it may have been carried out.
//! - `advance`, `distrust`, `relabel`, `summarise`: repeating gives the same marks.
//! - `put` with `Absent` or a revision: repeated after its answer was lost it answers `None`, because its own entry is
//!   there; the caller reads the entry again and sees whether it is its own. With `Any` it writes again.
//! - `lease`: repeated by the same holder it answers with the token that it has.
//! - `next_position`: a position is skipped, never drawn twice.
//! - dead letters: a repeated `put` adds up the attempts once more.
//!
//! **Cancellation**: dropping a call's future leaves its outcome unknown, as a fault does.
//!
//! **Clusters**: every key of a pipeline's marks and letters has the hash tag `{pipeline}`, every key of the state store
//! `{fides}` (it is small, and listed across pipelines); no step touches both. That makes Redis usable behind a proxy that
//! shards it; a shard that loses its data alone is only noticed where it held the name of the incarnation.

mod check;
mod dead_letters;
mod fault;
mod hashes;
mod index;
mod link;
mod names;
mod portions;
mod settings;
mod state_store;

use std::sync::Arc;
use std::time::Duration;

use fides_core::port::{DeadLetters, HashStore, StateStore};
use fides_core::{Fault, Limits, bucket};

pub use check::Finding;
pub use settings::Settings;

use dead_letters::Letters;
use hashes::Buckets;
use link::Link;
use names::Names;
use state_store::States;

/// A connected Redis.
pub struct RedisBackplane {
    link: Arc<Link>,
    names: Names,
    marks_max: usize,
    dead_letters_max: u64,
    state: Arc<States>,
}

/// Connects; a Redis that cannot be reached is an Unavailable fault. The connection comes back by itself when it is lost;
/// the calls that it was lost under end in faults. No answer is waited for longer than half the life of a lease: its
/// renewal could be tried again in time.
pub async fn connect(mut settings: Settings, limits: &Limits) -> Result<RedisBackplane, Fault> {
    settings.response_timeout = settings.response_timeout.min(Duration::from_millis(limits.lease_ms / 2));
    let names = Names::new(&settings.prefix)?;
    let (marks_max, dead_letters_max) = (settings.bucket_marks_max.max(2), settings.dead_letters_max);
    let link = Arc::new(Link::open(&settings).await?);
    let state = Arc::new(States::new(link.clone(), names.clone()));
    Ok(RedisBackplane { link, names, marks_max, dead_letters_max, state })
}

impl RedisBackplane {
    /// The marks. Each handle remembers on its own which incarnation it works with (L11), and fails when Redis holds
    /// another one; [`HashStore::incarnation`] is how a handle learns of the new one.
    pub fn hashes(&self) -> Arc<dyn HashStore> {
        Arc::new(Buckets::new(self.link.clone(), self.names.clone(), self.marks_max))
    }

    /// Runs, cursors, fences, leases, versions.
    pub fn state(&self) -> Arc<dyn StateStore> {
        self.state.clone()
    }

    /// What could not be delivered, at most [`Settings::dead_letters_max`] per pipeline.
    pub fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::new(Letters::new(self.link.clone(), self.names.clone(), self.dead_letters_max))
    }

    /// What of Redis' own settings breaks L11, with advice; empty when all is well.
    pub async fn check(&self) -> Result<Vec<Finding>, Fault> {
        check::check(&self.link).await
    }
}

/// The size of a bucket that nobody asked to be another.
const BUCKET_MARKS_MAX: usize = bucket::BUCKET_MARKS_MAX;
