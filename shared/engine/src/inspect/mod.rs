//! Reading without writing: verify, plan, explain, status.

mod explain;
mod key_text;
mod plan;
mod status;
mod verify;
pub(crate) mod walk;

pub use explain::{Explanation, explain};
pub use key_text::parse_key;
pub use plan::{EditPlan, Plan, Sample, plan};
pub use status::{LaneStatus, RunStatus, Status, status};
pub use verify::{Difference, DifferenceKind, FieldDifference, VerifyReport, verify};
