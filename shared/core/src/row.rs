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

/// Reads what [`encode_value`] wrote, out of bytes that go on behind it.
pub fn read_value<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, Fault> {
    decode_value(reader, 0)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint;
    use proptest::prelude::*;

    /// Values that separators, escapes, NULLs and number formats could confuse.
    fn value() -> impl Strategy<Value = Value<'static>> {
        let text = prop_oneof!["[\\\\Nn\t,\u{0}\u{1}]{0,3}", "-?[0-9]{1,2}(\\.[0-9]{0,2})?", ".{0,4}"];
        let leaf = prop_oneof![
            Just(Value::Null),
            Just(Value::Absent),
            any::<bool>().prop_map(Value::Bool),
            (-2i64..3).prop_map(Value::I64),
            any::<i64>().prop_map(Value::I64),
            (0u64..3).prop_map(Value::U64),
            prop_oneof![Just(0.0), Just(-0.0), Just(1.0), any::<f64>()].prop_map(Value::F64),
            text.clone().prop_map(|text| Value::String(text.into())),
            text.clone().prop_map(|text| Value::Decimal(text.into())),
            text.clone().prop_map(|text| Value::Json(text.into())),
            text.prop_map(|text| Value::Bytes(text.into_bytes().into())),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
                prop::collection::vec(("[ab]{0,1}", inner), 0..3).prop_map(|fields| {
                    Value::Object(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
                }),
            ]
        })
    }

    fn bytes(row: &[Value<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_row(&mut bytes, row);
        bytes
    }

    /// Equal as rows: NaN is NaN, and the zeros have their signs.
    fn same(a: &[Value<'_>], b: &[Value<'_>]) -> bool {
        format!("{a:?}") == format!("{b:?}")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn different_rows_never_have_equal_fingerprints(
            a in prop::collection::vec(value(), 0..4), b in prop::collection::vec(value(), 0..4)
        ) {
            prop_assert_eq!(same(&a, &b), bytes(&a) == bytes(&b));
            prop_assert_eq!(same(&a, &b), fingerprint(&bytes(&a), 1) == fingerprint(&bytes(&b), 1));
            // Moved between columns, a value is another row.
            let joined: Vec<_> = a.iter().chain(&b).cloned().collect();
            let nested = vec![Value::Array(a.clone()), Value::Array(b.clone())];
            prop_assert_ne!(bytes(&joined), bytes(&nested));
        }

        #[test]
        fn a_row_survives_its_encoding(row in prop::collection::vec(value(), 0..5)) {
            let bytes = bytes(&row);
            prop_assert!(same(&decode_row(&bytes).unwrap(), &row));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode_row(&bytes);
        }
    }
}
