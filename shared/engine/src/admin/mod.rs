//! Commands to a running Fides: accepted here, durably and once by id, and carried out by the roles that do such work
//! anyway.
//!
//! What each role of a process calls:
//! - whoever serves the desk: [`receive`] for every request, with all pipelines;
//! - importers: nothing for whole imports ([`crate::import::demanded`] and [`crate::import::Lead::import`] know of what was
//!   asked), and [`carry_out`] with [`Office::Sending`] for keys, ranges and dead letters;
//! - clean-up schedulers: [`carry_out`] with [`Office::Comparing`] for clean-ups and comparisons, schedule or not.
//!
//! Pauses and cancellations are honoured inside the use-cases themselves.

mod accept;
mod cancel;
mod carry;
mod demand;
mod job;
mod ledger;
mod orders;
mod pause;
mod refusal;

pub use accept::{accept, receive};
pub use carry::carry_out;
pub use job::Office;
pub use ledger::{CommandStatus, commands};
pub use orders::until_paused;
pub use pause::{Paused, paused};
pub use refusal::{Refusal, refusal};

pub(crate) use demand::{Demanded, close as close_demands, demanded};
pub(crate) use job::Allowance;
pub(crate) use ledger::Outcome;
pub(crate) use orders::{Orders, Stopped, until_resumed};
pub(crate) use refusal::{lift, refuse};

pub(crate) use cancel::of as cancelled;
