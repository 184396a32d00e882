//! Types of MySQL and MariaDB: what Fides reads them as, and how their text becomes values.

use std::borrow::Cow;

use fides_core::{Kind, Value};
use fides_format::text::{canonical_date, canonical_decimal, canonical_time, canonical_timestamp, parse_uuid};

/// How the text of a column is read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MyType {
    /// `tinyint(1)`, which is what BOOLEAN declares: 0 and 1 are truth values, any other number is itself.
    Bool,
    /// Every integer that fits 64 bits with a sign; `year`.
    Int,
    /// `bigint unsigned`
    Unsigned,
    /// `bit(n)`: a number of n bits.
    Bit,
    Decimal,
    /// A decimal that is declared to hold whole numbers.
    Whole,
    /// `float`, read as the double that it is, and shortened again.
    Float,
    Double,
    Text,
    /// Also geometries, in the server's own form.
    Bytes,
    Uuid,
    /// Text that is declared to hold UUIDs in canonical form.
    UuidText,
    /// `binary(16)` that is declared to hold UUIDs.
    UuidBytes,
    Date,
    Time,
    /// `datetime`
    Timestamp,
    /// `timestamp`, written in UTC by our sessions; `datetime` that is declared to be in UTC.
    TimestampTz,
    Json,
    /// Any other type: its text.
    Other,
}

impl MyType {
    /// From `data_type` and `column_type` of `information_schema.columns`. MariaDB's JSON is a text with a constraint.
    pub(crate) fn of(data_type: &str, column_type: &str, is_json: bool) -> Self {
        match data_type {
            _ if is_json => Self::Json,
            "tinyint" if column_type.starts_with("tinyint(1)") && !column_type.contains("unsigned") => Self::Bool,
            "bigint" if column_type.contains("unsigned") => Self::Unsigned,
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year" => Self::Int,
            "bit" => Self::Bit,
            "decimal" => Self::Decimal,
            "float" => Self::Float,
            "double" => Self::Double,
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "set" => Self::Text,
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "vector" | "geometry"
            | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
            | "geometrycollection" | "geomcollection" => Self::Bytes,
            "uuid" => Self::Uuid,
            "date" => Self::Date,
            "time" => Self::Time,
            "datetime" => Self::Timestamp,
            "timestamp" => Self::TimestampTz,
            "json" => Self::Json,
            _ => Self::Other,
        }
    }

    /// What Fides calls it.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Bool => Kind::Bool,
            Self::Int => Kind::I64,
            Self::Unsigned | Self::Bit | Self::Whole => Kind::U64,
            Self::Decimal => Kind::Decimal,
            Self::Float | Self::Double => Kind::F64,
            Self::Text => Kind::String,
            Self::Bytes => Kind::Bytes,
            Self::Uuid | Self::UuidText | Self::UuidBytes => Kind::Uuid,
            Self::Date => Kind::Date,
            Self::Time => Kind::Time,
            Self::Timestamp => Kind::Timestamp,
            Self::TimestampTz => Kind::TimestampTz,
            Self::Json => Kind::Json,
            Self::Other => Kind::Any,
        }
    }

    /// The same column, read as the selection declares it where that loses nothing.
    pub(crate) fn read_as(self, kind: Kind) -> Self {
        match (self, kind) {
            (Self::Bool, Kind::I64 | Kind::U64) => Self::Int,
            (Self::Int, Kind::Bool) => Self::Bool,
            (Self::Decimal, Kind::U64 | Kind::I64) => Self::Whole,
            (Self::Text, Kind::Uuid) => Self::UuidText,
            (Self::Text, Kind::Json) => Self::Json,
            (Self::Bytes, Kind::Uuid) => Self::UuidBytes,
            (Self::Uuid | Self::Json, Kind::String) => Self::Text,
            (Self::Timestamp, Kind::TimestampTz) => Self::TimestampTz,
            (own, _) => own,
        }
    }

    /// The column as it is selected: a `float` is written with six digits only, and with all of its own as a double.
    pub(crate) fn selected(self, column: &str) -> String {
        match self {
            Self::Float => format!("{column} * 1e0"),
            _ => column.to_owned(),
        }
    }

    /// The value of what the server wrote; `None` when it makes no sense for this type. A time or a date that no calendar
    /// has (`838:59:59`, `0000-00-00`) stays the text that it is.
    pub(crate) fn value(self, bytes: &[u8]) -> Option<Value<'_>> {
        match self {
            Self::Bit => return (bytes.len() <= 8).then(|| Value::U64(number_of(bytes))),
            Self::Bytes => return Some(Value::Bytes(Cow::Borrowed(bytes))),
            Self::UuidBytes => {
                return Some(bytes.try_into().map_or(Value::Bytes(Cow::Borrowed(bytes)), Value::Uuid));
            }
            _ => {}
        }
        let text = std::str::from_utf8(bytes).ok()?;
        Some(match self {
            Self::Bool => match text {
                "0" => Value::Bool(false),
                "1" => Value::Bool(true),
                _ => Value::I64(text.parse().ok()?),
            },
            Self::Int => Value::I64(text.parse().ok()?),
            Self::Unsigned => Value::U64(text.parse().ok()?),
            Self::Whole => match text.parse::<i64>().map(Value::I64).or_else(|_| text.parse().map(Value::U64)) {
                Ok(value) => value,
                Err(_) => Value::Decimal(Cow::Borrowed(text)),
            },
            Self::Decimal => Value::Decimal(canonical_decimal(text).unwrap_or(Cow::Borrowed(text))),
            Self::Float => {
                // Shortest text of the float: 0.1, not 0.10000000149011612.
                let float = text.parse::<f64>().ok()? as f32;
                Value::F64(float.to_string().parse().ok()?)
            }
            Self::Double => Value::F64(text.parse().ok()?),
            Self::Uuid => Value::Uuid(parse_uuid(text)?),
            Self::UuidText => match parse_uuid(text).filter(|_| is_canonical_uuid(text)) {
                Some(uuid) => Value::Uuid(uuid),
                None => Value::String(Cow::Borrowed(text)),
            },
            Self::Date => return Some(canonical_date(text).map_or(Value::String(text.into()), Value::Date)),
            Self::Time => return Some(canonical_time(text).map_or(Value::String(text.into()), Value::Time)),
            Self::Timestamp => {
                return Some(canonical_timestamp(text).map_or(Value::String(text.into()), Value::Timestamp));
            }
            Self::TimestampTz => match canonical_timestamp(&format!("{text}Z")) {
                Some(instant) => Value::Timestamp(Cow::Owned(instant.into_owned())),
                None => Value::String(Cow::Borrowed(text)),
            },
            Self::Json => Value::Json(Cow::Borrowed(text)),
            Self::Text | Self::Other | Self::Bit | Self::Bytes | Self::UuidBytes => Value::String(Cow::Borrowed(text)),
        })
    }
}

fn number_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn is_canonical_uuid(text: &str) -> bool {
    text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_values() {
        let value = |ty: MyType, text: &'static str| ty.value(text.as_bytes()).unwrap();
        assert_eq!(value(MyType::Bool, "1"), Value::Bool(true));
        assert_eq!(value(MyType::Bool, "-7"), Value::I64(-7));
        assert_eq!(value(MyType::Int, "-9223372036854775808"), Value::I64(i64::MIN));
        assert_eq!(value(MyType::Unsigned, "18446744073709551615"), Value::U64(u64::MAX));
        assert_eq!(MyType::Bit.value(&[1, 0]), Some(Value::U64(256)));
        assert_eq!(value(MyType::Float, "0.10000000149011612"), Value::F64(0.1));
        assert_eq!(value(MyType::Decimal, "1.50"), Value::Decimal("1.50".into()));
        assert_eq!(
            value(MyType::TimestampTz, "2024-01-01 10:00:00.500000"),
            Value::Timestamp("2024-01-01T10:00:00.5Z".into())
        );
        assert_eq!(value(MyType::Timestamp, "0000-00-00 00:00:00"), Value::String("0000-00-00 00:00:00".into()));
        assert_eq!(value(MyType::Time, "-838:59:59"), Value::String("-838:59:59".into()));
        assert_eq!(value(MyType::Time, "13:05:00.250000"), Value::Time("13:05:00.25".into()));
        assert_eq!(MyType::Int.value(b"1.5"), None);
    }

    #[test]
    fn an_upper_case_uuid_in_text_stays_text() {
        let upper = "0123ABCD-0000-4000-8000-00000000FFFF";
        assert_eq!(MyType::UuidText.value(upper.as_bytes()), Some(Value::String(upper.into())));
        assert!(matches!(MyType::UuidText.value(upper.to_lowercase().as_bytes()), Some(Value::Uuid(_))));
    }

    #[test]
    fn a_type_is_told_by_its_declaration() {
        assert_eq!(MyType::of("tinyint", "tinyint(1)", false), MyType::Bool);
        assert_eq!(MyType::of("tinyint", "tinyint(1) unsigned", false), MyType::Int);
        assert_eq!(MyType::of("tinyint", "tinyint(4)", false), MyType::Int);
        assert_eq!(MyType::of("bigint", "bigint(20) unsigned zerofill", false), MyType::Unsigned);
        assert_eq!(MyType::of("longtext", "longtext", true), MyType::Json);
        assert_eq!(MyType::of("inet6", "inet6", false), MyType::Other);
    }
}
