use std::sync::Arc;

use super::{DeadLetters, HashStore, Queue, StateStore};

/// Everything between host and target: embedded in one SQLite file, or `RabbitMQ` and Redis.
#[derive(Clone)]
pub struct Backplane {
    /// Durable lanes.
    pub queue: Arc<dyn Queue>,
    /// The mark of every record.
    pub hashes: Arc<dyn HashStore>,
    /// Runs, cursors, fences, leases, versions.
    pub state: Arc<dyn StateStore>,
    /// What could not be delivered.
    pub dead: Arc<dyn DeadLetters>,
}
