//! From SQLite's storage classes to values.
//!
//! SQLite is dynamically typed: the storage class of the value decides, the declared kind only interprets it. What does
//! not fit the declaration keeps its own kind; nothing is converted away.

use std::borrow::Cow;

use fides_core::{Fault, Kind, Value};
use fides_format::text::{
    canonical_date, canonical_decimal, canonical_time, canonical_timestamp, f64_text, parse_uuid,
};
use sqlx::sqlite::{Sqlite, SqliteRow, SqliteValueRef};
use sqlx::{Decode, Row, TypeInfo, ValueRef};

/// Column `at` of a row, read as `kind`.
pub(crate) fn value(row: &SqliteRow, at: usize, kind: Kind) -> Result<Value<'_>, Fault> {
    let unreadable = |error: &dyn std::fmt::Display| Fault::permanent(format!("column {} of a row: {error}", at + 1));
    let raw = row.try_get_raw(at).map_err(|error| unreadable(&error))?;
    stored(raw, kind).map_err(|error| unreadable(&error))
}

fn stored(raw: SqliteValueRef<'_>, kind: Kind) -> Result<Value<'_>, sqlx::error::BoxDynError> {
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let class = raw.type_info().into_owned();
    Ok(match class.name() {
        "INTEGER" => integer(<i64 as Decode<'_, Sqlite>>::decode(raw)?, kind),
        "REAL" => real(<f64 as Decode<'_, Sqlite>>::decode(raw)?, kind),
        "TEXT" => {
            let bytes = <&[u8] as Decode<'_, Sqlite>>::decode(raw)?;
            // SQLite accepts text that is not UTF-8; as bytes it survives.
            std::str::from_utf8(bytes).map_or(Value::Bytes(Cow::Borrowed(bytes)), |str| text(str, kind))
        }
        _ => Value::Bytes(Cow::Borrowed(<&[u8] as Decode<'_, Sqlite>>::decode(raw)?)),
    })
}

fn integer(number: i64, kind: Kind) -> Value<'static> {
    match (kind, number) {
        (Kind::Bool, 0) => Value::Bool(false),
        (Kind::Bool, 1) => Value::Bool(true),
        (Kind::U64, 0..) => Value::U64(number as u64),
        (Kind::Decimal, _) => Value::Decimal(number.to_string().into()),
        (Kind::Json, _) => Value::Json(number.to_string().into()),
        _ => Value::I64(number),
    }
}

fn real(number: f64, kind: Kind) -> Value<'static> {
    match kind {
        Kind::Decimal if number.is_finite() => Value::Decimal(f64_text(number)),
        Kind::Json if number.is_finite() => Value::Json(f64_text(number)),
        _ => Value::F64(number),
    }
}

fn text(text: &str, kind: Kind) -> Value<'_> {
    let read = match kind {
        Kind::Decimal => canonical_decimal(text).map(Value::Decimal),
        Kind::U64 => text.parse().ok().filter(|number: &u64| number.to_string() == text).map(Value::U64),
        Kind::Uuid => uuid(text).map(Value::Uuid),
        Kind::Date => canonical_date(text).map(Value::Date),
        Kind::Time => canonical_time(text).map(Value::Time),
        Kind::Timestamp | Kind::TimestampTz => canonical_timestamp(text).map(Value::Timestamp),
        Kind::Json => is_json(text).then_some(Value::Json(Cow::Borrowed(text))),
        _ => None,
    };
    read.unwrap_or(Value::String(Cow::Borrowed(text)))
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// Canonical form only (36 characters, lower case): another spelling is another text, and sorts elsewhere.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let canonical = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    parse_uuid(text).filter(|_| canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declared_kind_interprets_and_never_loses() {
        assert_eq!(integer(1, Kind::Bool), Value::Bool(true));
        assert_eq!(integer(2, Kind::Bool), Value::I64(2));
        assert_eq!(integer(-1, Kind::U64), Value::I64(-1));
        assert_eq!(integer(i64::MIN, Kind::Decimal), Value::Decimal("-9223372036854775808".into()));
        assert_eq!(real(0.1, Kind::Decimal), Value::Decimal("0.1".into()));
        assert_eq!(real(1e300, Kind::Decimal), Value::Decimal("1e300".into()));
        assert_eq!(real(f64::INFINITY, Kind::Decimal), Value::F64(f64::INFINITY));
        assert_eq!(real(2.0, Kind::I64), Value::F64(2.0));
        assert_eq!(text("18446744073709551615", Kind::U64), Value::U64(u64::MAX));
        assert_eq!(text("007", Kind::U64), Value::String("007".into()));
        assert_eq!(text("1.50", Kind::Decimal), Value::Decimal("1.50".into()));
        assert_eq!(text("1,50", Kind::Decimal), Value::String("1,50".into()));
        assert_eq!(text("{x", Kind::Json), Value::String("{x".into()));
        assert_eq!(text("2024-01-01 10:00", Kind::Timestamp), Value::Timestamp("2024-01-01T10:00:00".into()));
        assert_eq!(text("soon", Kind::Date), Value::String("soon".into()));
    }

    #[test]
    fn only_canonical_uuids_are_uuids() {
        let canonical = "0123abcd-0000-4000-8000-00000000ffff";
        let Some(bytes) = uuid(canonical) else { panic!("canonical") };
        assert_eq!(fides_format::text::uuid_text(&bytes), canonical);
        for other in
            [&canonical.to_uppercase(), &canonical.replace('-', ""), "", "0123abcd-0000-4000-8000-00000000fff-"]
        {
            assert_eq!(uuid(other), None, "{other}");
        }
    }
}
