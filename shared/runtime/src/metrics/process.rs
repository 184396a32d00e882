use opentelemetry::metrics::Meter;

/// Observes the process itself, by the names of OpenTelemetry's conventions.
pub(super) fn observe(meter: &Meter) {
    meter
        .i64_observable_up_down_counter("process.memory.usage")
        .with_unit("By")
        .with_description("Physical memory in use (Linux).")
        .with_callback(|observer| {
            if let Some(bytes) = resident_bytes() {
                observer.observe(bytes, &[]);
            }
        })
        .build();
}

/// The memory that this process holds; `None` where the system does not say it as Linux does.
fn resident_bytes() -> Option<i64> {
    resident_in(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// The resident bytes in a text like `/proc/self/status`.
fn resident_in(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes = line.trim().strip_suffix("kB")?.trim_end().parse::<i64>().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::resident_in;

    #[test]
    fn resident_memory_is_found() {
        let status = "Name:\tfides\nVmHWM:\t   99999 kB\nVmRSS:\t   12345 kB\nThreads:\t3\n";
        assert_eq!(resident_in(status), Some(12345 * 1024));
        for none in ["", "VmRSS:\n", "VmRSS:\t12 pages\n", "VmRSS:\tmany kB\n", "VmHWM:\t5 kB\n"] {
            assert_eq!(resident_in(none), None, "{none}");
        }
    }
}
