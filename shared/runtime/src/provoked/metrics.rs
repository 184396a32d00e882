//! No metric of docs/metrics.md is a name alone.

use std::collections::BTreeSet;
use std::path::Path;

use super::TOLD;
use crate::metrics::tests::documented;

#[test]
fn every_metric_of_the_page_is_provoked() {
    let documented: BTreeSet<String> = documented().into_keys().collect();
    assert_eq!(TOLD.metrics, documented);
}

/// The words of a text that look like one of our metrics.
pub(super) fn metrics_in(text: &str) -> impl Iterator<Item = &str> {
    text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_')
        .filter(|word| word.starts_with("fides_") && word.len() > "fides_".len() || *word == "target_info")
}

/// The metric that a series in Prometheus' text is of: histograms have three.
pub(super) fn metric_of(series: &str) -> &str {
    let of = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(end));
    of.filter(|name| name.ends_with("_seconds")).unwrap_or(series)
}

/// Pages that advise to look at a metric name one that there is.
#[test]
fn no_page_names_a_metric_that_nobody_tells() {
    let documented = documented();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    for page in ["metrics.md", "operations.md", "dashboard.md", "distributed.md", "deletions.md", "events.md"] {
        let text = std::fs::read_to_string(docs.join(page)).unwrap();
        // `fides_reader` and its like are roles of a database.
        let roles = ["fides_reader", "fides_writer"];
        for name in metrics_in(&text).map(metric_of).filter(|name| !roles.contains(name)) {
            assert!(documented.contains_key(name), "{page} names {name}");
        }
    }
}
