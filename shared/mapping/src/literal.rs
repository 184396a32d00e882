//! Values that are written in a configuration.

use fides_core::{Kind, Value};
use fides_format::{cast, to_json};

/// A value of the configuration as the kind of its field; in JSON a text is a string, not JSON text. The error says why
/// the value has no such form.
pub fn literal(value: &Value<'static>, kind: Kind) -> Result<Value<'static>, String> {
    match (value, kind) {
        (Value::Null | Value::Absent, _) => Ok(value.clone()),
        (_, Kind::Json) => Ok(Value::Json(to_json(value).into())),
        (Value::Array(_) | Value::Object(_), Kind::Any) => Ok(flat(value.clone())),
        _ => cast(value.clone(), kind).map_err(|error| error.to_string()),
    }
}

/// Trees become JSON text.
pub(crate) fn flat(value: Value<'static>) -> Value<'static> {
    match value {
        Value::Array(_) | Value::Object(_) => Value::Json(to_json(&value).into()),
        scalar => scalar,
    }
}
