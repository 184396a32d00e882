use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Command, json_schema};

/// Whether a value fits a schema, by the words of JSON Schema that this one uses.
fn fits(root: &Value, schema: &Value, value: &Value) -> bool {
    let schema = match schema["$ref"].as_str() {
        Some(path) => root.pointer(path.trim_start_matches('#')).unwrap_or_else(|| panic!("{path} leads nowhere")),
        None => schema,
    };
    let has_type = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("{other}"),
    };
    let is_type = match &schema["type"] {
        Value::String(name) => has_type(name),
        Value::Array(names) => names.iter().any(|name| has_type(name.as_str().unwrap())),
        _ => true,
    };
    let count = |word: &str| schema[word].as_u64().and_then(|count| usize::try_from(count).ok());
    let within = |size: Option<usize>, least: &str, most: &str| {
        size.is_none_or(|size| {
            count(least).is_none_or(|least| least <= size) && count(most).is_none_or(|most| size <= most)
        })
    };
    let text = value.as_str();
    let number = value.as_u64();
    let forms =
        |word: &str| schema[word].as_array().map(|forms| forms.iter().filter(|form| fits(root, form, value)).count());
    is_type
        && forms("anyOf").is_none_or(|fitting| fitting > 0)
        && forms("oneOf").is_none_or(|fitting| fitting == 1)
        && schema["enum"].as_array().is_none_or(|words| words.contains(value))
        && schema.get("const").is_none_or(|only| only == value)
        && within(text.map(|text| text.chars().count()), "minLength", "maxLength")
        && within(value.as_array().map(Vec::len), "minItems", "maxItems")
        && within(value.as_object().map(serde_json::Map::len), "minProperties", "maxProperties")
        && (schema["pattern"].is_null() || text.is_none_or(|text| text.bytes().all(|byte| byte.is_ascii_graphic())))
        && schema["minimum"].as_u64().is_none_or(|least| number.is_some_and(|number| least <= number))
        && schema["maximum"].as_u64().is_none_or(|most| number.is_some_and(|number| number <= most))
        && schema["required"].as_array().into_iter().flatten().all(|key| value.get(key.as_str().unwrap()).is_some())
        && value
            .as_array()
            .into_iter()
            .flatten()
            .all(|item| schema.get("items").is_none_or(|form| fits(root, form, item)))
        && value.as_object().into_iter().flatten().all(|(key, value)| {
            let form = schema["properties"].get(key).or(schema.get("additionalProperties"));
            form.is_none_or(|form| *form != Value::Bool(false) && fits(root, form, value))
        })
}

const COMMANDS: [&str; 9] =
    ["reimport", "pause", "resume", "cleanup", "verify", "approve", "replay", "cancel", "explode"];

/// A document that is a command, or almost.
fn document() -> impl Strategy<Value = Value> {
    let name = prop_oneof![Just(json!("shop")), Just(json!("")), Just(json!(7))];
    let key = prop_oneof![
        Just(json!(7)),
        Just(json!("a/b")),
        Just(json!(["a", 1])),
        Just(json!([])),
        Just(json!(1.5)),
        Just(json!({}))
    ];
    let list = |of: BoxedStrategy<Value>| {
        prop_oneof![
            4 => prop::collection::vec(of, 0..3).prop_map(Value::Array),
            1 => Just(json!("x"))
        ]
    };
    let range =
        prop_oneof![Just(json!({"from": 1})), Just(json!({"to": "b"})), Just(json!({})), Just(json!({"of": 1}))];
    let field = prop_oneof![
        list(name.clone().boxed()).prop_map(|value| ("pipelines", value)),
        name.clone().prop_map(|value| ("pipeline", value)),
        name.prop_map(|value| ("run", value)),
        list(key.boxed()).prop_map(|value| ("keys", value)),
        list(range.boxed()).prop_map(|value| ("ranges", value)),
        prop_oneof![Just(json!("full")), Just(json!("delta")), Just(json!("all"))].prop_map(|value| ("mode", value)),
        prop_oneof![Just(json!(0)), Just(json!(5)), Just(json!(-1)), Just(json!("5"))]
            .prop_map(|value| ("deletions_max", value)),
        prop_oneof![Just(json!(0)), Just(json!(86_400)), Just(json!(86_401))]
            .prop_map(|value| ("expires_seconds", value)),
        prop_oneof![Just(json!(true)), Just(json!(1))].prop_map(|value| ("repair", value)),
        Just(("requester", json!(""))),
        Just(("unknown", json!(1))),
    ];
    let id = prop_oneof![8 => Just(json!("c-1")), 1 => Just(json!("")), 1 => Just(json!("a b"))];
    (id, prop::sample::select(&COMMANDS[..]), prop::collection::vec(field, 0..4)).prop_map(|(id, command, fields)| {
        let mut document = json!({"id": id, "requester": "eve", "command": command});
        for (name, value) in fields {
            document[name] = value;
        }
        document
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn the_schema_and_the_reader_agree(document in document()) {
        let schema = json_schema();
        match Command::parse(document.to_string().as_bytes()) {
            Ok(command) => {
                prop_assert!(fits(&schema, &schema, &document), "{document} is read, and does not fit");
                let written: Value = serde_json::from_slice(&command.to_bytes()).unwrap();
                prop_assert!(fits(&schema, &schema, &written), "{written} is written, and does not fit");
            }
            // How fields go together is told by the reader alone.
            Err(refused) => {
                let reason = refused.reason.unwrap();
                prop_assert!(
                    !fits(&schema, &schema, &document) || reason.contains("with `"),
                    "{document} fits, and is refused: {reason}"
                );
            }
        }
    }
}

#[test]
fn the_documented_schema_is_this_one() {
    let documented: Value = serde_json::from_str(include_str!("../../../../docs/admin.schema.json")).unwrap();
    assert_eq!(documented, json_schema(), "write it anew: fides commands schema > docs/admin.schema.json");
}

#[test]
fn every_example_of_the_documentation_is_a_command() {
    let schema = json_schema();
    let page = include_str!("../../../../docs/admin.md");
    let examples: Vec<&str> =
        page.lines().filter(|line| line.starts_with("{\"id\"") && line.contains("\"command\"")).collect();
    assert!(examples.len() >= 8, "{examples:?}");
    for example in examples {
        Command::parse(example.as_bytes()).unwrap_or_else(|refused| panic!("{example}: {refused:?}"));
        assert!(fits(&schema, &schema, &serde_json::from_str(example).unwrap()), "{example}");
    }
}
