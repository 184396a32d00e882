//! SQLite as host and as target.
//!
//! A host is opened read-only and never written. One read transaction is one snapshot, labelled with the version that
//! was drawn before it was opened (L1). A target is written in one transaction per batch, behind a lane token that is
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
mod query;
mod read;
mod snapshot;
mod target;

pub use host::host;
pub use target::target;
