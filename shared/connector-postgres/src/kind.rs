//! Types of Postgres: what Fides reads them as, and how their text becomes values.

use std::borrow::Cow;

use fides_core::{Kind, Value};
use fides_format::text::{
    canonical_date, canonical_decimal, canonical_time, canonical_timestamp, parse_bytes, parse_uuid,
};

use crate::array;

/// How the text of a column is read and written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PgType {
    Bool,
    /// int2, int4, int8, oid
    Int,
    Numeric,
    /// numeric that is declared to hold whole numbers
    Whole,
    Float,
    Text,
    Bytea,
    Uuid,
    /// text that is declared to hold UUIDs in canonical form
    UuidText,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Json,
    Array(Box<PgType>),
    /// Any other type: its text.
    Other,
}

impl PgType {
    /// From `pg_type.typname` of a base type and its `typtype`.
    pub(crate) fn of(name: &str, class: &str) -> Self {
        match name {
            "bool" => Self::Bool,
            "int2" | "int4" | "int8" | "oid" => Self::Int,
            "numeric" => Self::Numeric,
            "float4" | "float8" => Self::Float,
            "text" | "varchar" | "bpchar" | "char" | "name" | "citext" => Self::Text,
            "bytea" => Self::Bytea,
            "uuid" => Self::Uuid,
            "date" => Self::Date,
            "time" | "timetz" => Self::Time,
            "timestamp" => Self::Timestamp,
            "timestamptz" => Self::TimestampTz,
            "json" | "jsonb" => Self::Json,
            _ if class == "e" => Self::Text,
            _ => Self::Other,
        }
    }

    /// What Fides calls it.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Bool => Kind::Bool,
            Self::Int => Kind::I64,
            Self::Numeric => Kind::Decimal,
            Self::Whole => Kind::U64,
            Self::Float => Kind::F64,
            Self::Text => Kind::String,
            Self::Bytea => Kind::Bytes,
            Self::Uuid | Self::UuidText => Kind::Uuid,
            Self::Date => Kind::Date,
            Self::Time => Kind::Time,
            Self::Timestamp => Kind::Timestamp,
            Self::TimestampTz => Kind::TimestampTz,
            Self::Json | Self::Array(_) => Kind::Json,
            Self::Other => Kind::Any,
        }
    }

    /// The same column, read as the selection declares it where that loses nothing.
    pub(crate) fn read_as(self, kind: Kind) -> Self {
        match (self, kind) {
            (Self::Numeric, Kind::U64 | Kind::I64) => Self::Whole,
            (Self::Text, Kind::Uuid) => Self::UuidText,
            (Self::Uuid, Kind::String) => Self::Text,
            (own, _) => own,
        }
    }

    /// The value of a text that the server wrote under the pinned settings; `None` when it is no text of this type.
    pub(crate) fn value<'a>(&self, text: Cow<'a, str>) -> Option<Value<'a>> {
        Some(match self {
            Self::Bool => match &*text {
                "t" | "true" => Value::Bool(true),
                "f" | "false" => Value::Bool(false),
                _ => return None,
            },
            Self::Int => Value::I64(text.parse().ok()?),
            Self::Numeric => Value::Decimal(canonical(text, canonical_decimal)),
            Self::Whole => match text.parse::<i64>().map(Value::I64).or_else(|_| text.parse().map(Value::U64)) {
                Ok(value) => value,
                Err(_) => Value::Decimal(text),
            },
            Self::Float => Value::F64(text.parse().ok()?),
            Self::Text | Self::Other => Value::String(text),
            Self::Bytea => Value::Bytes(parse_bytes(&text)?.into()),
            Self::Uuid => Value::Uuid(parse_uuid(&text)?),
            Self::UuidText => match parse_uuid(&text).filter(|_| is_canonical_uuid(&text)) {
                Some(uuid) => Value::Uuid(uuid),
                None => Value::String(text),
            },
            Self::Date => Value::Date(canonical(text, canonical_date)),
            Self::Time => Value::Time(canonical(text, canonical_time)),
            Self::Timestamp | Self::TimestampTz => Value::Timestamp(canonical(text, canonical_timestamp)),
            Self::Json => Value::Json(text),
            // Other lower bounds than 1 are written before the braces; a list would lose them.
            Self::Array(_) if text.starts_with('[') => Value::String(text),
            Self::Array(element) => array::parse(&text, element)?,
        })
    }
}

fn is_canonical_uuid(text: &str) -> bool {
    text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn canonical<'a>(text: Cow<'a, str>, rule: impl for<'b> Fn(&'b str) -> Option<Cow<'b, str>>) -> Cow<'a, str> {
    match text {
        Cow::Borrowed(text) => rule(text).unwrap_or(Cow::Borrowed(text)),
        Cow::Owned(text) => {
            let owned = rule(&text).and_then(|canonical| (*canonical != *text).then(|| canonical.into_owned()));
            Cow::Owned(owned.unwrap_or(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_values() {
        let value = |ty: PgType, text: &'static str| ty.value(text.into()).unwrap();
        assert_eq!(value(PgType::Bool, "t"), Value::Bool(true));
        assert_eq!(value(PgType::Int, "-9223372036854775808"), Value::I64(i64::MIN));
        assert_eq!(value(PgType::Whole, "18446744073709551615"), Value::U64(u64::MAX));
        assert_eq!(value(PgType::Whole, "1.5"), Value::Decimal("1.5".into()));
        assert_eq!(value(PgType::Numeric, "NaN"), Value::Decimal("NaN".into()));
        assert_eq!(value(PgType::Float, "-Infinity"), Value::F64(f64::NEG_INFINITY));
        assert_eq!(value(PgType::Date, "0044-03-15 BC"), Value::Date("-0043-03-15".into()));
        assert_eq!(
            value(PgType::TimestampTz, "2024-01-01 10:00:00.5+00"),
            Value::Timestamp("2024-01-01T10:00:00.5Z".into())
        );
        assert_eq!(value(PgType::Timestamp, "-infinity"), Value::Timestamp("-infinity".into()));
        assert_eq!(value(PgType::Other, "1 day"), Value::String("1 day".into()));
        assert_eq!(PgType::Int.value("1.5".into()), None);
        assert_eq!(value(PgType::Array(Box::new(PgType::Int)), "[0:1]={1,2}"), Value::String("[0:1]={1,2}".into()));
    }

    #[test]
    fn an_upper_case_uuid_in_text_stays_text() {
        let upper = "0123ABCD-0000-4000-8000-00000000FFFF";
        assert_eq!(PgType::UuidText.value(upper.into()), Some(Value::String(upper.into())));
        assert!(matches!(PgType::UuidText.value(upper.to_lowercase().into()), Some(Value::Uuid(_))));
    }
}
