//! Floor 1: the use-cases, written against the ports of [`fides_core::port`]. The embedded and the distributed mode run
//! this same code.
//!
//! Data flows one way: [`import`] compares the host with the marks and publishes what changed; [`publishing`] consumes
//! lanes, writes the target and advances the marks; [`follow()`] publishes what the host's log tells; `sweep` turns proven absences into deletions; [`inspect`] reads
//! both sides and tells people.

pub mod admin;
pub mod dead;
pub mod import;
pub mod inspect;
pub mod publishing;

mod cleanup;
mod deletions;
mod edit;
mod epoch;
mod extras;
mod fence;
mod follow;
mod hints;
mod lease;
mod listing;
mod persisted;
mod pipeline;
mod place;
mod progress;
mod publisher;
mod rebuild;
mod record;
mod refresh;
mod snapshot;
mod soft;
mod spool;
mod sweep;
mod trace;

pub use cleanup::{Cleaned, clean_up, last_due_ms as last_cleanup_due_ms};
pub use epoch::{Raised, current as current_epoch, establish};
pub use fence::{raise as raise_fence, wait_settled as wait_for_fence};
pub use follow::{follow, log_place};
pub use hints::{Hints, Offers, hints, take_hints};
pub use pipeline::{DeletePolicy, ForeignPolicy, Pipeline};
pub use place::unfinished_due_ms as unfinished_cleanup_due_ms;
pub use progress::{Counts, Progress};
pub use publisher::{publish, publish_under};
pub use rebuild::RebuildReport;
pub use record::{Mapping, change_of};
pub use refresh::refresh;
pub use soft::SoftDelete;
pub use sweep::SweepReport;
pub use trace::Trace;
