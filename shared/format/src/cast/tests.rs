use proptest::prelude::*;

use super::*;

fn cast_text(value: Value<'_>, to: Kind) -> String {
    cast(value, to).map_or_else(|error| error.to_string(), |value| format!("{value:?}"))
}

#[test]
fn conversions_are_exact() {
    let string = |text: &'static str| Value::String(text.into());
    let decimal = |text: &'static str| Value::Decimal(text.into());
    let timestamp = |text: &'static str| Value::Timestamp(text.into());
    for (value, to, expected) in [
        (string("42"), Kind::I64, Value::I64(42)),
        (string("9007199254740993"), Kind::Decimal, decimal("9007199254740993")),
        (Value::I64(-7), Kind::String, string("-7")),
        (decimal("12.00"), Kind::I64, Value::I64(12)),
        (Value::F64(0.1), Kind::Decimal, decimal("0.1")),
        (Value::F64(3.0), Kind::Decimal, decimal("3")),
        (Value::F64(3.0), Kind::I64, Value::I64(3)),
        (Value::I64(i64::MAX), Kind::U64, Value::U64(i64::MAX as u64)),
        (string("1e2"), Kind::F64, Value::F64(100.0)),
        (string("NaN"), Kind::Decimal, decimal("NaN")),
        (Value::F64(f64::INFINITY), Kind::Decimal, decimal("Infinity")),
        (decimal("-Infinity"), Kind::F64, Value::F64(f64::NEG_INFINITY)),
        (Value::I64(1), Kind::Bool, Value::Bool(true)),
        (string("f"), Kind::Bool, Value::Bool(false)),
        (Value::Bool(true), Kind::I64, Value::I64(1)),
        (Value::Bool(true), Kind::String, string("true")),
        (string("2024-02-29 14:05:00.50+01"), Kind::TimestampTz, timestamp("2024-02-29T13:05:00.5Z")),
        (string("2024-02-29 14:05"), Kind::Timestamp, timestamp("2024-02-29T14:05:00")),
        (timestamp("2024-02-29T13:05:00Z"), Kind::Timestamp, timestamp("2024-02-29T13:05:00")),
        (timestamp("2024-02-29T13:05:00"), Kind::TimestampTz, timestamp("2024-02-29T13:05:00Z")),
        (timestamp("infinity"), Kind::TimestampTz, timestamp("infinity")),
        (timestamp("2024-02-29T00:00:00"), Kind::Date, Value::Date("2024-02-29".into())),
        (string("2024-02-29"), Kind::Date, Value::Date("2024-02-29".into())),
        (string("08:30"), Kind::Time, Value::Time("08:30:00".into())),
        (string("[1]"), Kind::Json, Value::Json("[1]".into())),
        (Value::I64(1), Kind::Json, Value::Json("1".into())),
        (Value::Json("1.50".into()), Kind::Decimal, decimal("1.50")),
        (Value::Json("null".into()), Kind::I64, Value::Null),
        (Value::Json("[1, 2]".into()), Kind::String, string("[1, 2]")),
        (Value::Bytes(vec![0xff].into()), Kind::String, string("\\xff")),
        (Value::Bytes(b"abc".to_vec().into()), Kind::String, string("abc")),
        (string("abc"), Kind::Bytes, Value::Bytes(b"abc".to_vec().into())),
        (Value::Bytes(vec![0x11; 16].into()), Kind::Uuid, Value::Uuid([0x11; 16])),
        (Value::Null, Kind::I64, Value::Null),
        (Value::Absent, Kind::Json, Value::Absent),
    ] {
        assert_eq!(cast(value.clone(), to), Ok(expected), "{value:?} to {to}");
    }
}

#[test]
fn what_cannot_be_cast_is_shown_with_both_kinds() {
    let decimal = cast_text(Value::String("abc".into()), Kind::Decimal);
    assert_eq!(decimal, r#"cannot cast "abc" (string) to decimal"#);
    assert_eq!(cast_text(Value::Decimal("1.5".into()), Kind::I64), "cannot cast 1.5 (decimal) to i64");
    assert_eq!(cast_text(Value::I64(-1), Kind::U64), "cannot cast -1 (i64) to u64");
    assert_eq!(cast_text(Value::I64(2), Kind::Bool), "cannot cast 2 (i64) to bool");
    assert_eq!(cast_text(Value::String("1e999".into()), Kind::F64), r#"cannot cast "1e999" (string) to f64"#);
    assert_eq!(cast_text(Value::Json("[1]".into()), Kind::I64), "cannot cast [1] (json) to i64");
    assert_eq!(cast_text(Value::I64(1_700_000_000), Kind::Timestamp), "cannot cast 1700000000 (i64) to timestamp");
    let long = cast_text(Value::String("é".repeat(100).into()), Kind::I64);
    assert_eq!(long, format!("cannot cast \"{}… (string) to i64", "é".repeat(59)));
}

fn kind() -> impl Strategy<Value = Kind> {
    proptest::sample::select(&Kind::ALL[..])
}

proptest! {
    #[test]
    fn a_text_casts_to_its_kind_or_not_at_all(text in "\\PC*|[0-9.eE+-]{0,9}|20[0-9-]{0,10}[T ]?[0-9:]{0,8}", kind in kind()) {
        if let Ok(value) = cast(Value::String(text.into()), kind) {
            let is_declared = kind == Kind::Any || value.kind() == Some(kind);
            prop_assert!(is_declared || matches!(&value, Value::Timestamp(text) if text.ends_with("infinity")));
        }
    }

    #[test]
    fn casts_never_panic(value in prop_oneof![
        any::<i64>().prop_map(Value::I64),
        any::<u64>().prop_map(Value::U64),
        proptest::num::f64::ANY.prop_map(Value::F64),
        "\\PC*".prop_map(|text| Value::Decimal(text.into())),
        "\\PC*".prop_map(|text| Value::Timestamp(text.into())),
        "\\PC*".prop_map(|text| Value::Json(text.into())),
        any::<Vec<u8>>().prop_map(|bytes| Value::Bytes(bytes.into())),
    ], kind in kind()) {
        let _ = cast(value, kind);
    }

    #[test]
    fn numbers_survive_a_text(value: i64) {
        let text = cast(Value::I64(value), Kind::String).expect("a text");
        prop_assert_eq!(cast(text, Kind::I64), Ok(Value::I64(value)));
    }

    #[test]
    fn floats_survive_a_decimal(value in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL) {
        let decimal = cast(Value::F64(value), Kind::Decimal).expect("a decimal");
        prop_assert_eq!(cast(decimal, Kind::F64), Ok(Value::F64(value)));
    }

    #[test]
    fn bytes_survive_a_text(bytes: Vec<u8>) {
        let text = cast(Value::Bytes(bytes.clone().into()), Kind::String).expect("a text");
        prop_assert_eq!(cast(text, Kind::Bytes), Ok(Value::Bytes(bytes.into())));
    }
}
