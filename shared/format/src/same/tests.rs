use proptest::prelude::*;

use super::*;

fn decimal(text: &str) -> Value<'_> {
    Value::Decimal(text.into())
}

fn string(text: &str) -> Value<'_> {
    Value::String(text.into())
}

fn json(text: &str) -> Value<'_> {
    Value::Json(text.into())
}

fn timestamp(text: &str) -> Value<'_> {
    Value::Timestamp(text.into())
}

#[test]
fn what_a_store_writes_differently_is_the_same() {
    for (host, target) in [
        (Value::Null, Value::Absent),
        (decimal("1.0"), decimal("1.00")),
        (Value::I64(1), decimal("1.000")),
        (decimal("1.0"), Value::I64(1)),
        (Value::U64(u64::MAX), decimal("18446744073709551615")),
        (Value::F64(0.1), decimal("0.1")),
        (decimal("0.10"), Value::F64(0.1)),
        (decimal("0.1000000000000000055511151231257827"), Value::F64(0.1)),
        (Value::F64(-0.0), Value::F64(0.0)),
        (Value::F64(f64::NAN), Value::F64(f64::NAN)),
        (Value::F64(f64::NAN), decimal("NaN")),
        (decimal("-Infinity"), Value::F64(f64::NEG_INFINITY)),
        (Value::Bool(true), Value::I64(1)),
        (Value::I64(0), Value::Bool(false)),
        (Value::Bool(true), string("t")),
        (decimal("1.50"), string("1.5")),
        (string("1.5"), decimal("1.50")),
        (string("2024-02-29 13:05:00+00"), timestamp("2024-02-29T13:05:00Z")),
        (timestamp("2024-02-29T13:05:00.2500Z"), string("2024-02-29 14:05:00.25+01:00")),
        (timestamp("2024-02-29T13:05:00Z"), timestamp("2024-02-29T13:05:00")),
        (timestamp("infinity"), timestamp("infinity")),
        (Value::Date("2024-02-29".into()), timestamp("2024-02-29T00:00:00")),
        (Value::Time("13:05:00.500".into()), Value::Time("13:05:00.5".into())),
        (Value::Bytes(vec![0, 255].into()), string("\\x00ff")),
        (string("\\x00FF"), Value::Bytes(vec![0, 255].into())),
        (Value::Uuid([0x11; 16]), string("11111111-1111-1111-1111-111111111111")),
        (string("{11111111-1111-1111-1111-111111111111}"), Value::Uuid([0x11; 16])),
        (json(r#"{"a":1.0,"b":[1,null]}"#), json(r#"{ "b" : [1e0, null], "a" : 1 }"#)),
        (json(r#"{"a":1,"a":2}"#), json(r#"{"a":2}"#)),
        (json(r#"{"a":"\u00e9"}"#), string(r#"{"a": "é"}"#)),
        (
            Value::Object(vec![
                ("at".into(), timestamp("2024-02-29T13:05:00Z")),
                ("id".into(), Value::Uuid([0x11; 16])),
                ("gone".into(), Value::Absent),
                ("f".into(), Value::F64(1.5)),
            ]),
            json(r#"{"f":1.50,"id":"11111111-1111-1111-1111-111111111111","at":"2024-02-29T13:05:00+00:00"}"#),
        ),
    ] {
        assert!(same(&host, &target), "{host:?} and {target:?}");
    }
}

#[test]
fn what_differs_is_told() {
    for (host, target) in [
        (Value::Null, string("")),
        (Value::Null, Value::I64(0)),
        (string(""), Value::Absent),
        (Value::I64(9_007_199_254_740_993), decimal("9007199254740992")),
        (Value::F64(9_007_199_254_740_992.0), Value::I64(9_007_199_254_740_993)),
        (Value::F64(0.1), Value::F64(0.100_000_000_000_000_02)),
        (decimal("0.1"), Value::I64(0)),
        (Value::F64(f64::NAN), Value::F64(0.0)),
        (Value::I64(2), Value::Bool(true)),
        (string("abc"), string("abd")),
        (string("1.0"), string("1.00")),
        (string("Abc"), string("abc")),
        (timestamp("2024-02-29T13:05:00Z"), string("2024-02-29 13:05:00+01:00")),
        (timestamp("2024-02-29T13:05:01Z"), Value::Date("2024-02-29".into())),
        (timestamp("infinity"), timestamp("-infinity")),
        (json("[1,2]"), json("[2,1]")),
        (json(r#"{"a":null}"#), json("{}")),
        (json(r#"{"a":"1"}"#), json(r#"{"a":1}"#)),
        (json(r#"{"a":true}"#), json(r#"{"a":1}"#)),
        (json("9007199254740993"), json("9007199254740992")),
        (json("[1]"), Value::I64(1)),
        (Value::Bytes(vec![0].into()), string("\\x01")),
    ] {
        assert!(!same(&host, &target), "{host:?} and {target:?}");
    }
}

fn scalar() -> impl Strategy<Value = Value<'static>> {
    prop_oneof![
        Just(Value::Null),
        Just(Value::Absent),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::I64),
        (-3i64..3).prop_map(Value::I64),
        any::<u64>().prop_map(Value::U64),
        proptest::num::f64::ANY.prop_map(Value::F64),
        (-3i8..3).prop_map(|value| Value::F64(f64::from(value))),
        "-?[0-9]{1,30}(\\.[0-9]{1,20})?".prop_map(|text| Value::Decimal(text.into())),
        Just(Value::Decimal("NaN".into())),
        "(\\PC|[01tf]|true|2024-02-29| )*".prop_map(|text| Value::String(text.into())),
        any::<Vec<u8>>().prop_map(|bytes| Value::Bytes(bytes.into())),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        "20[0-9]{2}-0[1-9]-[12][0-9]".prop_map(|text| Value::Date(text.into())),
        "[01][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?".prop_map(|text| Value::Time(text.into())),
        "20[0-9]{2}-0[1-9]-[12][0-9]T[01][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?Z?"
            .prop_map(|text| Value::Timestamp(text.into())),
        "\\[?[0-9]{0,3}\\]?|\\PC{0,4}".prop_map(|text| Value::Json(text.into())),
    ]
}

fn value() -> impl Strategy<Value = Value<'static>> {
    scalar().prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::vec(("[a-c]", inner), 0..4).prop_map(|fields| Value::Object(
                fields.into_iter().map(|(name, value)| (name.into(), value)).collect()
            )),
        ]
    })
}

fn holds_float(value: &Value<'_>) -> bool {
    match value {
        Value::F64(_) => true,
        Value::Array(items) => items.iter().any(holds_float),
        Value::Object(fields) => fields.iter().any(|(_, value)| holds_float(value)),
        _ => false,
    }
}

proptest! {
    #[test]
    fn every_value_is_the_same_as_itself(value in value()) {
        prop_assert!(same(&value, &value));
    }

    #[test]
    fn only_floats_and_texts_have_a_direction(host in value(), target in value()) {
        let is_text = |value: &Value<'_>| value.kind() == Some(Kind::String);
        if !holds_float(&host) && !holds_float(&target) && !is_text(&host) && !is_text(&target) {
            prop_assert_eq!(same(&host, &target), same(&target, &host));
        }
    }

    #[test]
    fn different_integers_are_never_the_same(host: i64, target: i64) {
        let decimal = Value::Decimal(format!("{target}.00").into());
        prop_assert_eq!(same(&Value::I64(host), &decimal), host == target);
        prop_assert_eq!(same(&decimal, &Value::I64(host)), host == target);
        prop_assert!(same(&Value::I64(host), &Value::String(host.to_string().into())));
    }

    #[test]
    fn a_value_is_the_same_as_its_json(value in value()) {
        let raw = crate::to_json(&value);
        if matches!(value, Value::Array(_) | Value::Object(_)) && parse_json(&raw).is_ok() && !repeats(&value) {
            prop_assert!(same(&value, &Value::Json(raw.as_str().into())), "{}", raw);
        }
    }
}

/// Whether an object has two fields of one name, which JSON cannot keep apart, or raw JSON, whose text may be none.
fn repeats(value: &Value<'_>) -> bool {
    match value {
        Value::Array(items) => items.iter().any(repeats),
        Value::Object(fields) => fields
            .iter()
            .enumerate()
            .any(|(at, (name, value))| repeats(value) || fields[..at].iter().any(|(other, _)| other == name)),
        Value::Json(_) => true,
        _ => false,
    }
}
