//! Hints: a host that keeps no log tells which of its records changed, and nothing of how (DESIGN §5). Their present state
//! is fetched, under a version that was drawn before (L1), and published like every change.
//!
//! Nothing here knows how hints arrive. Whoever receives one offers it and answers its sender when the offer is confirmed:
//! then the change is in the lanes (L3), or its absence is kept for a second look. The order of hints means nothing, and
//! any number of processes may take them: the highest version holds the latest state, provided that a hint arrives after
//! its change is readable.

mod absence;
mod gather;
mod offer;
mod take;

pub(crate) use absence::KIND;
pub use offer::{Hints, Offers, hints};
pub use take::take_hints;
