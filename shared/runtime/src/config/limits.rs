//! Every bound of the running system: its name, type, default, range and meaning, once.

use super::fields::{Fields, Section};
use super::form::{Definitions, Form, Reading};
use super::node::Node;
use super::scalar::{Number, Ratio, Word};

/// Declares the limits: the struct, its default, the part that a file may set, and the keys of that part.
macro_rules! limits {
    ($($(#[doc = $about:literal])+ $name:ident: $type:ty = $default:expr, $form:expr;)+) => {
        /// The bounds of a pipeline (L10). Units are in the names.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Limits {
            $($(#[doc = $about])+ pub $name: $type,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        /// The limits that a section of the file sets; the others stay as they are.
        #[derive(Clone, Debug, Default)]
        pub(super) struct LimitsPatch {
            $($name: Option<$type>,)+
        }

        impl LimitsPatch {
            /// The base with what this part sets.
            pub fn over(&self, base: &Limits) -> Limits {
                Limits { $($name: self.$name.unwrap_or(base.$name),)+ }
            }
        }

        impl Section for LimitsPatch {
            const NAME: &'static str = "limits";
            const ABOUT: &'static str = "bounds; each has a default";

            fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
                let default = Limits::default();
                $(let $name = fields.patched(stringify!($name), concat!($($about),+).trim(), $form, default.$name);)+
                Some(Self { $($name: $name?,)+ })
            }
        }
    };
}

limits! {
    /// Lanes of the pipeline: the unit of order and of parallel publishing.
    lanes: u32 = 4, Number(1..=64);
    /// Records of one page of a scan.
    page_records_max: usize = 8192, Number(1..=1_000_000);
    /// Records of one queue message.
    batch_records_max: usize = 512, Number(1..=65_536);
    /// Bytes of one queue message.
    batch_bytes_max: usize = 1_048_576, Number(1024..=134_217_728);
    /// Records of one write to the target.
    apply_records_max: usize = 10_000, Number(1..=1_000_000);
    /// Bytes of one write to the target.
    apply_bytes_max: usize = 16_777_216, Number(1024..=1_073_741_824);
    /// Time to gather what imports send into one write, in milliseconds. Events are written at once.
    gather_ms_max: u64 = 50, Number(0..=60_000);
    /// Queue messages that may wait in one lane before publishing waits.
    lane_depth_batches_max: u32 = 32, Number(1..=100_000);
    /// Key ranges of the host that are read at the same time.
    host_partitions: u32 = 4, Number(1..=256);
    /// Age at which a snapshot of the host is renewed, in milliseconds.
    snapshot_age_ms_max: u64 = 60_000, Number(1000..=86_400_000);
    /// Time that one call to the host may take, in milliseconds.
    host_timeout_ms: u64 = 30_000, Number(1..=3_600_000);
    /// Time that one write to the target may take, in milliseconds.
    write_timeout_ms_max: u64 = 30_000, Number(1..=3_600_000);
    /// Attempts of one call before its delivery goes back to the queue.
    retry_attempts_max: u32 = 8, Number(1..=1000);
    /// First pause between two attempts, in milliseconds.
    retry_base_ms: u64 = 100, Number(1..=3_600_000);
    /// Longest pause between two attempts, in milliseconds.
    retry_cap_ms: u64 = 10_000, Number(1..=3_600_000);
    /// Failures in a row that open the circuit breaker.
    breaker_failures: u32 = 5, Number(1..=1000);
    /// Time that an open breaker waits before it probes, in milliseconds.
    breaker_open_ms: u64 = 2000, Number(1..=3_600_000);
    /// Records written to the target per second; no bound when absent.
    rate_records_per_second: Option<u32> = None, Bound(Number(1..=u32::MAX));
    /// Share of the target's records that clean-up may delete unasked.
    delete_ratio_max: f64 = 0.10, Ratio;
    /// Deletes below which the share is not asked for.
    delete_count_min: u64 = 100, Number(0..=u64::MAX);
    /// Share of dead letters above which the pipeline pauses.
    dead_ratio_max: f64 = 0.5, Ratio;
    /// Dead letters below which the share is not asked for.
    dead_count_min: u64 = 100, Number(0..=u64::MAX);
    /// Time after which a lease that is not renewed is free, in milliseconds.
    lease_ms: u64 = 10_000, Number(1000..=3_600_000);
    /// Bytes of one record; a larger one is a dead letter.
    record_bytes_max: usize = 16_777_216, Number(1024..=1_073_741_824);
    /// Bytes of its log that a host may keep because they are not read.
    slot_lag_bytes_max: u64 = 10_737_418_240, Number(1_048_576..=u64::MAX);
    /// What happens when it keeps more: `alert` tells it, `drop` also drops the slot, so that an import is owed.
    slot_lag_action: LagAction = LagAction::Alert, Word(&[("alert", LagAction::Alert), ("drop", LagAction::Drop)]);
    /// Time to gather hints into one fetch, in milliseconds.
    hint_gather_ms_max: u64 = 3, Number(0..=60_000);
    /// Hints that may wait in one process; more are refused until there is room.
    hint_backlog_records_max: usize = 10_000, Number(1..=10_000_000);
    /// Time after which a record that a hint did not find is looked for again, before it is deleted, in milliseconds.
    hint_settle_ms: u64 = 1000, Number(1..=3_600_000);
}

/// What happens when a host keeps more of its log than it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LagAction {
    /// It is told.
    Alert,
    /// The slot is dropped, and an import is owed.
    Drop,
}

/// As it is written in the file.
impl From<LagAction> for serde_json::Value {
    fn from(action: LagAction) -> Self {
        match action {
            LagAction::Alert => "alert".into(),
            LagAction::Drop => "drop".into(),
        }
    }
}

/// A bound where the default is none.
struct Bound<F>(F);

impl<F: Form> Form for Bound<F> {
    type Value = Option<F::Value>;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<Self::Value> {
        self.0.read(reading, node).map(Some)
    }

    fn schema(&self, definitions: &mut Definitions) -> serde_json::Value {
        self.0.schema(definitions)
    }
}

impl Limits {
    /// What is wrong between limits that are right one by one: what was found and what was expected.
    pub(super) fn contradictions(&self) -> Vec<(String, &'static str)> {
        let mut wrong = Vec::new();
        if self.retry_base_ms > self.retry_cap_ms {
            let found = format!("retry_base_ms {} above retry_cap_ms {}", self.retry_base_ms, self.retry_cap_ms);
            wrong.push((found, "a first pause that is not above the longest"));
        }
        if self.batch_records_max > self.apply_records_max {
            let (batch, apply) = (self.batch_records_max, self.apply_records_max);
            wrong.push((
                format!("batch_records_max {batch} above apply_records_max {apply}"),
                "a message that fits into one write",
            ));
        }
        wrong
    }
}
