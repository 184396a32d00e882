/// Bounds of everything (L10). Units are in the names; the configuration has the same names.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Lanes of a pipeline: the unit of order and of parallel publishing.
    pub lanes: u16,
    /// Records of one page read from a host.
    pub page_records_max: usize,
    /// Changes in one queue message.
    pub batch_records_max: usize,
    /// Bytes of one queue message.
    pub batch_bytes_max: usize,
    /// Changes that a consumer gathers into one target write.
    pub apply_records_max: usize,
    /// Bytes that a consumer gathers into one target write.
    pub apply_bytes_max: usize,
    /// How long a consumer waits for more of an import before it writes. An event waits for nothing.
    pub gather_ms_max: u64,
    /// Messages that may wait in one lane before publishers wait.
    pub lane_depth_batches_max: u32,
    /// Ranges of a host that are read at the same time.
    pub host_partitions: usize,
    /// Age at which an import renews its snapshot.
    pub snapshot_age_ms_max: u64,
    /// One call to a host.
    pub host_timeout_ms: u64,
    /// One write to a target; the server's deadline lies below it (L6).
    pub write_timeout_ms_max: u64,
    /// Attempts of one call.
    pub retry_attempts_max: u32,
    /// First backoff.
    pub retry_base_ms: u64,
    /// Longest backoff.
    pub retry_cap_ms: u64,
    /// Consecutive failures that open the breaker.
    pub breaker_failures: u32,
    /// How long the breaker stays open before one probe.
    pub breaker_open_ms: u64,
    /// Ceiling of the rate at which a target is written.
    pub rate_records_per_second: Option<u32>,
    /// Share of the records that may be deleted without approval.
    pub delete_ratio_max: f64,
    /// Deletions up to this number never need approval for their share alone.
    pub delete_count_min: u64,
    /// Share of dead letters in a run above which the pipeline pauses.
    pub dead_ratio_max: f64,
    /// Dead letters up to this number never pause a pipeline.
    pub dead_count_min: u64,
    /// Life of a lease.
    pub lease_ms: u64,
    /// Bytes of one record; a larger one is a dead letter.
    pub record_bytes_max: usize,
    /// Bytes of its log that a host may keep because they are not read.
    pub slot_lag_bytes_max: u64,
    /// What happens when it keeps more.
    pub slot_lag_action: LagAction,
    /// How long more hints are waited for before those that are there are fetched.
    pub hint_gather_ms_max: u64,
    /// Hints that may wait in one process; more are refused.
    pub hint_backlog_records_max: usize,
    /// When a record that a hint did not find is looked for again, before it is judged to be gone.
    pub hint_settle_ms: u64,
}

/// What happens when a host keeps more of its log than it should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LagAction {
    /// It is told.
    #[default]
    Alert,
    /// The host may forget its log, and an import is owed.
    Drop,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lanes: 4,
            page_records_max: 8_192,
            batch_records_max: 512,
            batch_bytes_max: 1 << 20,
            apply_records_max: 10_000,
            apply_bytes_max: 16 << 20,
            gather_ms_max: 50,
            lane_depth_batches_max: 32,
            host_partitions: 4,
            snapshot_age_ms_max: 60_000,
            host_timeout_ms: 30_000,
            write_timeout_ms_max: 30_000,
            retry_attempts_max: 8,
            retry_base_ms: 100,
            retry_cap_ms: 10_000,
            breaker_failures: 5,
            breaker_open_ms: 2_000,
            rate_records_per_second: None,
            delete_ratio_max: 0.10,
            delete_count_min: 100,
            dead_ratio_max: 0.5,
            dead_count_min: 100,
            lease_ms: 10_000,
            record_bytes_max: 16 << 20,
            slot_lag_bytes_max: 10 << 30,
            slot_lag_action: LagAction::Alert,
            hint_gather_ms_max: 3,
            hint_backlog_records_max: 10_000,
            hint_settle_ms: 1_000,
        }
    }
}
