use fides_core::Limits;

/// Small, so that every bound is met.
pub(super) fn limits() -> Limits {
    Limits {
        lanes: 2,
        page_records_max: 4,
        batch_records_max: 2,
        apply_records_max: 5,
        gather_ms_max: 5,
        lane_depth_batches_max: 6,
        host_partitions: 1,
        snapshot_age_ms_max: 50,
        retry_base_ms: 5,
        retry_cap_ms: 50,
        // Shorter than the longest delay, so that lanes change hands while their owner still lives.
        lease_ms: 500,
        delete_ratio_max: 1e9,
        ..Limits::default()
    }
}
