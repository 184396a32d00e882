use std::borrow::Cow;
use std::fmt;

/// One value of a record or a document. Closed, and it loses nothing: no number passes through a float unasked.
///
/// Temporal values and decimals are kept as canonical text, which no calendar or precision can overflow:
/// dates `2024-02-29`, times `13:05:00.25`, timestamps `2024-02-29T13:05:00.25Z` (with a zone, always UTC) or without
/// the `Z` (no zone), and `infinity` / `-infinity`; decimals as written by the store (`1.50`, `NaN`).
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// SQL NULL, JSON null.
    Null,
    /// The document does not have this field. Only at the top of a row; never read from a host.
    Absent,
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    I64(i64),
    /// An unsigned integer.
    U64(u64),
    /// A decimal number of any size, as text.
    Decimal(Cow<'a, str>),
    /// A binary float; NaN and the infinities included.
    F64(f64),
    /// Unicode text.
    String(Cow<'a, str>),
    /// Raw bytes.
    Bytes(Cow<'a, [u8]>),
    /// A UUID.
    Uuid([u8; 16]),
    /// A calendar date.
    Date(Cow<'a, str>),
    /// A time of day, perhaps with an offset.
    Time(Cow<'a, str>),
    /// A point in time (`…Z`) or a local date and time.
    Timestamp(Cow<'a, str>),
    /// A list.
    Array(Vec<Value<'a>>),
    /// Named values, in order.
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
    /// JSON text exactly as the store wrote it.
    Json(Cow<'a, str>),
}

/// The kind of a [`Value`], as a column or a field declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// [`Value::Bool`]
    Bool,
    /// [`Value::I64`]
    I64,
    /// [`Value::U64`]
    U64,
    /// [`Value::Decimal`]
    Decimal,
    /// [`Value::F64`]
    F64,
    /// [`Value::String`]
    String,
    /// [`Value::Bytes`]
    Bytes,
    /// [`Value::Uuid`]
    Uuid,
    /// [`Value::Date`]
    Date,
    /// [`Value::Time`]
    Time,
    /// [`Value::Timestamp`] without a zone
    Timestamp,
    /// [`Value::Timestamp`] in UTC
    TimestampTz,
    /// [`Value::Json`], [`Value::Array`] or [`Value::Object`]
    Json,
    /// The store's own text for a type that Fides does not know, or a column without a type (SQLite).
    Any,
}

impl Kind {
    /// Every kind, in the order in which people are shown them.
    pub const ALL: [Kind; 14] = [
        Kind::Bool,
        Kind::I64,
        Kind::U64,
        Kind::Decimal,
        Kind::F64,
        Kind::String,
        Kind::Bytes,
        Kind::Uuid,
        Kind::Date,
        Kind::Time,
        Kind::Timestamp,
        Kind::TimestampTz,
        Kind::Json,
        Kind::Any,
    ];

    /// The name that people write and read.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bool => "bool",
            Kind::I64 => "i64",
            Kind::U64 => "u64",
            Kind::Decimal => "decimal",
            Kind::F64 => "f64",
            Kind::String => "string",
            Kind::Bytes => "bytes",
            Kind::Uuid => "uuid",
            Kind::Date => "date",
            Kind::Time => "time",
            Kind::Timestamp => "timestamp",
            Kind::TimestampTz => "timestamptz",
            Kind::Json => "json",
            Kind::Any => "any",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Value<'_> {
    /// The kind of this value; `None` for null and absent, which belong to every kind.
    pub fn kind(&self) -> Option<Kind> {
        Some(match self {
            Value::Null | Value::Absent => return None,
            Value::Bool(_) => Kind::Bool,
            Value::I64(_) => Kind::I64,
            Value::U64(_) => Kind::U64,
            Value::Decimal(_) => Kind::Decimal,
            Value::F64(_) => Kind::F64,
            Value::String(_) => Kind::String,
            Value::Bytes(_) => Kind::Bytes,
            Value::Uuid(_) => Kind::Uuid,
            Value::Date(_) => Kind::Date,
            Value::Time(_) => Kind::Time,
            Value::Timestamp(text) if text.ends_with('Z') => Kind::TimestampTz,
            Value::Timestamp(_) => Kind::Timestamp,
            Value::Array(_) | Value::Object(_) | Value::Json(_) => Kind::Json,
        })
    }

    /// Whether this is null or absent.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null | Value::Absent)
    }

    /// The same value, owning its text.
    pub fn into_owned(self) -> Value<'static> {
        fn own<'b, T: ?Sized + ToOwned + 'b>(value: Cow<'_, T>) -> Cow<'b, T> {
            Cow::Owned(value.into_owned())
        }
        match self {
            Value::Null => Value::Null,
            Value::Absent => Value::Absent,
            Value::Bool(value) => Value::Bool(value),
            Value::I64(value) => Value::I64(value),
            Value::U64(value) => Value::U64(value),
            Value::F64(value) => Value::F64(value),
            Value::Uuid(value) => Value::Uuid(value),
            Value::Decimal(text) => Value::Decimal(own(text)),
            Value::String(text) => Value::String(own(text)),
            Value::Bytes(bytes) => Value::Bytes(own(bytes)),
            Value::Date(text) => Value::Date(own(text)),
            Value::Time(text) => Value::Time(own(text)),
            Value::Timestamp(text) => Value::Timestamp(own(text)),
            Value::Json(text) => Value::Json(own(text)),
            Value::Array(items) => Value::Array(items.into_iter().map(Value::into_owned).collect()),
            Value::Object(fields) => {
                Value::Object(fields.into_iter().map(|(name, value)| (own(name), value.into_owned())).collect())
            }
        }
    }
}
