use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Command, json_schema};

fn validator() -> jsonschema::Validator {
    jsonschema::validator_for(&json_schema()).expect("it is a schema")
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
        let schema = validator();
        match Command::parse(document.to_string().as_bytes()) {
            Ok(command) => {
                prop_assert!(schema.is_valid(&document), "{document} is read, and does not fit");
                let written: Value = serde_json::from_slice(&command.to_bytes()).unwrap();
                prop_assert!(schema.is_valid(&written), "{written} is written, and does not fit");
            }
            // How fields go together is told by the reader alone.
            Err(refused) => {
                let reason = refused.reason.unwrap();
                prop_assert!(
                    !schema.is_valid(&document) || ["with `", "beside `"].iter().any(|together| reason.contains(together)),
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
    let schema = validator();
    let page = include_str!("../../../../docs/admin.md");
    let examples: Vec<&str> =
        page.lines().filter(|line| line.starts_with("{\"id\"") && line.contains("\"command\"")).collect();
    assert!(examples.len() >= 8, "{examples:?}");
    for example in examples {
        Command::parse(example.as_bytes()).unwrap_or_else(|refused| panic!("{example}: {refused:?}"));
        assert!(schema.is_valid(&serde_json::from_str(example).unwrap()), "{example}");
    }
}
