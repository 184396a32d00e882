use std::borrow::Cow;
use std::cmp::Ordering;

use fides_core::{Kind, Value};

use crate::text::{Decimal, canonical_date, canonical_time, canonical_timestamp, f64_text, is_json_number};
use crate::{cast, parse_json};

/// Whether the target's value is what the host's value becomes there. Stores write one value in many ways, so the host's
/// value is first converted to the kind of the target's.
///
/// Numbers are compared as decimals (`1.0` = `1.00` = `1`), except that a target which holds a float is right when it
/// holds the nearest one. Times are compared by their canonical text, JSON by its meaning (order of fields ignored, but
/// `"1"` is not `1`, and null is not a missing field), NULL equals absent. Text in the target equals a host value of
/// another kind when it reads as that value.
pub fn same(host: &Value<'_>, target: &Value<'_>) -> bool {
    let (host_kind, target_kind) = match (host.kind(), target.kind()) {
        (None, None) => return true,
        (Some(host), Some(target)) => (host, target),
        _ => return false,
    };
    if host_kind == target_kind {
        return same_kind(host, target);
    }
    if is_number(host_kind) && is_number(target_kind) && target_kind != Kind::F64 {
        return same_number(host, target);
    }
    let same_as = |value: &Value<'_>, kind, other: &Value<'_>| {
        cast(value.clone(), kind).is_ok_and(|value| value.kind() == other.kind() && same_kind(&value, other))
    };
    match (host_kind, target_kind) {
        (_, Kind::String) => same_as(target, host_kind, host) || same_as(host, Kind::String, target),
        // An infinite timestamp has no zone to tell its kind by.
        (Kind::Timestamp | Kind::TimestampTz, Kind::Timestamp | Kind::TimestampTz) => {
            cast(host.clone(), target_kind).is_ok_and(|host| same_kind(&host, target))
        }
        _ => same_as(host, target_kind, target),
    }
}

fn is_number(kind: Kind) -> bool {
    matches!(kind, Kind::I64 | Kind::U64 | Kind::Decimal | Kind::F64)
}

/// Compares two values of one kind.
fn same_kind(host: &Value<'_>, target: &Value<'_>) -> bool {
    match (host, target) {
        (Value::F64(host), Value::F64(target)) => {
            host.partial_cmp(target).map_or(host.is_nan() == target.is_nan(), Ordering::is_eq)
        }
        (Value::Decimal(host), Value::Decimal(target)) => same_text(host, target, same_decimal),
        (Value::Date(host), Value::Date(target)) => same_text(host, target, by(canonical_date)),
        (Value::Time(host), Value::Time(target)) => same_text(host, target, by(canonical_time)),
        (Value::Timestamp(host), Value::Timestamp(target)) => same_text(host, target, by(canonical_timestamp)),
        (Value::Json(_) | Value::Array(_) | Value::Object(_), _) => same_json(host, target),
        _ => host == target,
    }
}

fn same_text(host: &str, target: &str, same: impl Fn(&str, &str) -> bool) -> bool {
    host == target || same(host, target)
}

fn same_decimal(host: &str, target: &str) -> bool {
    Decimal::parse(host).is_some_and(|host| Decimal::parse(target) == Some(host))
}

fn by(canonical: impl for<'t> Fn(&'t str) -> Option<Cow<'t, str>>) -> impl Fn(&str, &str) -> bool {
    move |host, target| canonical(host).is_some_and(|host| canonical(target).as_deref() == Some(&*host))
}

/// Compares numbers of different kinds without a float.
fn same_number(host: &Value<'_>, target: &Value<'_>) -> bool {
    same_text(&number_text(host), &number_text(target), same_decimal)
}

fn number_text<'v>(value: &'v Value<'_>) -> Cow<'v, str> {
    match value {
        Value::I64(value) => Cow::Owned(value.to_string()),
        Value::U64(value) => Cow::Owned(value.to_string()),
        Value::F64(value) => f64_text(*value),
        Value::Decimal(text) => Cow::Borrowed(text),
        _ => Cow::Borrowed(""), // no number, and none is compared here
    }
}

/// Compares the meaning of two JSON values, each a tree or raw text.
fn same_json(host: &Value<'_>, target: &Value<'_>) -> bool {
    match (host, target) {
        (Value::Json(left), Value::Json(right)) if left == right => true,
        (Value::Json(text), other) => parse_json(text).is_ok_and(|host| same_json(&host, other)),
        (other, Value::Json(text)) => parse_json(text).is_ok_and(|target| same_json(other, &target)),
        (Value::Array(host), Value::Array(target)) => {
            host.len() == target.len() && host.iter().zip(target).all(|(host, target)| same_json(host, target))
        }
        (Value::Object(host), Value::Object(target)) => same_fields(host, target),
        _ => same_scalar(host, target),
    }
}

/// Inside JSON a string is never a number or a truth value; kinds that JSON does not have are strings there.
fn same_scalar(host: &Value<'_>, target: &Value<'_>) -> bool {
    let is_own = |value: &Value<'_>| {
        let kind = value.kind();
        kind.is_none_or(|kind| is_number(kind) || matches!(kind, Kind::Bool | Kind::String | Kind::Json))
            && !matches!(value, Value::F64(value) if !value.is_finite())
            && !matches!(value, Value::Decimal(text) if !is_json_number(text))
    };
    let is_numeric = |value: &Value<'_>| value.kind().is_some_and(is_number);
    match (is_own(host), is_own(target)) {
        (true, true) if is_numeric(host) && is_numeric(target) => same(host, target),
        (true, true) => host == target || (host.is_null() && target.is_null()),
        _ => same(host, target),
    }
}

type Fields<'a> = [(Cow<'a, str>, Value<'a>)];

fn same_fields(host: &Fields<'_>, target: &Fields<'_>) -> bool {
    fn present<'f, 'a>(fields: &'f Fields<'a>) -> Vec<&'f (Cow<'a, str>, Value<'a>)> {
        let mut present: Vec<_> = fields.iter().filter(|(_, value)| !matches!(value, Value::Absent)).collect();
        present.sort_by(|(left, _), (right, _)| left.cmp(right));
        present
    }
    let (host, target) = (present(host), present(target));
    host.len() == target.len()
        && host.iter().zip(&target).all(|(host, target)| host.0 == target.0 && same_json(&host.1, &target.1))
}

#[cfg(test)]
mod tests;
