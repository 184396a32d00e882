use proptest::prelude::*;
use serde_json::json;

use super::bounds::*;
use super::*;

fn read(document: &Value) -> Result<Command, Answer> {
    Command::parse(document.to_string().as_bytes())
}

fn with(fields: &Value) -> Value {
    let mut document = json!({"id": "c-1", "requester": "eve"});
    for (name, value) in fields.as_object().unwrap() {
        document[name] = value.clone();
    }
    document
}

#[test]
fn every_command_is_read_and_written() {
    let pipelines = vec!["shop".to_owned(), "stock".to_owned()];
    let key = |text: &str| KeyText(text.into());
    let cases = [
        (
            json!({"command": "reimport"}),
            Action::Reimport { pipelines: vec![], mode: Extent::Delta, keys: vec![], ranges: vec![] },
        ),
        (
            json!({"command": "reimport", "pipelines": ["shop"], "keys": [7, "de/berlin", ["a/b", 7], ["x"], [true]]}),
            Action::Reimport {
                pipelines: vec!["shop".into()],
                mode: Extent::Full,
                keys: vec![key("7"), key("de/berlin"), key(r#"["a/b",7]"#), key("x"), key("true")],
                ranges: vec![],
            },
        ),
        (
            json!({"command": "reimport", "pipelines": ["shop"], "mode": "full", "ranges": [{"from": 1, "to": 9}, {"from": "20"}]}),
            Action::Reimport {
                pipelines: vec!["shop".into()],
                mode: Extent::Full,
                keys: vec![],
                ranges: vec![
                    KeySpan { from: Some(key("1")), to: Some(key("9")) },
                    KeySpan { from: Some(key("20")), to: None },
                ],
            },
        ),
        (
            json!({"command": "pause", "pipelines": ["shop", "stock", "shop"]}),
            Action::Pause { pipelines: pipelines.clone() },
        ),
        (json!({"command": "resume"}), Action::Resume { pipelines: vec![] }),
        (json!({"command": "cleanup"}), Action::Cleanup { pipelines: vec![] }),
        (json!({"command": "verify", "repair": true}), Action::Verify { pipelines: vec![], repair: true }),
        (
            json!({"command": "approve", "pipeline": "shop", "run": "cleanup-1", "deletions_max": 70}),
            Action::Approve {
                pipeline: "shop".into(),
                run: "cleanup-1".into(),
                deletions_max: 70,
                expires_seconds: EXPIRES_SECONDS_DEFAULT,
            },
        ),
        (json!({"command": "replay", "pipeline": "shop"}), Action::Replay { pipeline: "shop".into(), keys: vec![] }),
        (json!({"command": "cancel"}), Action::Cancel { pipelines: vec![] }),
    ];
    for (fields, action) in cases {
        let command = read(&with(&fields)).unwrap();
        assert_eq!(command, Command { id: "c-1".into(), requester: "eve".into(), action });
        assert_eq!(Command::parse(&command.to_bytes()).unwrap(), command, "what is sent can be read");
        assert_eq!(fields["command"], command.action.name());
    }
}

#[test]
fn a_refusal_names_the_place_what_was_found_and_what_was_expected() {
    let cases = [
        (json!({"command": "explode"}), "`command`: found \"explode\"; expected one of reimport, pause"),
        (json!({"command": 7}), "`command`: found 7; expected text"),
        (json!({"command": "pause", "pipeline": "shop"}), "`pipeline`: pause knows no such field"),
        (json!({"command": "pause", "pipelines": ["shop", null]}), "`pipelines[1]`: found null; expected text"),
        (json!({"command": "pause", "pipelines": "shop"}), "`pipelines`: found \"shop\"; expected a list"),
        (json!({"command": "reimport", "mode": "all"}), "`mode`: found \"all\"; expected \"delta\" or \"full\""),
        (json!({"command": "reimport", "keys": [1]}), "`pipelines`: found 0; with `keys` exactly one is expected"),
        (
            json!({"command": "reimport", "pipelines": ["a"], "mode": "delta", "ranges": [{"to": 4}]}),
            "`mode`: found \"delta\"; with `ranges`",
        ),
        (
            json!({"command": "reimport", "pipelines": ["a"], "keys": [1, {}]}),
            "`keys[1]`: found an object; expected a key",
        ),
        (json!({"command": "reimport", "pipelines": ["a"], "keys": [1.5]}), "`keys[0]`: found 1.5; expected a key"),
        (
            json!({"command": "reimport", "pipelines": ["a"], "ranges": [{"from": 1, "until": 4}]}),
            "`ranges[0].until`: a range knows no such field",
        ),
        (json!({"command": "reimport", "pipelines": ["a"], "ranges": [{}]}), "`ranges[0]`: a range without ends"),
        (json!({"command": "verify", "repair": "yes"}), "`repair`: found \"yes\"; expected true or false"),
        (json!({"command": "approve", "pipeline": "shop", "deletions_max": 1}), "`run` is missing"),
        (
            json!({"command": "approve", "pipeline": "shop", "run": "r", "deletions_max": -1}),
            "`deletions_max`: found -1; expected a whole number of at least 1",
        ),
        (
            json!({"command": "approve", "pipeline": "shop", "run": "r", "deletions_max": 1, "expires_seconds": 86_401}),
            "`expires_seconds`: found 86401; expected a whole number from 1 to 86400",
        ),
        (json!({"command": "pause", "requester": ""}), "`requester`: found \"\"; expected text"),
    ];
    for (fields, expected) in cases {
        let answer = read(&with(&fields)).unwrap_err();
        let reason = answer.reason.unwrap();
        assert!(reason.contains(expected), "{reason:?} lacks {expected:?}");
        assert_eq!((answer.id.as_str(), answer.status), ("c-1", Status::Refused), "it can be answered");
    }
}

#[test]
fn what_has_no_usable_id_is_refused_without_one() {
    for (bytes, expected) in [
        (&b"{"[..], "a command is a JSON object; this is none"),
        (b"[1, 2]", "a command is a JSON object; found a list of 2"),
        (b"{\"requester\": \"eve\"}", "`id` is missing"),
        (b"{\"id\": \"a b\"}", "`id`: found \"a b\"; expected visible ASCII"),
        (b"{\"id\": \"\"}", "`id`: found \"\"; expected text"),
    ] {
        let answer = Command::parse(bytes).unwrap_err();
        let reason = answer.reason.unwrap();
        assert!(reason.contains(expected) && answer.id.is_empty(), "{reason:?} lacks {expected:?}");
    }
}

#[test]
fn everything_is_bounded() {
    let over = |fields: Value| read(&with(&fields)).unwrap_err().reason.unwrap();
    assert!(over(json!({"id": "x".repeat(ID_CHARS_MAX + 1)})).contains("expected at most 128"));
    assert!(over(json!({"requester": "x".repeat(REQUESTER_BYTES_MAX + 1)})).contains("expected at most 256"));
    let names: Vec<String> = (0..=PIPELINES_MAX).map(|at| at.to_string()).collect();
    assert!(over(json!({"command": "pause", "pipelines": names})).contains("at most 1024 are taken"));
    let keys: Vec<usize> = (0..=KEYS_MAX).collect();
    assert!(over(json!({"command": "replay", "pipeline": "a", "keys": keys})).contains("at most 10000 are taken"));
    let key = "x".repeat(KEY_BYTES_MAX + 1);
    assert!(over(json!({"command": "replay", "pipeline": "a", "keys": [key]})).contains("`keys[0]`: found 4097 bytes"));
    let answer = Command::parse(&vec![b' '; COMMAND_BYTES_MAX + 1]).unwrap_err();
    assert!(answer.reason.unwrap().contains("at most 262144 bytes"));
    let deep = Command::parse("[".repeat(COMMAND_BYTES_MAX).as_bytes()).unwrap_err();
    assert_eq!(deep.status, Status::Refused, "nesting does not exhaust the stack");
}

/// JSON that is close to a command, so that chance reaches every branch.
fn nearly() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop::sample::select(&["pause", "reimport", "approve", "verify", "full", "delta", "shop"][..])
            .prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(prop::sample::select(&["from", "to", "x"][..]), inner, 0..3).prop_map(|map| {
                Value::Object(map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    });
    let names =
        &["id", "requester", "command", "pipelines", "pipeline", "keys", "ranges", "mode", "run", "deletions_max"];
    prop::collection::btree_map(prop::sample::select(&names[..]), value, 0..8)
        .prop_map(|map| Value::Object(map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Command::parse(&bytes);
    }

    #[test]
    fn what_is_accepted_is_stable_and_what_is_not_says_why(document in nearly()) {
        for document in [document.clone(), { let mut known = document; known["id"] = "c".into(); known["requester"] = "e".into(); known }] {
            match read(&document) {
                Ok(command) => prop_assert_eq!(Command::parse(&command.to_bytes()).unwrap(), command),
                Err(answer) => {
                    let reason = answer.reason.clone().unwrap_or_default();
                    prop_assert!(!reason.is_empty() && reason.len() < 500, "{:?}", reason);
                    let back: Answer = serde_json::from_slice(&answer.to_bytes()).unwrap();
                    prop_assert_eq!(back, answer);
                }
            }
        }
    }
}
