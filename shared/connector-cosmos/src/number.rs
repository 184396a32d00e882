//! Numbers: Cosmos holds binary floats of 64 bits, and nothing else.

use fides_core::Value;
use fides_format::text::{Decimal, f64_text};

/// Whole numbers up to here are floats, each of them.
const WHOLE_MAX: u64 = 1 << 53;

/// Whether a whole number is written as a JSON number; a larger one is written as text, which loses nothing.
pub(crate) fn is_whole(number: i128) -> bool {
    number.unsigned_abs() <= u128::from(WHOLE_MAX)
}

/// Whether a JSON number comes back as the same number: the nearest float is written with the same digits.
pub(crate) fn is_held(text: &str) -> bool {
    // Fifteen digits are always kept, and most numbers have fewer.
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if digits <= 15 && !text.contains(['e', 'E']) {
        return true;
    }
    let Ok(nearest) = text.parse::<f64>() else { return false };
    let written = f64_text(nearest);
    nearest.is_finite() && Decimal::parse(text).is_some_and(|number| Decimal::parse(&written) == Some(number))
}

/// A number in `value`, however deep, that Cosmos would round.
pub(crate) fn rounded(value: &Value<'_>) -> Option<String> {
    match value {
        Value::I64(number) => (!is_held(&number.to_string())).then(|| number.to_string()),
        Value::U64(number) => (!is_held(&number.to_string())).then(|| number.to_string()),
        Value::Decimal(text) => (!is_held(text)).then(|| text.to_string()),
        Value::F64(number) => (!number.is_finite()).then(|| f64_text(*number).into_owned()),
        Value::Array(items) => items.iter().find_map(rounded),
        Value::Object(fields) => fields.iter().find_map(|(_, value)| rounded(value)),
        _ => None,
    }
}

/// A value as the store holds it: every number that is not whole is a float, however it was written. A scan and the change
/// feed write numbers in ways of their own, and one state has one fingerprint.
pub(crate) fn normal(value: Value<'_>) -> Value<'_> {
    match value {
        Value::Decimal(text) => text.parse().map_or(Value::Decimal(text), Value::F64),
        Value::Array(items) => Value::Array(items.into_iter().map(normal).collect()),
        Value::Object(fields) => Value::Object(fields.into_iter().map(|(name, value)| (name, normal(value))).collect()),
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_float_holds_is_held() {
        for held in ["0", "-1", "12.50", "9007199254740992", "0.1", "1e300", "1.7976931348623157e308"] {
            assert!(is_held(held), "{held}");
        }
        for rounded in [
            "9007199254740993",
            // A float, but written as 18446744073709552000: floats are written with the digits that tell them apart.
            "18446744073709551616",
            "0.1000000000000000055511151231257827",
            "12345678901234567890.10",
            "1e999",
            "-9223372036854775807",
        ] {
            assert!(!is_held(rounded), "{rounded}");
        }
    }

    #[test]
    fn a_number_is_found_however_deep() {
        let value = fides_format::parse_json(r#"{"a":[1,{"b":9007199254740993}]}"#).unwrap();
        assert_eq!(rounded(&value).as_deref(), Some("9007199254740993"));
    }
}
