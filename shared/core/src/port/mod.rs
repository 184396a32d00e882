//! The ports: what the use-cases ask of the world. Every call is a batch; every failure is a [`crate::Fault`] whose kind
//! the adapter chose (L9). All ports are used as `Arc<dyn …>`.

mod admin;
mod backplane;
mod dead_letters;
mod hash_store;
mod host;
mod log;
mod mapper;
mod queue;
mod state_store;
mod target;

pub use admin::{AdminQueue, Desk, Request};
pub use backplane::Backplane;
pub use dead_letters::{DeadLetter, DeadLetters};
pub use hash_store::{BucketInfo, HashStore, Relabel};
pub use host::{Host, Lineage, Snapshot};
pub use log::{Concern, Gap, Log, LogPage, Logged, Opened, What};
pub use mapper::{Mapped, Mapper, Recalled};
pub use queue::{Consumer, Delivery, Queue, Settling};
pub use state_store::{Entry, Expect, Lease, StateStore};
pub use target::{Fencing, Obstacle, Outcome, Sink, Target, Write};
