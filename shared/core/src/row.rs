//! The positional row: values one after another, each with a tag and, where its size varies, a length.
//!
//! Self-delimiting, therefore injective: two different rows never have equal bytes, whatever separators, NULLs or
//! number formats they hold. Hosts that cannot hand over raw rows are fingerprinted over these bytes.

use std::borrow::Cow;

use crate::{Fault, Reader, Value, put_bytes, put_varint};

const NULL: u8 = 0;
const ABSENT: u8 = 1;
const FALSE: u8 = 2;
const TRUE: u8 = 3;
const I64: u8 = 4;
const U64: u8 = 5;
const DECIMAL: u8 = 6;
const F64: u8 = 7;
const STRING: u8 = 8;
const BYTES: u8 = 9;
const UUID: u8 = 10;
const DATE: u8 = 11;
const TIME: u8 = 12;
const TIMESTAMP: u8 = 13;
const ARRAY: u8 = 14;
const OBJECT: u8 = 15;
const JSON: u8 = 16;

/// Arrays and objects nest at most this deep in a row read from foreign bytes.
const DEPTH_MAX: usize = 64;

/// Appends a row.
pub fn encode_row(out: &mut Vec<u8>, values: &[Value<'_>]) {
    for value in values {
        encode_value(out, value);
    }
}

/// Appends one value of a row.
pub fn encode_value(out: &mut Vec<u8>, value: &Value<'_>) {
    let text = |out: &mut Vec<u8>, tag, text: &str| {
        out.push(tag);
        put_bytes(out, text.as_bytes());
    };
    match value {
        Value::Null => out.push(NULL),
        Value::Absent => out.push(ABSENT),
        Value::Bool(false) => out.push(FALSE),
        Value::Bool(true) => out.push(TRUE),
        Value::I64(value) => {
            out.push(I64);
            put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
        }
        Value::U64(value) => {
            out.push(U64);
            put_varint(out, *value);
        }
        Value::F64(value) => {
            out.push(F64);
            let canonical = if value.is_nan() { f64::NAN } else { *value };
            out.extend_from_slice(&canonical.to_bits().to_be_bytes());
        }
        Value::Uuid(value) => {
            out.push(UUID);
            out.extend_from_slice(value);
        }
        Value::Decimal(value) => text(out, DECIMAL, value),
        Value::String(value) => text(out, STRING, value),
        Value::Date(value) => text(out, DATE, value),
        Value::Time(value) => text(out, TIME, value),
        Value::Timestamp(value) => text(out, TIMESTAMP, value),
        Value::Json(value) => text(out, JSON, value),
        Value::Bytes(value) => {
            out.push(BYTES);
            put_bytes(out, value);
        }
        Value::Array(items) => {
            out.push(ARRAY);
            put_varint(out, items.len() as u64);
            encode_row(out, items);
        }
        Value::Object(fields) => {
            out.push(OBJECT);
            put_varint(out, fields.len() as u64);
            for (name, value) in fields {
                put_bytes(out, name.as_bytes());
                encode_value(out, value);
            }
        }
    }
}

/// Decodes a row, borrowing its texts from `bytes`.
pub fn decode_row(bytes: &[u8]) -> Result<Vec<Value<'_>>, Fault> {
    let mut values = Vec::new();
    decode_row_into(bytes, &mut values)?;
    Ok(values)
}

/// Decodes a row into `values`, which is emptied first.
pub fn decode_row_into<'a>(bytes: &'a [u8], values: &mut Vec<Value<'a>>) -> Result<(), Fault> {
    values.clear();
    let mut reader = Reader::new(bytes, "row");
    while !reader.is_empty() {
        values.push(decode_value(&mut reader, 0)?);
    }
    Ok(())
}

fn decode_value<'a>(reader: &mut Reader<'a>, depth: usize) -> Result<Value<'a>, Fault> {
    if depth > DEPTH_MAX {
        return Err(reader.corrupt());
    }
    Ok(match reader.u8()? {
        NULL => Value::Null,
        ABSENT => Value::Absent,
        FALSE => Value::Bool(false),
        TRUE => Value::Bool(true),
        I64 => {
            let zigzag = reader.varint()?;
            Value::I64((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
        }
        U64 => Value::U64(reader.varint()?),
        F64 => Value::F64(f64::from_bits(u64::from_be_bytes(reader.array()?))),
        UUID => Value::Uuid(reader.array()?),
        DECIMAL => Value::Decimal(Cow::Borrowed(reader.str()?)),
        STRING => Value::String(Cow::Borrowed(reader.str()?)),
        BYTES => Value::Bytes(Cow::Borrowed(reader.bytes()?)),
        DATE => Value::Date(Cow::Borrowed(reader.str()?)),
        TIME => Value::Time(Cow::Borrowed(reader.str()?)),
        TIMESTAMP => Value::Timestamp(Cow::Borrowed(reader.str()?)),
        JSON => Value::Json(Cow::Borrowed(reader.str()?)),
        ARRAY => {
            let count = reader.count()?;
            Value::Array((0..count).map(|_| decode_value(reader, depth + 1)).collect::<Result<_, _>>()?)
        }
        OBJECT => {
            let count = reader.count()?;
            let field = |_| Ok((Cow::Borrowed(reader.str()?), decode_value(reader, depth + 1)?));
            Value::Object((0..count).map(field).collect::<Result<_, Fault>>()?)
        }
        _ => return Err(reader.corrupt()),
    })
}
