//! From values to what SQLite stores.

use std::sync::Arc;

use fides_core::{Fault, Key, Kind, Value};
use fides_format::text::uuid_text;
use fides_format::to_json;
use sqlx::Arguments;
use sqlx::sqlite::SqliteArguments;

/// One stored value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    /// NULL.
    Null,
    /// INTEGER.
    Integer(i64),
    /// REAL.
    Real(f64),
    /// TEXT; shared, since a chunk that is halved is bound again.
    Text(Arc<str>),
    /// BLOB.
    Blob(Arc<[u8]>),
}

impl Cell {
    /// What SQLite stores for `value` in a field of `kind`. A float that is not a number is a Permanent fault: SQLite
    /// would silently store NULL.
    pub(crate) fn of(value: &Value<'_>, kind: Kind) -> Result<Self, Fault> {
        Ok(match value {
            Value::Null | Value::Absent => Cell::Null,
            Value::F64(value) if value.is_nan() => {
                return Err(Fault::permanent("NaN cannot be stored: SQLite would turn it into NULL")
                    .advise("map it to null or to a string"));
            }
            Value::Json(text) => Cell::Text(text.as_ref().into()),
            value if kind == Kind::Json => Cell::Text(to_json(value).into()),
            Value::Bool(value) => Cell::Integer(i64::from(*value)),
            Value::I64(value) => Cell::Integer(*value),
            Value::U64(value) => {
                i64::try_from(*value).map_or_else(|_| Cell::Text(value.to_string().into()), Cell::Integer)
            }
            Value::F64(value) => Cell::Real(*value),
            Value::Decimal(text)
            | Value::String(text)
            | Value::Date(text)
            | Value::Time(text)
            | Value::Timestamp(text) => Cell::Text(text.as_ref().into()),
            Value::Bytes(bytes) => Cell::Blob(bytes.as_ref().into()),
            Value::Uuid(bytes) => Cell::Text(uuid_text(bytes).into()),
            Value::Array(_) | Value::Object(_) => Cell::Text(to_json(value).into()),
        })
    }

    /// The same for one column of a key.
    pub(crate) fn of_key(value: &Value<'_>) -> Result<Self, Fault> {
        match value {
            Value::U64(number) if i64::try_from(*number).is_err() => {
                Err(Fault::permanent(format!("key {number} does not fit SQLite's 64-bit signed integers")))
            }
            _ => Cell::of(value, Kind::Any),
        }
    }

    /// Binds the value as the next parameter.
    pub(crate) fn bind(&self, arguments: &mut SqliteArguments) -> Result<(), Fault> {
        let bound = match self {
            Cell::Null => arguments.add(None::<i64>),
            Cell::Integer(value) => arguments.add(*value),
            Cell::Real(value) => arguments.add(*value),
            Cell::Text(text) => arguments.add(Arc::clone(text)),
            Cell::Blob(bytes) => arguments.add(Arc::clone(bytes)),
        };
        bound.map_err(|error| Fault::permanent(format!("a value could not be bound: {error}")))
    }
}

/// Whether a key column of kind `declared` can hold this value. Another one would be compared with a stored value after
/// SQLite's conversions, and find another record: the text `7` the number 7.
pub(crate) fn is_key_of(declared: Kind, value: &Value<'_>) -> bool {
    match (declared, value) {
        (Kind::Any, value) => matches!(value, Value::I64(_) | Value::U64(_) | Value::String(_) | Value::Bytes(_)),
        // A decoded key does not tell one kind of whole number from the other.
        (Kind::I64 | Kind::U64, value) => matches!(value, Value::I64(_) | Value::U64(_)),
        (declared, value) => value.kind() == Some(declared),
    }
}

/// The columns of a key as stored values. A key of another shape is a Permanent fault, never one that is not found:
/// what is not found counts as proven absent (L8).
pub(crate) fn key(key: &Key, columns: &[Kind]) -> Result<Vec<Cell>, Fault> {
    let values = fitting(key, columns)?;
    if values.len() != columns.len() {
        return Err(Fault::permanent(format!("key {key} has {} columns, expected {}", values.len(), columns.len())));
    }
    values.iter().map(Cell::of_key).collect()
}

/// The same for a bound of a range, which may name only the first columns, and numbers beyond those that SQLite stores.
pub(crate) fn bound(key: &Key, columns: &[Kind]) -> Result<Vec<Cell>, Fault> {
    let beyond = |value: &Value<'_>| match value {
        // Sorts after every number that is stored, as this one would.
        Value::U64(number) if i64::try_from(*number).is_err() => Ok(Cell::Real(f64::INFINITY)),
        value => Cell::of_key(value),
    };
    fitting(key, columns)?.iter().map(beyond).collect()
}

/// The key's values, of which each can be one of its column.
fn fitting(key: &Key, columns: &[Kind]) -> Result<Vec<Value<'static>>, Fault> {
    let values = key.decode()?;
    if values.len() > columns.len() {
        return Err(Fault::permanent(format!("key {key} has {} columns, expected {}", values.len(), columns.len())));
    }
    if let Some((value, declared)) = values.iter().zip(columns).find(|(value, declared)| !is_key_of(**declared, value))
    {
        let found = value.kind().map_or("null", Kind::name);
        return Err(Fault::permanent(format!("key {key} holds {found} where the key column is {declared}"))
            .advise("the key's type was changed: import anew"));
    }
    Ok(values)
}
