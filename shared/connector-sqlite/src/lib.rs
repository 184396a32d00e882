//! SQLite as host and as target.
//!
//! The tables of a host are only read. One read transaction is one snapshot, labelled with the version that was drawn before
//! it was opened (L1), or with its position in the outbox that triggers fill, where that is followed. A target is written in one transaction per batch, behind a lane token that is
//! checked inside that transaction (L6).

mod apply;
mod bind;
mod connect;
mod describe;
mod fault;
mod host;
mod include;
mod inspect;
mod kind;
mod lane;
mod outbox;
mod query;
mod read;
mod reading;
mod snapshot;
mod target;

pub use host::host;
pub use outbox::{install_outbox, remove_outbox};
pub use target::target;
