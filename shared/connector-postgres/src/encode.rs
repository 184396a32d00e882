//! Values as text that a column of the target reads.

use std::borrow::Cow;

use fides_core::Value;
use fides_format::text::{bytes_text, f64_text, uuid_text};
use fides_format::{parse_json, to_json};

use crate::kind::PgType;
use crate::{array, copy_text};

/// Appends a value as a field of COPY; why not, when no text of Postgres can hold it.
pub(crate) fn put_field(value: &Value<'_>, ty: &PgType, out: &mut Vec<u8>) -> Result<(), String> {
    if value.is_null() {
        out.extend_from_slice(b"\\N");
        return Ok(());
    }
    let text = text(value, ty)?;
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return Err("PostgreSQL's text cannot hold the character U+0000".to_owned());
    }
    copy_text::put(&text, out);
    Ok(())
}

/// The text of a value that is not null.
fn text<'v>(value: &'v Value<'_>, ty: &PgType) -> Result<Cow<'v, str>, String> {
    if *ty == PgType::Json {
        return Ok(match value {
            Value::Json(text) => Cow::Borrowed(&**text),
            other => to_json(other).into(),
        });
    }
    Ok(match value {
        Value::Null | Value::Absent => Cow::Borrowed(""),
        Value::Bool(true) => "true".into(),
        Value::Bool(false) => "false".into(),
        Value::I64(value) => value.to_string().into(),
        Value::U64(value) => value.to_string().into(),
        Value::F64(value) => f64_text(*value),
        Value::Decimal(text) | Value::String(text) | Value::Time(text) => Cow::Borrowed(&**text),
        Value::Date(text) | Value::Timestamp(text) => calendar(text),
        Value::Bytes(bytes) => bytes_text(bytes).into(),
        Value::Uuid(uuid) => uuid_text(uuid).into(),
        Value::Array(items) => match ty {
            PgType::Array(element) => array_text(items, element)?.into(),
            _ => to_json(value).into(),
        },
        Value::Json(json) => match ty {
            PgType::Array(element) => match parse_json(json) {
                Ok(Value::Array(items)) => array_text(&items, element)?.into(),
                _ => Cow::Borrowed(&**json),
            },
            _ => Cow::Borrowed(&**json),
        },
        Value::Object(_) => to_json(value).into(),
    })
}

fn array_text(items: &[Value<'_>], element: &PgType) -> Result<String, String> {
    let mut out = String::new();
    array::write(items, &mut out, &|item, out| {
        out.push_str(&text(item, element)?);
        Ok(())
    })?;
    Ok(out)
}

/// Postgres knows no negative years: `-0043-03-15` is `0044-03-15 BC`.
fn calendar(text: &str) -> Cow<'_, str> {
    let before_christ = || {
        let (year, rest) = text.strip_prefix('-')?.split_once('-')?;
        let year: u32 = year.parse().ok()?;
        Some(format!("{:04}-{rest} BC", year + 1))
    };
    // The year before 1 is 0.
    let year_zero = || text.strip_prefix("0000-").map(|rest| format!("0001-{rest} BC"));
    before_christ().or_else(year_zero).map_or(Cow::Borrowed(text), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(value: &Value<'_>, ty: &PgType) -> String {
        let mut out = Vec::new();
        put_field(value, ty, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_kind_has_its_text() {
        assert_eq!(field(&Value::Absent, &PgType::Text), "\\N");
        assert_eq!(field(&Value::String("\\N".into()), &PgType::Text), "\\\\N");
        assert_eq!(field(&Value::String("a\tb\n".into()), &PgType::Text), "a\\tb\\n");
        assert_eq!(field(&Value::String("a".into()), &PgType::Json), "\"a\"");
        assert_eq!(field(&Value::Bytes(vec![0, 255].into()), &PgType::Bytea), "\\\\x00ff");
        assert_eq!(field(&Value::Date("-0043-03-15".into()), &PgType::Date), "0044-03-15 BC");
        assert_eq!(field(&Value::Date("0000-03-15".into()), &PgType::Date), "0001-03-15 BC");
        assert_eq!(field(&Value::Timestamp("-infinity".into()), &PgType::Timestamp), "-infinity");
        let numbers = PgType::Array(Box::new(PgType::Int));
        assert_eq!(field(&Value::Array(vec![Value::I64(1), Value::Null]), &numbers), "{\"1\",NULL}");
        assert_eq!(field(&Value::Json("[1,null]".into()), &numbers), "{\"1\",NULL}");
        assert_eq!(field(&Value::Array(vec![Value::I64(1), Value::Null]), &PgType::Json), "[1,null]");
    }

    #[test]
    fn nul_is_refused_before_it_is_sent() {
        let why = put_field(&Value::String("a\0b".into()), &PgType::Text, &mut Vec::new()).unwrap_err();
        assert!(why.contains("U+0000"), "{why}");
    }
}
