use fides_core::Value;

use crate::text::{bytes_text, f64_text, is_json_number, uuid_text};

/// The value as JSON text; see [`write_json`].
pub fn to_json(value: &Value<'_>) -> String {
    let mut out = String::new();
    write_json(value, &mut out);
    out
}

/// Appends the value as JSON. Numbers keep every digit; NaN and the infinities, which JSON has no number for, become
/// strings; bytes become `"\\x00ff"` as in Postgres; UUIDs and times become strings. Raw JSON is embedded as it is, so
/// it must be JSON. An absent field is left out of its object; elsewhere absent is `null`.
pub fn write_json(value: &Value<'_>, out: &mut String) {
    use std::fmt::Write as _;
    match value {
        Value::Null | Value::Absent => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::I64(value) => write!(out, "{value}").unwrap_or_default(), // a String takes everything
        Value::U64(value) => write!(out, "{value}").unwrap_or_default(),
        Value::F64(value) => write_number(&f64_text(*value), out),
        Value::Decimal(text) => write_number(text, out),
        Value::String(text) | Value::Date(text) | Value::Time(text) | Value::Timestamp(text) => write_string(text, out),
        Value::Bytes(bytes) => write_string(&bytes_text(bytes), out),
        Value::Uuid(uuid) => write_string(&uuid_text(uuid), out),
        Value::Json(text) => out.push_str(text),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_json(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => write_object(fields.iter().map(|(name, value)| (&**name, value)), out),
    }
}

/// Appends an object of the fields that are not absent.
pub(super) fn write_object<'v>(fields: impl Iterator<Item = (&'v str, &'v Value<'v>)>, out: &mut String) {
    out.push('{');
    for (at, (name, value)) in fields.filter(|(_, value)| !matches!(value, Value::Absent)).enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_string(name, out);
        out.push(':');
        write_json(value, out);
    }
    out.push('}');
}

fn write_number(text: &str, out: &mut String) {
    if is_json_number(text) {
        out.push_str(text);
    } else {
        write_string(text, out);
    }
}

fn write_string(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push('"');
    let mut start = 0;
    for (at, byte) in text.bytes().enumerate().filter(|&(_, byte)| byte < 0x20 || matches!(byte, b'"' | b'\\')) {
        out.push_str(&text[start..at]);
        start = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => {
                out.push_str("\\u00");
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    out.push_str(&text[start..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact() {
        assert_eq!(to_json(&Value::I64(i64::MIN)), "-9223372036854775808");
        assert_eq!(to_json(&Value::U64(u64::MAX)), "18446744073709551615");
        let forty = "1234567890123456789012345678901234567890.50";
        assert_eq!(to_json(&Value::Decimal(forty.into())), forty);
        assert_eq!(to_json(&Value::F64(0.1)), "0.1");
        assert_eq!(to_json(&Value::F64(1e300)), "1e300");
        assert_eq!(to_json(&Value::F64(-0.0)), "-0.0");
    }

    #[test]
    fn what_is_no_json_number_is_a_string() {
        assert_eq!(to_json(&Value::Decimal("NaN".into())), r#""NaN""#);
        assert_eq!(to_json(&Value::Decimal("+1".into())), r#""+1""#);
        assert_eq!(to_json(&Value::F64(f64::NAN)), r#""NaN""#);
        assert_eq!(to_json(&Value::F64(f64::INFINITY)), r#""Infinity""#);
        assert_eq!(to_json(&Value::F64(f64::NEG_INFINITY)), r#""-Infinity""#);
    }

    #[test]
    fn other_kinds_are_strings_raw_json_is_embedded_and_absent_is_left_out() {
        let value = Value::Object(vec![
            ("bytes".into(), Value::Bytes(vec![0, 255].into())),
            ("gone".into(), Value::Absent),
            ("at".into(), Value::Timestamp("2024-02-29T13:05:00Z".into())),
            ("raw".into(), Value::Json("{ \"a\" : 1.0 }".into())),
            ("list".into(), Value::Array(vec![Value::Null, Value::Bool(true), Value::Absent])),
        ]);
        let expected = r#"{"bytes":"\\x00ff","at":"2024-02-29T13:05:00Z","raw":{ "a" : 1.0 },"list":[null,true,null]}"#;
        assert_eq!(to_json(&value), expected);
        assert_eq!(to_json(&Value::Absent), "null");
    }
}
