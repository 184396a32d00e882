use std::borrow::Cow;
use std::fmt;

use fides_core::{Kind, Value};

use crate::text::{
    Decimal, bytes_text, canonical_date, canonical_decimal, canonical_time, canonical_timestamp, f64_text, parse_bytes,
    parse_uuid, uuid_text,
};
use crate::{parse_json, to_json};

/// A value that has no equal in the kind it was to become: `cannot cast "abc" (string) to decimal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CastError {
    shown: String,
    from: Kind,
    to: Kind,
}

impl fmt::Display for CastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot cast {} ({}) to {}", self.shown, self.from, self.to)
    }
}

impl std::error::Error for CastError {}

/// Converts a value to a kind without losing anything, or not at all. NULL and absent belong to every kind.
///
/// Only `f64` rounds, since that is what it is for: a number becomes the nearest float, unless it is too large for one.
/// Booleans are 0 and 1 among numbers, and read `t`, `true`, `1` and their opposites among texts. A text becomes JSON by
/// being parsed, and JSON becomes text as it is written. Bytes are text in UTF-8 or, as `\x00ff`, of any content. A local
/// timestamp becomes one in UTC and back with the same digits; a date is a timestamp at midnight.
pub fn cast(value: Value<'_>, to: Kind) -> Result<Value<'_>, CastError> {
    let Some(from) = value.kind() else { return Ok(value) };
    if from == to || to == Kind::Any {
        return Ok(value);
    }
    let refused = |value: &Value<'_>| CastError { shown: shown(value), from, to };
    if matches!(value, Value::Json(_) | Value::Array(_) | Value::Object(_)) && to != Kind::String {
        return match scalar_of(&value) {
            Some(scalar) => cast(scalar, to).map_err(|_| refused(&value)),
            None => Err(refused(&value)),
        };
    }
    convert(&value, to).ok_or_else(|| refused(&value))
}

/// The scalar that JSON text holds.
fn scalar_of(value: &Value<'_>) -> Option<Value<'static>> {
    let Value::Json(text) = value else { return None };
    let scalar = parse_json(text).ok()?;
    (!matches!(scalar, Value::Array(_) | Value::Object(_))).then(|| scalar.into_owned())
}

fn convert<'a>(value: &Value<'a>, to: Kind) -> Option<Value<'a>> {
    match to {
        Kind::Any => Some(value.clone()),
        Kind::Bool => boolean(value).map(Value::Bool),
        Kind::I64 => integer(value)?.try_into().ok().map(Value::I64),
        Kind::U64 => integer(value)?.try_into().ok().map(Value::U64),
        Kind::Decimal => decimal(value).map(Value::Decimal),
        Kind::F64 => float(value).map(Value::F64),
        Kind::String => Some(Value::String(text(value))),
        Kind::Bytes => match value {
            Value::String(text) => {
                Some(Value::Bytes(parse_bytes(text).map_or_else(|| bytes_of(text.clone()), Cow::Owned)))
            }
            Value::Uuid(uuid) => Some(Value::Bytes(uuid.to_vec().into())),
            _ => None,
        },
        Kind::Uuid => match value {
            Value::String(text) => parse_uuid(text).map(Value::Uuid),
            Value::Bytes(bytes) => (&**bytes).try_into().ok().map(Value::Uuid),
            _ => None,
        },
        Kind::Date => match value {
            Value::Timestamp(text) => midnight(text).map(Value::Date),
            Value::String(text) => canonical(text, canonical_date)
                .or_else(|| {
                    let timestamp = canonical_timestamp(text)?;
                    midnight(&Cow::Borrowed(&*timestamp)).map(|date| Cow::Owned(date.into_owned()))
                })
                .map(Value::Date),
            _ => None,
        },
        Kind::Time => match value {
            Value::String(text) => canonical(text, canonical_time).map(Value::Time),
            _ => None,
        },
        Kind::Timestamp | Kind::TimestampTz => timestamp(value, to == Kind::TimestampTz).map(Value::Timestamp),
        Kind::Json => match value {
            Value::String(text) => parse_json(text).is_ok().then(|| Value::Json(text.clone())),
            scalar => Some(Value::Json(to_json(scalar).into())),
        },
    }
}

fn boolean(value: &Value<'_>) -> Option<bool> {
    if let Value::String(text) = value {
        return match &**text {
            "t" | "true" | "TRUE" | "True" | "1" => Some(true),
            "f" | "false" | "FALSE" | "False" | "0" => Some(false),
            _ => None,
        };
    }
    match integer(value)? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn integer(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Bool(value) => Some((*value).into()),
        Value::I64(value) => Some((*value).into()),
        Value::U64(value) => Some((*value).into()),
        Value::Decimal(text) | Value::String(text) => Decimal::parse(text)?.to_i128(),
        Value::F64(value) => Decimal::parse(&f64_text(*value))?.to_i128(),
        _ => None,
    }
}

fn decimal<'a>(value: &Value<'a>) -> Option<Cow<'a, str>> {
    match value {
        Value::String(text) => canonical(text, canonical_decimal),
        Value::F64(value) => {
            let text = f64_text(*value);
            Some(text.strip_suffix(".0").map_or_else(|| text.clone(), |whole| Cow::Owned(whole.to_owned())))
        }
        _ => integer(value).map(|value| Cow::Owned(value.to_string())),
    }
}

/// The nearest float. Out of range is refused: an infinity only comes from an infinity.
fn float(value: &Value<'_>) -> Option<f64> {
    let nearest = |text: &str| {
        let canonical = canonical_decimal(text)?;
        match &*canonical {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            finite => finite.parse().ok().filter(|value: &f64| value.is_finite()),
        }
    };
    match value {
        Value::Decimal(text) | Value::String(text) => nearest(text),
        _ => nearest(&integer(value)?.to_string()),
    }
}

fn text<'a>(value: &Value<'a>) -> Cow<'a, str> {
    match value {
        Value::Decimal(text) | Value::Date(text) | Value::Time(text) | Value::Timestamp(text) | Value::Json(text) => {
            text.clone()
        }
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if !text.starts_with("\\x") => Cow::Owned(text.to_owned()),
            _ => Cow::Owned(bytes_text(bytes)),
        },
        Value::Uuid(uuid) => Cow::Owned(uuid_text(uuid)),
        Value::F64(value) => f64_text(*value),
        other => Cow::Owned(to_json(other)),
    }
}

fn timestamp<'a>(value: &Value<'a>, utc: bool) -> Option<Cow<'a, str>> {
    let (Value::String(text) | Value::Date(text) | Value::Timestamp(text)) = value else { return None };
    let canonical = canonical(text, canonical_timestamp)?;
    Some(match (utc, canonical.strip_suffix('Z')) {
        (true, None) if !canonical.ends_with("infinity") => Cow::Owned(format!("{canonical}Z")),
        (false, Some(local)) => Cow::Owned(local.to_owned()),
        _ => canonical,
    })
}

/// The date of a timestamp at midnight.
fn midnight<'a>(text: &Cow<'a, str>) -> Option<Cow<'a, str>> {
    let canonical = canonical_timestamp(text)?;
    let date = match &*canonical {
        infinite @ ("infinity" | "-infinity") => infinite,
        finite => finite.strip_suffix('Z').unwrap_or(finite).strip_suffix("T00:00:00")?,
    };
    Some(Cow::Owned(date.to_owned()))
}

/// Applies a function that borrows when nothing changes, keeping the longer life of borrowed text.
fn canonical<'a>(text: &Cow<'a, str>, form: impl for<'t> Fn(&'t str) -> Option<Cow<'t, str>>) -> Option<Cow<'a, str>> {
    match text {
        Cow::Borrowed(text) => form(text),
        Cow::Owned(text) => form(text).map(|canonical| Cow::Owned(canonical.into_owned())),
    }
}

fn bytes_of(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// The value as JSON, cut where it is long.
fn shown(value: &Value<'_>) -> String {
    const CHARS_MAX: usize = 60;
    let json = to_json(value);
    match json.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &json[..end]),
        None => json,
    }
}

#[cfg(test)]
mod tests;
