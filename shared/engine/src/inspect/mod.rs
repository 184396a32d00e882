//! Reading both sides and telling people: verify, plan, explain, status. Only `repair` writes, through the lanes.

mod explain;
mod heartbeat;
pub(crate) mod judge;
mod key_text;
mod plan;
mod repair;
mod report;
mod status;
mod verify;
pub(crate) mod walk;
mod watch;

pub use explain::{Explanation, explain};
pub use heartbeat::{Breaker, Heartbeat, SILENCE_MS_MAX, Work, beat, depart, forget_departed, heartbeats};
pub use key_text::{key_text, parse_key};
pub use plan::{EditPlan, Plan, Sample, plan};
pub use repair::{RepairReport, repair};
pub(crate) use repair::{await_lease, exclusively};
pub use report::{Difference, DifferenceKind, FieldDifference, VerifyReport};
pub use status::{LaneStatus, RunStatus, Status, status};
pub use verify::verify;
pub use watch::{Verified, last_verified, verify_due};
