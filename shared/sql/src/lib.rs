//! What connectors to SQL servers have in common, and what no driver has a part in: who orders a host's states, the bounded
//! set of sessions, the search for rows that a target refuses, what is kept of a target's tables, and what it means that a
//! server cannot be reached.

mod authority;
mod connect;
mod layouts;
mod reach;
mod search;
mod sessions;

pub use authority::{Authority, Refusal, same_lineage, unfollowed};
pub use connect::Connect;
pub use layouts::{Layouts, unwritten};
pub use reach::{advised, of_io};
pub use search::{Search, Written};
pub use sessions::{Session, Sessions};
