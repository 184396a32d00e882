//! The fields of one event or span, as they were told.

use std::fmt;

use tracing::field::{Field, Visit};

/// The value of a field. What is neither a number nor a truth value is text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    I64(i64),
    U64(u64),
    F64(f64),
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::I64(value) => value.fmt(f),
            Self::U64(value) => value.fmt(f),
            Self::F64(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

/// The fields of an event: those with a meaning of their own, then the others in the order of their call site.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub message: String,
    /// What went wrong: the field `fault`, or `error`.
    pub error: Option<String>,
    /// The `traceparent` of the batch that it is about, where that is not the one at work.
    pub trace: Option<String>,
    pub others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match field.name() {
            "message" => self.message = value.to_string(),
            "fault" | "error" => self.error = Some(value.to_string()),
            "trace" => self.trace = Some(value.to_string()),
            name => self.others.push((name, value)),
        }
    }

    /// The value of one of the other fields.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.others.iter().find_map(|(known, value)| (*known == name).then_some(value))
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::I64(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::U64(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::F64(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::Text(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::Text(format!("{value:?}")));
    }
}
