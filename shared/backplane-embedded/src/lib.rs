//! Floor 2: queue, hash store, state store, dead letters and commands in one SQLite file, for one process.
//!
//! Durable on return: WAL with `synchronous=FULL` (L11). All writes go through one connection, in short transactions;
//! reads have a small pool of their own, which is also how another process may look on.

mod admin;
mod dead_letters;
mod fault;
mod file;
mod hash_store;
mod lock;
mod queue;
mod state_store;
#[cfg(test)]
mod tests;
mod transaction;

use std::path::Path;
use std::sync::Arc;

use fides_core::port::{AdminQueue, Backplane};
use fides_core::{Fault, Limits};

use admin::Commands;
use file::File;
use hash_store::Buckets;
use queue::Lanes;
use state_store::States;

/// An open backplane. Dropping the last handle frees the file for another process.
pub struct Embedded {
    file: Arc<File>,
    lanes: Arc<Lanes>,
    states: Arc<States>,
    commands: Arc<Commands>,
}

/// Opens or creates the file at `path` and owns it: a second owner, in this process or another, is refused.
pub async fn open(path: &Path, limits: &Limits) -> Result<Embedded, Fault> {
    let file = Arc::new(File::own(path, lock::lock(path)??).await?);
    Embedded::over(file, limits).await
}

/// [`open`], unless another owner has the file: then `None`, and [`open_read_only`] with [`Embedded::admin`] reaches it.
pub async fn open_unless_in_use(path: &Path, limits: &Limits) -> Result<Option<Embedded>, Fault> {
    let Ok(lock) = lock::lock(path)? else { return Ok(None) };
    let file = Arc::new(File::own(path, lock).await?);
    Embedded::over(file, limits).await.map(Some)
}

/// Opens the file at `path` for reading beside its owner. Where there is no file yet, everything is empty. Whatever would
/// write is refused, but for commands, which go to the owner.
pub async fn open_read_only(path: &Path) -> Result<Embedded, Fault> {
    let file = Arc::new(File::look(path).await?);
    Embedded::over(file, &Limits::default()).await
}

impl Embedded {
    async fn over(file: Arc<File>, limits: &Limits) -> Result<Self, Fault> {
        let lanes = Arc::new(Lanes::load(file.clone(), limits.lane_depth_batches_max).await?);
        let states = Arc::new(States::new(file.clone()));
        let commands = Arc::new(Commands::new(file.clone()));
        Ok(Self { file, lanes, states, commands })
    }

    /// The port of commands.
    pub fn admin(&self) -> Arc<dyn AdminQueue> {
        self.commands.clone()
    }

    /// The other ports.
    pub fn backplane(&self) -> Backplane {
        Backplane {
            queue: self.lanes.clone(),
            hashes: Arc::new(Buckets::new(self.file.clone(), fides_core::bucket::BUCKET_MARKS_MAX)),
            state: self.states.clone(),
            dead: self.file.clone(),
        }
    }
}
