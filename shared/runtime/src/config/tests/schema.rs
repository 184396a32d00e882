//! The JSON Schema of the file.

use serde_json::Value;

use super::super::{Limits, json_schema};
use super::EXAMPLE;

#[test]
fn the_documented_example_fits() {
    let schema = jsonschema::validator_for(&json_schema()).expect("it is a schema");
    let example: Value = serde_saphyr::from_str(EXAMPLE).unwrap();
    let refused: Vec<String> = schema.iter_errors(&example).map(|error| error.to_string()).collect();
    assert!(refused.is_empty(), "{refused:#?}");

    let mut wrong = example;
    wrong["pipelines"]["orders"]["mapping"]["price"]["cst"] = "decimal".into();
    assert!(!schema.is_valid(&wrong));
}

#[test]
fn every_key_is_described() {
    let schema = json_schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    for (name, section) in schema["$defs"].as_object().unwrap() {
        assert_eq!(section["additionalProperties"], false, "{name}");
        for (key, form) in section["properties"].as_object().unwrap() {
            assert!(form["description"].as_str().is_some_and(|about| !about.is_empty()), "{name}.{key}");
        }
    }
}

#[test]
fn the_keys_are_those_that_are_read() {
    let schema = json_schema();
    let listed = |path: &str, text: &str| {
        let message = super::refused(text);
        let keys = message.split("one of the keys ").nth(1).unwrap().lines().next().unwrap();
        let keys: Vec<_> = keys.split("; did").next().unwrap().split(", ").collect();
        let properties = schema.pointer(path).unwrap().as_object().unwrap();
        assert_eq!(keys, properties.keys().collect::<Vec<_>>());
    };
    listed("/$defs/configuration/properties", &format!("{}zzz: 1", super::pipeline("")));
    listed("/$defs/pipeline/properties", &super::pipeline("zzz: 1"));
    listed("/$defs/service/properties", &format!("service: {{ zzz: 1 }}\n{}", super::pipeline("")));
    listed("/$defs/intake/properties", &format!("intake: {{ zzz: 1 }}\n{}", super::pipeline("")));
    listed("/$defs/dashboard/properties", &format!("dashboard: {{ zzz: 1 }}\n{}", super::pipeline("")));
    listed("/$defs/webhook/properties", &super::pipeline("events: { webhook: { bearer: x, zzz: 1 } }"));
    let queue = "events: { amqp: { url: 'amqp://b', exchange: e, zzz: 1 } }";
    listed("/$defs/event_queue/properties", &super::pipeline(queue));
    listed("/$defs/limits/properties", &super::pipeline("limits: { zzz: 1 }"));
    listed(
        "/$defs/relation/properties",
        &super::pipeline("include: { c: { from: c, on: { a: b }, as: one, zzz: 1 } }"),
    );
    listed("/$defs/column/properties", &super::pipeline("mapping: { c: { from: c, zzz: 1 } }"));
}

#[test]
fn the_service_shows_its_defaults() {
    let schema = json_schema();
    let service = &schema["$defs"]["service"]["properties"];
    assert_eq!(
        (&service["listen"]["default"], &service["grace_seconds"]["default"]),
        (&"127.0.0.1:8080".into(), &30.into())
    );
}

#[test]
fn the_limits_are_all_there() {
    let schema = json_schema();
    let limits = schema["$defs"]["limits"]["properties"].as_object().unwrap();
    let debug = format!("{:?}", Limits::default());
    for name in limits.keys() {
        assert!(debug.contains(&format!("{name}: ")), "{name}");
    }
    assert_eq!(limits.len(), debug.matches(": ").count());
    assert_eq!(limits["lanes"]["description"], "Lanes of the pipeline: the unit of order and of parallel publishing.");
    assert_eq!((&limits["lanes"]["default"], &limits["delete_ratio_max"]["default"]), (&4.into(), &0.1.into()));
    assert_eq!(limits["rate_records_per_second"].get("default"), None);
}
