//! The convergence simulation (DESIGN §12): the real engine over fakes, on one thread and a paused clock, from a seed.
//!
//! Two processes compete for the lanes of one pipeline. Calls fail before or after they were done, hang, land late;
//! processes crash at any call and start again; a writer changes the host all the while. Then the writer stops, one more
//! import runs through the weather, and once the lanes are empty the target must be what the mapping makes of the host.
//! There is no healing import after that: a change that was lost stays lost, and is seen.

mod events;
mod planted;
mod stalling;
mod world;

pub use planted::Planted;
pub use world::{Plan, Report, simulate};
