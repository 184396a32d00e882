//! What is an event and what is not, and that nothing at all panics.

#![allow(clippy::unwrap_used)] // a fault is the failure of a test

use fides_cloudevents::{Data, KeySource, Mode, Rule, batch, binary, mode, percent_decoded, structured};
use proptest::prelude::*;

const EVENT: &str = r#"{"specversion":"1.0","id":"1","source":"/shop","type":"order.changed","subject":"42","data":{"order":{"id":7,"tenant":"de"}}}"#;

fn rule(types: &[&str], key: &[&str]) -> Rule {
    Rule {
        types: types.iter().map(ToString::to_string).collect(),
        key: key.iter().map(|key| KeySource::parse(key).unwrap()).collect(),
    }
}

fn without(field: &str, instead: &str) -> String {
    let mut event: serde_json::Value = serde_json::from_str(EVENT).unwrap();
    event.as_object_mut().unwrap().remove(field);
    if !instead.is_empty() {
        event[field] = serde_json::from_str(instead).unwrap();
    }
    event.to_string()
}

#[test]
fn one_event_in_every_mode() {
    let one = structured(EVENT.as_bytes()).unwrap();
    assert_eq!((one.id.as_str(), one.subject.as_deref()), ("1", Some("42")));
    assert_eq!(batch(format!("[{EVENT},{EVENT}]").as_bytes(), 2).unwrap(), [one.clone(), one.clone()]);
    assert_eq!(batch(b"[]", 2).unwrap(), []);
    let headers =
        [("specversion", "1.0"), ("id", "1"), ("source", "/shop"), ("type", "order.changed"), ("subject", "42")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let data = br#"{"order":{"id":7,"tenant":"de"}}"#;
    assert_eq!(binary(headers.clone(), Some("application/json; charset=utf-8"), data).unwrap(), one);
    assert_eq!(binary(headers.clone(), None, b"").unwrap().data, Data::Absent);
    assert_eq!(binary(headers.clone(), Some("image/png"), b"\x89").unwrap().data, Data::Other("image/png".into()));
    assert_eq!(binary(headers.clone(), None, data).unwrap(), one);
    assert_eq!(binary(headers.clone(), None, b"{").unwrap().data, Data::Other(String::new()));
    let refused = binary(headers, Some("application/json"), b"{").unwrap_err().to_string();
    assert!(refused.contains("the data is no JSON"), "{refused}");
    let encoded = without("data", "").replace('}', r#","data_base64":"eyJpZCI6N30="}"#);
    assert_eq!(structured(encoded.as_bytes()).unwrap().data, Data::Json(serde_json::json!({ "id": 7 })));
}

#[test]
fn every_refusal_says_what_was_found_and_expected() {
    for (body, reason) in [
        ("{", "no JSON"),
        ("7", "found a number, expected an event"),
        (&without("specversion", ""), "no attribute `specversion`"),
        (&without("specversion", "\"0.3\""), "found specversion \"0.3\", expected \"1.0\""),
        (&without("id", ""), "no attribute `id`"),
        (&without("source", "\"\""), "`source` is empty"),
        (&without("type", "7"), "`type` is a number, expected text"),
        (&without("subject", "\"\""), "`subject` is empty"),
        (&without("ext", "[1]"), "`ext` is a list"),
        (&without("data_base64", "\"e30=\""), "both `data` and `data_base64`"),
    ] {
        let refused = structured(body.as_bytes()).unwrap_err().to_string();
        assert!(refused.contains(reason), "{reason}: {refused}");
    }
    let refused = batch(format!("[{EVENT},{}]", without("id", "")).as_bytes(), 9).unwrap_err().to_string();
    assert_eq!(refused, "event 1: no attribute `id`, expected text");
    let refused = batch(format!("[{EVENT},{EVENT}]").as_bytes(), 1).unwrap_err().to_string();
    assert!(refused.contains("at most 1"), "{refused}");
}

#[test]
fn the_content_type_names_the_mode() {
    for (given, expected) in [
        (Some("application/cloudevents+json; charset=UTF-8"), Mode::Structured),
        (Some("Application/CloudEvents-Batch+JSON"), Mode::Batch),
        (Some("application/json"), Mode::Binary),
        (None, Mode::Binary),
    ] {
        assert_eq!(mode(given).unwrap(), expected, "{given:?}");
    }
    assert!(mode(Some("application/cloudevents+avro")).unwrap_err().to_string().contains("+avro"));
}

#[test]
fn the_key_is_where_the_rule_says() {
    let event = structured(EVENT.as_bytes()).unwrap();
    let key = |types: &[&str], key: &[&str]| rule(types, key).key_of(&event);
    assert_eq!(key(&[], &["subject"]).unwrap().as_deref(), Some("42"));
    assert_eq!(key(&["order.*"], &["data.order.id"]).unwrap().as_deref(), Some("7"));
    assert_eq!(key(&[], &["data.order.tenant", "data.order.id"]).unwrap().as_deref(), Some(r#"["de","7"]"#));
    assert_eq!(key(&["invoice.*"], &["subject"]).unwrap(), None, "it does not concern the pipeline");
    for (wrong, reason) in [("data.order", "no text"), ("data.none", "no text")] {
        let refused = key(&[], &[wrong]).unwrap_err().to_string();
        assert!(refused.contains(reason) && refused.contains(wrong), "{refused}");
    }
    assert_eq!([KeySource::parse("id"), KeySource::parse("data."), KeySource::parse("data.a..b")], [None, None, None]);
}

#[test]
fn a_pattern_stands_for_types() {
    for (pattern, kind, expected) in [
        ("a.b", "a.b", true),
        ("a.b", "a.bc", false),
        ("a.*", "a.", true),
        ("*.changed", "order.changed", true),
        ("*.changed", "order.changed.v2", false),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-c", false),
        ("a*a", "a", false),
        ("*", "", true),
    ] {
        assert_eq!(rule(&[pattern], &["subject"]).concerns(kind), expected, "{pattern} {kind}");
    }
}

#[test]
fn header_values_are_percent_decoded() {
    assert_eq!(percent_decoded("a%20b%C3%BC").unwrap(), "a bü");
    assert_eq!(percent_decoded("100%").unwrap(), "100%");
    assert!(percent_decoded("%ff").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,40}") {
        let _ = (structured(&body), batch(&body, 3), mode(Some(&text)), percent_decoded(&text));
        let _ = binary([("id".to_owned(), text.clone()), (text.clone(), text.clone())], Some(&text), &body);
    }

    /// Bytes that are almost an event: one of its bytes is another.
    #[test]
    fn a_damaged_event_is_refused_or_read(at in 0..EVENT.len(), byte: u8) {
        let mut body = EVENT.as_bytes().to_vec();
        body[at] = byte;
        if let Ok(event) = structured(&body) {
            prop_assert!(!event.id.is_empty() && !event.source.is_empty() && !event.kind.is_empty());
            let _ = rule(&["*"], &["subject", "data.order.id"]).key_of(&event);
        }
    }

    #[test]
    fn matching_ends_and_a_star_matches_everything(pattern in "[ab*]{0,20}", kind in "[ab]{0,40}") {
        let _ = rule(&[&pattern], &["subject"]).concerns(&kind);
        prop_assert!(rule(&["*"], &["subject"]).concerns(&kind));
    }
}
