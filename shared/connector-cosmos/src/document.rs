//! Documents: rows as JSON, and back.

use fides_core::{Column, Fault, Key, Value};
use fides_format::{cast, parse_json, write_json};

use crate::layout::{KEY, Layout, key_of, key_text};
use crate::number;

/// What Cosmos takes.
const DOCUMENT_BYTES_MAX: usize = 2 << 20;

/// A row as the JSON of its document. What Cosmos cannot hold fails the record and names the field.
pub(crate) fn write(layout: &Layout, id: &str, key: &Key, version: &str, row: &[Value<'_>]) -> Result<String, Fault> {
    let mut json = String::with_capacity(256);
    json.push_str("{\"id\":");
    write_json(&Value::String(id.into()), &mut json);
    for (field, value) in layout.shape.fields.iter().zip(row) {
        // A field of that name is the key: the id says it, and the encoded key says it exactly.
        if field.name == "id" || matches!(value, Value::Absent) {
            continue;
        }
        json.push(',');
        write_json(&Value::String(field.name.as_str().into()), &mut json);
        json.push(':');
        put(value, &mut json).map_err(|fault| fault.at(format_args!("field {}", field.name)))?;
    }
    for (name, text) in [(KEY, key_text(key.as_bytes()).as_str()), (&layout.version_field, version)] {
        json.push(',');
        write_json(&Value::String(name.into()), &mut json);
        json.push(':');
        write_json(&Value::String(text.into()), &mut json);
    }
    json.push('}');
    if json.len() > DOCUMENT_BYTES_MAX {
        return Err(Fault::permanent(format!("the document has {} bytes, and Cosmos takes 2 MiB", json.len()))
            .advise("leave fields out, or split the record in the mapping"));
    }
    Ok(json)
}

/// Whole numbers that a float cannot hold and decimals are text; further down numbers are what they are in JSON.
fn put(value: &Value<'_>, json: &mut String) -> Result<(), Fault> {
    let refuse = |number: &str| {
        Fault::permanent(format!("the number {number} is none that Cosmos holds, whose numbers are 64 bit floats"))
            .advise("map it to text")
    };
    match value {
        Value::I64(number) if !number::is_whole((*number).into()) => text(&number.to_string(), json),
        Value::U64(number) if !number::is_whole((*number).into()) => text(&number.to_string(), json),
        Value::Decimal(number) => text(number, json),
        Value::F64(number) if !number.is_finite() => return Err(refuse(&number.to_string())),
        Value::Json(raw) => {
            let parsed = parse_json(raw)?;
            if let Some(number) = number::rounded(&parsed) {
                return Err(refuse(&number));
            }
            write_json(&parsed, json);
        }
        Value::Array(_) | Value::Object(_) => {
            if let Some(number) = number::rounded(value) {
                return Err(refuse(&number));
            }
            write_json(value, json);
        }
        value => write_json(value, json),
    }
    Ok(())
}

fn text(text: &str, json: &mut String) {
    write_json(&Value::String(text.into()), json);
}

/// A document that was read.
pub(crate) struct Document<'a>(Vec<(std::borrow::Cow<'a, str>, Value<'a>)>);

impl<'a> Document<'a> {
    /// Reads the JSON of a document.
    pub fn parse(json: &'a str) -> Result<Self, Fault> {
        match parse_json(json)? {
            Value::Object(fields) => Ok(Self(fields)),
            _ => Err(Fault::permanent("an item of a container is no JSON object")),
        }
    }

    /// All fields at its top.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value<'a>)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// A field at its top.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// A text at its top.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The encoded key that Fides wrote.
    pub fn key(&self) -> Result<Vec<u8>, Fault> {
        self.text(KEY)
            .and_then(key_of)
            .ok_or_else(|| Fault::permanent(format!("a document whose {KEY} is damaged: {:?}", self.text("id"))))
    }

    /// The fields of a selection. A value that is not of its column's kind, because somebody else wrote it, stays as it is.
    pub fn row(&self, columns: &[Column]) -> Vec<Value<'_>> {
        columns.iter().map(|column| self.get(&column.name).map_or(Value::Null, |value| read(value, column))).collect()
    }
}

fn read<'a>(value: &Value<'a>, column: &Column) -> Value<'a> {
    match cast(value.clone(), column.kind) {
        // JSON that is a scalar is kept as its text.
        Ok(read) if column.kind == fides_core::Kind::Json && matches!(value, Value::String(_)) => {
            drop(read);
            Value::Json(fides_format::to_json(value).into())
        }
        Ok(read) => read,
        Err(_) if column.kind == fides_core::Kind::Json => Value::Json(fides_format::to_json(value).into()),
        Err(_) => value.clone(),
    }
}
