//! The decisions, as pure functions: what changed, what is admitted, which lane, what a fault means, what may be deleted.

mod admit;
mod changed;
mod disposition;
mod lane;
mod may_delete;
mod share;

pub use admit::admit;
pub use changed::{Comparison, compare};
pub use disposition::{Disposition, backoff_ms_max, disposition};
pub use lane::lane_of;
pub use may_delete::{Evidence, Verdict, may_delete};
pub use share::lanes_of;
