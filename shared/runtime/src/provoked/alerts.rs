//! What wakes somebody up is told when it happens, and named where its first steps are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::TOLD;
use super::metrics::{metric_of, metrics_in};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What is in an array; nothing where there is none.
fn items<'v>(value: &'v Value, pointer: &str) -> std::slice::Iter<'v, Value> {
    value.pointer(pointer).and_then(Value::as_array).map_or_else(Default::default, |items| items.iter())
}

/// Kibana's rules on lines, by the names of their files.
fn rules_on_lines() -> BTreeMap<String, Value> {
    let files = std::fs::read_dir(root().join("infra/elk/alerts")).unwrap().map(|file| file.unwrap().path());
    let rule = |file: PathBuf| {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        (name, json(&std::fs::read_to_string(file).unwrap()))
    };
    files.map(rule).collect()
}

/// Prometheus' rules on metrics: name and expression.
fn rules_on_metrics() -> BTreeMap<String, String> {
    let rules = yaml("infra/alerts.yaml");
    let rules = items(&rules, "/groups").flat_map(|group| items(group, "/rules"));
    let text = |rule: &Value, key: &str| rule[key].as_str().unwrap_or_else(|| panic!("{key} of {rule}")).to_owned();
    rules.map(|rule| (text(rule, "alert"), text(rule, "expr"))).collect()
}

/// The terms of a filter in Elasticsearch's own words: a field, and the values of which it has one.
fn terms(filter: &Value) -> (String, Vec<String>) {
    let terms = filter["terms"].as_object().unwrap_or_else(|| panic!("only terms are known here: {filter}"));
    let (field, values) = terms.iter().next().expect("a field");
    let values = values.as_array().expect("values").iter().map(|value| value.as_str().expect("text").to_owned());
    (field.trim_end_matches(".keyword").to_owned(), values.collect())
}

#[test]
fn every_rule_on_lines_is_provoked() {
    let said: BTreeSet<&str> = TOLD.lines.iter().filter_map(|line| line["message"].as_str()).collect();
    for (name, rule) in rules_on_lines() {
        let query = json(rule.pointer("/params/esQuery").and_then(Value::as_str).expect("a query"));
        let mut filters = items(&query, "/query/bool/filter").map(terms).peekable();
        assert!(filters.peek().is_some(), "{name} filters nothing");
        for (field, values) in filters {
            assert_eq!(field, "message", "{name}");
            for message in values {
                assert!(said.contains(message.as_str()), "{name}: nobody says {message:?}");
            }
        }
    }
}

/// One of Kibana's pictures.
struct Panel {
    /// Fields, and the values of which a line has one.
    filters: Vec<(String, Vec<String>)>,
    /// What it shows of a line.
    fields: BTreeSet<String>,
}

/// The picture that an object is, if it is one.
fn panel(object: &Value) -> Option<Panel> {
    let attributes = &object["attributes"];
    let fields = match object["type"].as_str()? {
        "search" => items(attributes, "/columns").map(|column| column.as_str().unwrap().to_owned()).collect(),
        "visualization" => {
            let shown = json(attributes["visState"].as_str()?);
            items(&shown, "/aggs").filter_map(|agg| Some(agg.pointer("/params/field")?.as_str()?.to_owned())).collect()
        }
        _ => return None,
    };
    let source = json(attributes.pointer("/kibanaSavedObjectMeta/searchSourceJSON")?.as_str()?);
    Some(Panel { filters: items(&source, "/filter").map(|filter| terms(&filter["query"])).collect(), fields })
}

#[test]
fn every_panel_has_lines_with_its_fields() {
    let mut panels = 0;
    for object in read("infra/elk/dashboards.ndjson").lines().map(json) {
        let Some(Panel { filters, fields }) = panel(&object) else { continue };
        let title = &object["attributes"]["title"];
        let passes = |line: &&Value| {
            filters.iter().all(|(field, values)| values.iter().any(|value| line[field.as_str()] == value.as_str()))
        };
        let passed: Vec<&Value> = TOLD.lines.iter().filter(passes).collect();
        assert!(!passed.is_empty(), "{title}: no line");
        for field in fields {
            let name = field.trim_end_matches(".keyword");
            assert!(passed.iter().any(|line| line.get(name).is_some()), "{title}: no line has {name}");
        }
        panels += 1;
    }
    assert!(panels > 20, "only {panels} panels were found");
}

/// The labels that an expression compares or groups by.
fn labels_in(expression: &str) -> BTreeSet<String> {
    let words = |list: &str| {
        list.split(',')
            .map(|word| word.split(['=', '!', '~']).next().unwrap_or_default().trim().to_owned())
            .collect::<Vec<_>>()
    };
    let between = |open: &str, close: char| {
        let parts = expression.split(open).skip(1).filter_map(|rest| rest.split(close).next());
        parts.flat_map(words).collect::<Vec<_>>()
    };
    between("by (", ')').into_iter().chain(between("{", '}')).collect()
}

#[test]
fn every_rule_on_metrics_asks_for_what_is_told_and_is_tried() {
    let known = |series: &str, labels: &BTreeSet<String>, of_histograms: &[&str], whose: &str| {
        let metric = metric_of(series);
        let theirs = TOLD.labels.get(metric).unwrap_or_else(|| panic!("{whose}: nobody tells {series}"));
        let is_known = |label: &String| theirs.contains(label) || of_histograms.contains(&label.as_str());
        for label in labels {
            assert!(is_known(label), "{whose}: {series} has no label {label}");
        }
    };
    let rules = rules_on_metrics();
    for (name, expression) in &rules {
        assert!(metrics_in(expression).next().is_some(), "{name} asks for nothing");
        for series in metrics_in(expression) {
            known(series, &labels_in(expression), &["le"], name);
        }
    }
    // The series that each of them is tried with: tests/alerts/run.
    let tried = yaml("tests/alerts/rules.yaml");
    let (mut raised, mut kept) = (BTreeSet::new(), BTreeSet::new());
    for test in items(&tried, "/tests") {
        for series in items(test, "/input_series").map(|input| input["series"].as_str().expect("a series")) {
            let name = series.split('{').next().unwrap_or_default();
            // Prometheus adds the instance where it collects.
            known(name, &labels_in(series), &["le", "instance"], "tests/alerts/rules.yaml");
        }
        for asked in items(test, "/alert_rule_test") {
            let is_raised = items(asked, "/exp_alerts").next().is_some();
            let name = asked["alertname"].as_str().expect("a name").to_owned();
            if is_raised {
                raised.insert(name)
            } else {
                kept.insert(name)
            };
        }
    }
    let names: BTreeSet<String> = rules.into_keys().collect();
    assert_eq!((&raised, &kept), (&names, &names), "each is raised by one series, and not by another");
}

#[test]
fn every_rule_has_its_first_steps_and_every_step_its_rule() {
    let page = read("docs/operations.md");
    let table = page.split("| alert |").nth(1).expect("the page has its table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut documented = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [names, steps @ ..] = &cells[..] else { panic!("{row}") };
        assert!(steps.len() == 3 && steps.iter().all(|step| !step.is_empty()), "three steps: {row}");
        for name in names.split(", ") {
            assert!(documented.insert(name.to_owned()), "{name} is there twice");
        }
    }
    let rules: BTreeSet<String> = rules_on_metrics().into_keys().chain(rules_on_lines().into_keys()).collect();
    assert_eq!(documented, rules);
}
