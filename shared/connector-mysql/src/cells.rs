//! The raw row: what the server wrote, column by column. Hashed as it is, and decoded only where it changed.
//!
//! A cell is one byte, and unless that says NULL a length and so many bytes: self-delimiting, so that no two rows have
//! equal bytes.

use fides_core::{Decode, Fault, Key, Reader, Value, put_bytes};
use sqlx::mysql::MySqlRow;

use crate::include::{LARGE, MATCHES};
use crate::kind::MyType;
use crate::query::bytes;

/// How the rows of one selection are written and read.
#[derive(Debug)]
pub(crate) struct Cells {
    /// The table, for messages.
    pub(crate) place: String,
    /// Names and types of the columns, in the order of the selection.
    pub(crate) columns: Vec<(String, MyType)>,
    /// Which of them are the key.
    pub(crate) key: Vec<usize>,
    /// Names of the includes, behind the columns.
    pub(crate) includes: Vec<String>,
}

impl Cells {
    /// Appends the raw row, and the key that it has.
    pub(crate) fn put(&self, row: &MySqlRow, key: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.put_key(row, &self.key, key)?;
        for at in 0..self.columns.len() + self.includes.len() {
            match cell(row, at)? {
                Some(bytes) => {
                    out.push(1);
                    put_bytes(out, bytes);
                }
                None => out.push(0),
            }
        }
        Ok(())
    }

    /// Appends the key of a row whose key columns are at `places`.
    pub(crate) fn put_key(&self, row: &MySqlRow, places: &[usize], key: &mut Vec<u8>) -> Result<(), Fault> {
        for (&at, &place) in self.key.iter().zip(places) {
            let Some(bytes) = cell(row, place)? else { return Err(self.null_key(at)) };
            let value = self.value(at, bytes)?;
            if !crate::key::is_of(&value, self.columns[at].1) || self.is_out_of_order(at, &value) {
                let (name, ty) = &self.columns[at];
                return Err(Fault::permanent(format!(
                    "key column {}.{name} ({}) holds {}, which does not sort as one",
                    self.place,
                    ty.kind(),
                    fides_format::to_json(&value)
                ))
                .advise("correct the record, or the column's type"));
            }
            Key::encode_column(&value, key).map_err(|fault| fault.at(format_args!("table {}", self.place)))?;
        }
        Ok(())
    }

    /// Truth values sort before every number in the key encoding, and among them in the server.
    fn is_out_of_order(&self, at: usize, value: &Value<'_>) -> bool {
        self.columns[at].1 == MyType::Bool && !matches!(value, Value::Bool(_))
            || self.columns[at].1 == MyType::UuidText && matches!(value, Value::String(_))
    }

    fn null_key(&self, at: usize) -> Fault {
        Fault::permanent(format!("key column {}.{} holds NULL", self.place, self.columns[at].0))
            .advise("choose key columns that are declared NOT NULL and unique, or remove the record")
    }

    fn value<'a>(&self, at: usize, bytes: &'a [u8]) -> Result<Value<'a>, Fault> {
        let (name, ty) = &self.columns[at];
        ty.value(bytes).ok_or_else(|| {
            Fault::permanent(format!(
                "column {}.{name}: {:?} is not of kind {}",
                self.place,
                String::from_utf8_lossy(bytes),
                ty.kind()
            ))
            .advise("the column's type was changed: start the process anew")
        })
    }

    /// A record whose include has no value fails by itself, and no other.
    fn refuse(&self, name: &str, text: &str, values: &[Value<'_>]) -> Result<(), Fault> {
        let (what, advice) = if text.contains(MATCHES) {
            (
                "finds more than one match where `one` was declared",
                "declare it as `many`, or make the columns it is joined on unique",
            )
        } else if text.contains(LARGE) {
            ("is larger than max_allowed_packet", "raise max_allowed_packet of the server")
        } else {
            return Ok(());
        };
        let key: Vec<Value<'_>> = self.key.iter().filter_map(|&at| values.get(at).cloned()).collect();
        let key = Key::encode(&key).map_or_else(|_| "?".to_owned(), |key| key.to_string());
        Err(Fault::permanent(format!("record {key} of {}: include {name} {what}", self.place)).advise(advice))
    }
}

fn cell(row: &MySqlRow, at: usize) -> Result<Option<&[u8]>, Fault> {
    bytes(row, at).map_err(|error| crate::fault::fault(&format!("column {} of a row", at + 1), error))
}

impl Decode for Cells {
    fn decode<'a>(&self, row: &'a [u8], values: &mut Vec<Value<'a>>) -> Result<(), Fault> {
        values.clear();
        let mut reader = Reader::new(row, "row of MySQL");
        for at in 0..self.columns.len() {
            let value = if reader.u8()? == 0 { Value::Null } else { self.value(at, reader.bytes()?)? };
            values.push(value);
        }
        for name in &self.includes {
            if reader.u8()? == 0 {
                values.push(Value::Null);
            } else {
                let text = reader.str()?;
                self.refuse(name, text, values)?;
                values.push(Value::Json(text.into()));
            }
        }
        if reader.is_empty() { Ok(()) } else { Err(reader.corrupt()) }
    }
}
