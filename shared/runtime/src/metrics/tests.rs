//! What is told is what was measured, and what the page says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fides_core::{Fault, FaultKind, PipelineId};
use fides_engine::Progress;
use fides_guard::{BreakerState, Called, Meter, Tally};

use super::Metrics;
use super::stock::Held;

const PAGE: &str = include_str!("../../../../docs/metrics.md");

fn metrics() -> Metrics {
    Metrics::new("fides-test").unwrap()
}

/// The value of one line of the text; its labels as they are written, in the order of their names.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.text().unwrap();
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

fn call(meter: &dyn Meter, operation: &'static str, tally: Tally, fault: Option<&Fault>, latency_us: u64) {
    let latency = Duration::from_micros(latency_us);
    meter.called(&Called { name: "target search", operation, tally, fault, latency });
}

fn tally(done: u64, stale: u64, unknown: u64, failed: u64) -> Tally {
    Tally { done, stale, unknown, failed }
}

/// Progress in which no two numbers are equal.
fn progress(base: u64) -> Arc<Progress> {
    let progress = Progress::default();
    let counters = [
        &progress.read,
        &progress.unchanged,
        &progress.summarised,
        &progress.still_dead,
        &progress.published,
        &progress.deletions,
        &progress.written,
        &progress.stale,
        &progress.dead,
        &progress.followed,
        &progress.verified,
        &progress.drifted,
        &progress.newer,
        &progress.refused,
        &progress.redelivered,
        &progress.lanes,
    ];
    for (counter, number) in counters.into_iter().zip(base..) {
        counter.store(number, std::sync::atomic::Ordering::Relaxed);
    }
    Arc::new(progress)
}

#[test]
fn records_are_counted_by_what_became_of_them() {
    let metrics = metrics();
    let meter = metrics.meter();
    call(&*meter, "apply", tally(7, 2, 0, 1), Some(&Fault::permanent("refused")), 1);
    call(&*metrics.meter(), "apply", tally(3, 0, 5, 0), Some(&Fault::transient("reset")), 1);
    call(&*meter, "scan", tally(1, 0, 0, 0), None, 1);

    let records = |operation: &str, outcome: &str| {
        let labels = format!("operation=\"{operation}\",outcome=\"{outcome}\",part=\"target search\"");
        value(&metrics, &format!("fides_call_records_total{{{labels}}}"))
    };
    assert_eq!(records("apply", "done"), Some(10.0));
    assert_eq!(records("apply", "stale"), Some(2.0));
    assert_eq!(records("apply", "unknown"), Some(5.0));
    assert_eq!(records("apply", "failed"), Some(1.0));
    assert_eq!((records("scan", "done"), records("scan", "failed")), (Some(1.0), None));
}

#[test]
fn durations_are_in_seconds_and_have_the_kind_of_the_fault() {
    let metrics = metrics();
    let meter = metrics.meter();
    for latency_us in [400, 2_000, 29_000_000, 31_000_000] {
        call(&*meter, "apply", tally(1, 0, 0, 0), None, latency_us);
    }
    let kinds = [
        (FaultKind::Transient, "transient"),
        (FaultKind::Throttled { after: Duration::from_secs(1) }, "throttled"),
        (FaultKind::Unavailable, "unavailable"),
        (FaultKind::Deferred, "deferred"),
        (FaultKind::Permanent, "permanent"),
    ];
    for (kind, _) in kinds {
        call(&*meter, "apply", tally(0, 0, 0, 1), Some(&Fault::new(kind, "failed")), 1);
    }

    let labels = "operation=\"apply\",part=\"target search\"";
    let below = |bound: &str| {
        value(&metrics, &format!("fides_call_duration_seconds_bucket{{{labels},le=\"{bound}\"}}"))
            .map(|count| count.to_string())
    };
    let counts = ["0.0005", "0.001", "0.0025", "1", "10", "30", "+Inf"].map(below);
    assert_eq!(counts.map(Option::unwrap), ["1", "1", "2", "2", "2", "3", "4"]);
    let sum = value(&metrics, &format!("fides_call_duration_seconds_sum{{{labels}}}")).unwrap();
    assert!((sum - 60.0024).abs() < 1e-9, "{sum}");
    for (_, name) in kinds {
        let failed = format!("fides_call_duration_seconds_count{{error_type=\"{name}\",{labels}}}");
        assert_eq!(value(&metrics, &failed), Some(1.0), "{name}");
    }
}

#[test]
fn retries_and_throttles_are_counted() {
    let metrics = metrics();
    let meter = metrics.meter();
    meter.retrying("host shop", "scan", 1, Duration::from_millis(5));
    meter.retrying("host shop", "scan", 2, Duration::from_millis(9));
    meter.throttled("host shop", Duration::from_secs(3));
    let retries = value(&metrics, "fides_call_retries_total{operation=\"scan\",part=\"host shop\"}");
    assert_eq!((retries, value(&metrics, "fides_call_throttles_total{part=\"host shop\"}")), (Some(2.0), Some(1.0)));
}

#[test]
fn more_parts_than_anybody_has_are_counted_together() {
    let metrics = metrics();
    let meter = metrics.meter();
    for part in 0..3_000 {
        meter.throttled(&format!("host {part}"), Duration::ZERO);
    }
    let text = metrics.text().unwrap();
    let series = text.lines().filter(|line| line.starts_with("fides_call_throttles_total{")).count();
    assert_eq!(series, 2_001);
    assert_eq!(value(&metrics, "fides_call_throttles_total{otel_metric_overflow=\"true\"}"), Some(1_000.0));
}

#[test]
fn the_worst_breaker_of_a_part_is_shown() {
    let metrics = metrics();
    let state = || value(&metrics, "fides_breaker_state{part=\"target search\"}");
    let (one, other) = (metrics.meter(), metrics.meter());
    assert_eq!(state(), None);
    call(&*one, "apply", tally(1, 0, 0, 0), None, 1);
    assert_eq!(state(), Some(0.0));

    one.breaker("target search", BreakerState::Open);
    other.breaker("target search", BreakerState::Closed);
    call(&*one, "apply", tally(0, 0, 0, 1), Some(&Fault::unavailable("open")), 1);
    assert_eq!(state(), Some(2.0));
    one.breaker("target search", BreakerState::HalfOpen);
    assert_eq!(state(), Some(1.0));
    other.breaker("target search", BreakerState::Open);
    assert_eq!(state(), Some(2.0));
    drop(other);
    assert_eq!(state(), Some(1.0), "a breaker that is gone says nothing");
    one.breaker("target search", BreakerState::Closed);
    assert_eq!(state(), Some(0.0));
}

#[test]
fn pipelines_show_their_progress() {
    let metrics = metrics();
    let (orders, customers) = (progress(100), progress(200));
    metrics.pipeline(&PipelineId::new("orders"), Arc::clone(&orders));
    metrics.pipeline(&PipelineId::new("customers"), Arc::clone(&customers));

    let names = [
        "fides_records_read_total",
        "fides_records_unchanged_total",
        "fides_records_summarised_total",
        "fides_records_still_dead_total",
        "fides_records_published_total",
        "fides_records_deletions_total",
        "fides_records_written_total",
        "fides_records_stale_total",
        "fides_records_dead_total",
        "fides_records_followed_total",
        "fides_records_verified_total",
        "fides_records_drifted_total",
        "fides_records_newer_total",
        "fides_cleanup_refused_total",
        "fides_messages_redelivered_total",
        "fides_lanes_owned",
    ];
    for (name, number) in names.iter().zip(0u32..) {
        let of = |pipeline: &str| value(&metrics, &format!("{name}{{pipeline=\"{pipeline}\"}}"));
        assert_eq!(of("orders"), Some(f64::from(100 + number)), "{name}");
        assert_eq!(of("customers"), Some(f64::from(200 + number)), "{name}");
    }

    let read = || value(&metrics, "fides_records_read_total{pipeline=\"orders\"}");
    Progress::add(&orders.read, 5);
    assert_eq!(read(), Some(105.0));
    metrics.pipeline(&PipelineId::new("orders"), progress(7));
    assert_eq!(read(), Some(7.0), "a new run takes the place of the one before");
}

#[test]
fn the_lag_of_a_log_is_shown_in_bytes() {
    let metrics = metrics();
    let progress = progress(0);
    metrics.pipeline(&PipelineId::new("orders"), Arc::clone(&progress));
    let lag = || value(&metrics, "fides_log_lag_bytes{pipeline=\"orders\"}");
    assert_eq!(lag(), Some(0.0));
    Progress::add(&progress.log_lag, 16_777_216);
    assert_eq!(lag(), Some(16_777_216.0));
}

#[test]
fn a_lane_lags_as_long_as_it_has_something_in_hand() {
    let metrics = metrics();
    let progress = progress(0);
    metrics.pipeline(&PipelineId::new("orders"), Arc::clone(&progress));
    let lag = || value(&metrics, "fides_lane_lag_seconds{lane=\"3\",pipeline=\"orders\"}");
    assert_eq!(lag(), None);
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    progress.took(3, Some(u64::try_from(now_ms).unwrap() - 90_000));
    assert!(lag().is_some_and(|seconds| (90.0..150.0).contains(&seconds)), "{:?}", lag());
    // A sender whose clock is ahead has sent it just now.
    progress.took(3, Some(u64::MAX));
    assert_eq!(lag(), Some(0.0));
    progress.took(3, None);
    assert_eq!(lag(), None);
}

#[test]
fn stock_is_shown_by_pipeline_and_lane() {
    let metrics = metrics();
    let held = Held { depths: vec![0, 5], marks: 1_000, mark_bytes: 24_000, letters: 7 };
    metrics.inner.stock.show(&PipelineId::new("orders"), held);
    let of = |name: &str| value(&metrics, &format!("{name}{{pipeline=\"orders\"}}"));
    assert_eq!(of("fides_marks_stored"), Some(1_000.0));
    assert_eq!(of("fides_marks_size_bytes"), Some(24_000.0));
    assert_eq!(of("fides_letters_waiting"), Some(7.0));
    let depth = |lane: u8| value(&metrics, &format!("fides_lane_depth{{lane=\"{lane}\",pipeline=\"orders\"}}"));
    assert_eq!((depth(0), depth(1), depth(2)), (Some(0.0), Some(5.0), None));
}

#[test]
fn commands_are_counted_by_what_became_of_them() {
    let metrics = metrics();
    for (command, status) in [("pause", "done"), ("pause", "done"), ("approve", "refused")] {
        metrics.commanded(command, status);
    }
    let of = |command: &str, status: &str| {
        value(&metrics, &format!("fides_commands_total{{command=\"{command}\",status=\"{status}\"}}"))
    };
    assert_eq!((of("pause", "done"), of("approve", "refused"), of("pause", "refused")), (Some(2.0), Some(1.0), None));
}

#[test]
fn paused_lanes_are_counted() {
    let metrics = metrics();
    let progress = progress(0);
    metrics.pipeline(&PipelineId::new("orders"), Arc::clone(&progress));
    let paused = || value(&metrics, "fides_lanes_paused{pipeline=\"orders\"}");
    assert_eq!(paused(), Some(0.0));
    progress.pause(3, "the target is away".into());
    progress.pause(5, "the target is away".into());
    assert_eq!(paused(), Some(2.0));
    progress.resume(3);
    assert_eq!(paused(), Some(1.0));
    progress.resume(5);
    assert_eq!(paused(), Some(0.0));
}

#[test]
fn the_process_tells_what_it_is_and_what_it_holds() {
    let metrics = metrics();
    let version = env!("CARGO_PKG_VERSION");
    let text = metrics.text().unwrap();
    let info = text.lines().find(|line| line.starts_with("target_info{")).unwrap();
    for label in
        ["service_name=\"fides-test\"", "service_namespace=\"fides\"", &format!("service_version=\"{version}\"")]
    {
        assert!(info.contains(label) && info.ends_with(" 1"), "{label}: {info}");
    }
    let instance = |text: &str| text.split_once("service_instance_id=\"").unwrap().1[..36].to_owned();
    assert_ne!(instance(info), instance(&self::metrics().text().unwrap()), "replicas are told apart");
    let memory = value(&metrics, "process_memory_usage_bytes");
    assert_eq!(memory.is_some(), cfg!(target_os = "linux"));
    assert!(memory.is_none_or(|bytes| bytes > 100_000.0), "{memory:?}");
}

/// What a metric is, as the page or the text tells it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Described {
    pub kind: String,
    pub labels: BTreeSet<String>,
    pub meaning: String,
}

/// The rows of the page by their name in Prometheus, each with its name in OpenTelemetry and its unit.
pub(crate) fn documented() -> BTreeMap<String, (String, String, Described)> {
    let table = PAGE.split("| OpenTelemetry |").nth(1).expect("the page has its table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
        let [name, prometheus, kind, unit, labels, meaning] = &cells[..] else { panic!("{row}") };
        let labels = labels.split(", ").filter(|label| !label.is_empty()).map(ToOwned::to_owned).collect();
        let described = Described { kind: kind.clone(), labels, meaning: meaning.clone() };
        (prometheus.clone(), (name.clone(), unit.clone(), described))
    })
    .collect()
}

/// What is exported, by name.
pub(crate) fn exported(text: &str) -> BTreeMap<String, Described> {
    let mut all: BTreeMap<String, Described> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, meaning)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            all.entry(name.into()).or_default().meaning = meaning.into();
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            all.entry(name.into()).or_default().kind = kind.into();
        } else if let Some((name, labels)) = line.split_once('{') {
            let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let labels = labels.split_once('}').expect("labels end").0.split("\",");
            let labels = labels.filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            all.get_mut(name).expect("its kind was told before").labels.extend(labels.filter(|label| label != "le"));
        }
    }
    all
}

#[test]
fn the_page_and_the_export_agree() {
    let metrics = metrics();
    let meter = metrics.meter();
    call(&*meter, "apply", tally(1, 1, 1, 1), None, 1);
    call(&*meter, "apply", tally(1, 1, 1, 1), Some(&Fault::transient("reset")), 1);
    meter.retrying("target search", "apply", 1, Duration::ZERO);
    meter.throttled("target search", Duration::ZERO);
    meter.breaker("target search", BreakerState::Open);
    let progress = progress(1);
    progress.took(3, Some(1));
    metrics.pipeline(&PipelineId::new("orders"), progress);
    metrics
        .inner
        .stock
        .show(&PipelineId::new("orders"), Held { depths: vec![0, 5], marks: 9, mark_bytes: 90, letters: 1 });
    metrics.commanded("pause", "done");

    let (documented, exported) = (documented(), exported(&metrics.text().unwrap()));
    assert_eq!(documented.keys().collect::<Vec<_>>(), exported.keys().collect::<Vec<_>>());
    for (name, (otel, unit, page)) in &documented {
        let text = &exported[name];
        assert_eq!((&page.kind, &page.labels), (&text.kind, &text.labels), "{name}");
        assert!(page.meaning.starts_with(&text.meaning), "{name}: {:?}, {:?}", page.meaning, text.meaning);
        assert!(!text.meaning.is_empty(), "{name}");
        if name != "target_info" {
            let unit = match unit.as_str() {
                "s" => "_seconds",
                "By" => "_bytes",
                thing => thing.strip_prefix('{').and_then(|thing| thing.strip_suffix('}')).map_or("?", |_| ""),
            };
            let total = if page.kind == "counter" { "_total" } else { "" };
            assert_eq!(name, &format!("{}{unit}{total}", otel.replace('.', "_")));
        }
    }
}
