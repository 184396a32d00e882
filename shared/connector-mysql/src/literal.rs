//! From values to literals, for a column that gives them back. What the server would round or cut off without a word,
//! even in strict mode, is refused here.

use fides_core::Value;
use fides_format::text::{f64_text, uuid_text};
use fides_format::to_json;

use crate::catalog::Attribute;
use crate::kind::MyType;
use crate::quote;

/// Appends the literal of a value; why it cannot be one otherwise.
pub(crate) fn put(value: &Value<'_>, column: &Attribute, out: &mut String) -> Result<(), String> {
    match value {
        Value::Null | Value::Absent => out.push_str("NULL"),
        Value::Json(text) => quote::put_text(text, out),
        value if column.ty == MyType::Json => quote::put_text(&to_json(value), out),
        Value::Bool(value) if column.ty == MyType::Text => quote::put_text(if *value { "true" } else { "false" }, out),
        Value::Bool(value) => out.push(if *value { '1' } else { '0' }),
        // Not in quotes: into a `bit(n)` a text would go as its bytes.
        Value::I64(value) => out.push_str(&value.to_string()),
        Value::U64(value) => out.push_str(&value.to_string()),
        Value::F64(value) if !value.is_finite() => return Err(format!("MySQL has no number {value}")),
        // In quotes: a number without an exponent would be read as a decimal.
        Value::F64(value) => put_number(&f64_text(*value), column, out)?,
        Value::Decimal(text) => put_number(text, column, out)?,
        Value::String(text) => quote::put_text(text, out),
        Value::Bytes(bytes) => quote::put_bytes(bytes, out),
        Value::Uuid(uuid) if column.ty == MyType::Bytes => quote::put_bytes(uuid, out),
        Value::Uuid(uuid) => quote::put_text(&uuid_text(uuid), out),
        Value::Date(text) => put_date(text, column, out)?,
        Value::Time(text) => put_time(text, column, out)?,
        Value::Timestamp(text) => put_timestamp(text, column, out)?,
        Value::Array(_) | Value::Object(_) => quote::put_text(&to_json(value), out),
    }
    Ok(())
}

fn put_number(text: &str, column: &Attribute, out: &mut String) -> Result<(), String> {
    let scale = match column.ty {
        MyType::Decimal => column.scale,
        MyType::Int | MyType::Unsigned | MyType::Bool | MyType::Bit => Some(0),
        _ => None,
    };
    if let Some(scale) = scale {
        let digits = fraction_digits(text).ok_or_else(|| format!("{text} is no number of {}", column.native))?;
        if digits > scale as i64 {
            return Err(format!("{text} has {digits} decimal places, of which {} would keep {scale}", column.native));
        }
    }
    quote::put_text(text, out);
    Ok(())
}

/// Decimal places of a number that are not zero at its end; `None` when it is no number.
fn fraction_digits(text: &str) -> Option<i64> {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.trim_start_matches(['-', '+']);
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let zeros = digits.len() - digits.trim_end_matches('0').len();
    if zeros == digits.len() {
        return Some(0);
    }
    Some((fraction.len() as i64 - zeros as i64 - exponent).max(0))
}

fn put_time(text: &str, column: &Attribute, out: &mut String) -> Result<(), String> {
    if is_temporal(column) {
        if text.contains(['+', 'Z']) || text.get(1..).is_some_and(|rest| rest.contains('-')) {
            return Err(format!("{text} has an offset, which {} would lose", column.native));
        }
        check_fraction(text, column)?;
    }
    quote::put_text(text, out);
    Ok(())
}

fn put_date(text: &str, column: &Attribute, out: &mut String) -> Result<(), String> {
    if is_temporal(column) {
        check_year(text, column)?;
    }
    quote::put_text(text, out);
    Ok(())
}

fn put_timestamp(text: &str, column: &Attribute, out: &mut String) -> Result<(), String> {
    if !is_temporal(column) {
        quote::put_text(text, out);
        return Ok(());
    }
    // Our sessions are in UTC.
    let local = text.strip_suffix('Z').unwrap_or(text);
    check_year(local, column)?;
    check_fraction(local, column)?;
    quote::put_text(local, out);
    Ok(())
}

fn is_temporal(column: &Attribute) -> bool {
    matches!(column.ty, MyType::Date | MyType::Time | MyType::Timestamp | MyType::TimestampTz)
}

/// The server reads the first four digits of a longer year.
fn check_year(text: &str, column: &Attribute) -> Result<(), String> {
    let (year, rest) = text.split_at_checked(4).unwrap_or((text, ""));
    if year.bytes().all(|byte| byte.is_ascii_digit()) && rest.starts_with('-') {
        return Ok(());
    }
    Err(format!("{text} is no date of {}, which holds the years 0 to 9999", column.native))
}

/// The server rounds what it has no digits for.
fn check_fraction(text: &str, column: &Attribute) -> Result<(), String> {
    let digits = text.split_once('.').map_or(0, |(_, fraction)| fraction.trim_end_matches('0').len());
    let scale = column.scale.unwrap_or_default();
    if digits > scale {
        return Err(format!("{text} has {digits} digits of a second, of which {} would keep {scale}", column.native));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Order;

    fn column(native: &str, base: &str, scale: Option<usize>) -> Attribute {
        Attribute {
            charset: None,
            name: "c".to_owned(),
            native: native.to_owned(),
            base: base.to_owned(),
            ty: MyType::of(base, native, false),
            not_null: false,
            generated: false,
            filled: false,
            order: Order::Key,
            length_max: None,
            scale,
        }
    }

    fn literal(value: &Value<'_>, column: &Attribute) -> Result<String, String> {
        let mut out = String::new();
        put(value, column, &mut out).map(|()| out)
    }

    #[test]
    fn what_would_be_rounded_is_refused() {
        let price = column("decimal(10,2)", "decimal", Some(2));
        let decimal = |text: &'static str| literal(&Value::Decimal(text.into()), &price);
        assert_eq!(decimal("1.5000").unwrap(), "'1.5000'");
        assert_eq!(decimal("120e-2").unwrap(), "'120e-2'");
        assert!(decimal("1.505").unwrap_err().contains("3 decimal places"));
        assert!(decimal("15e-3").is_err());
        assert!(decimal("NaN").unwrap_err().contains("no number"));
        let whole = column("int(11)", "int", Some(0));
        assert!(literal(&Value::F64(0.5), &whole).is_err());
        assert_eq!(literal(&Value::F64(-0.0), &whole).unwrap(), "'-0.0'");
        let seconds = column("datetime(3)", "datetime", Some(3));
        assert_eq!(
            literal(&Value::Timestamp("2024-01-01T10:00:00.5Z".into()), &seconds).unwrap(),
            "'2024-01-01T10:00:00.5'"
        );
        assert!(literal(&Value::Timestamp("2024-01-01T10:00:00.1234".into()), &seconds).is_err());
        for year in ["12024-01-01T00:00:00", "-0043-03-15T00:00:00", "infinity"] {
            let refused = literal(&Value::Timestamp(year.into()), &seconds).unwrap_err();
            assert!(refused.contains("the years 0 to 9999"), "{refused}");
        }
        let clock = column("time(6)", "time", Some(6));
        assert!(literal(&Value::Time("10:00:00+02:00".into()), &clock).unwrap_err().contains("offset"));
        assert_eq!(literal(&Value::Time("-10:00:00".into()), &clock).unwrap(), "'-10:00:00'");
    }

    #[test]
    fn a_float_is_never_read_as_a_decimal() {
        let double = column("double", "double", None);
        assert_eq!(literal(&Value::F64(0.1), &double).unwrap(), "'0.1'");
        assert!(literal(&Value::F64(f64::NAN), &double).is_err());
    }
}
