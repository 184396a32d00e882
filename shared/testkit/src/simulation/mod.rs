//! The convergence simulation (DESIGN §12): the real engine over fakes, on one thread and a paused clock, from a seed.
//!
//! Two processes compete for the lanes of one pipeline. Calls fail before or after they were done, hang, land late;
//! processes crash at any call and start again; a writer changes the host all the while. Then the writer stops. Without a
//! log one more import runs through the weather; with a log it may be left out. Once the lanes are empty the target must be
//! what the mapping makes of the host. No import heals after that: what was lost stays lost, and is seen.

mod events;
mod limits;
mod planted;
mod stalling;
mod weather;
mod wiring;
mod world;
mod writer;

pub use planted::Planted;
pub use world::{Plan, Report, simulate};
