use std::borrow::{Borrow, Cow};
use std::fmt;

use crate::{Fault, Value};

const FALSE: u8 = 0x08;
const TRUE: u8 = 0x09;
const NEGATIVE: u8 = 0x0f;
const NON_NEGATIVE: u8 = 0x10;
const TEXT: u8 = 0x20;
const UUID: u8 = 0x30;
const BYTES: u8 = 0x40;

/// A record's identity: one or more typed columns in an encoding whose byte order is the order of the columns.
///
/// Integers (signed and unsigned in one order), booleans, text (by code point, which is `COLLATE "C"`), UUIDs and bytes.
/// Text and bytes escape `00` as `00 ff` and end with `00 00`, so that no prefix can sort after its extension.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<[u8]>);

impl Key {
    /// Encodes the columns of a key. NULL and kinds without one order in every store are Permanent faults.
    pub fn encode(columns: &[Value<'_>]) -> Result<Self, Fault> {
        let mut bytes = Vec::with_capacity(9 * columns.len());
        Self::encode_into(columns, &mut bytes)?;
        Ok(Self(bytes.into()))
    }

    /// Appends the encoding of a key to `out`.
    pub fn encode_into(columns: &[Value<'_>], out: &mut Vec<u8>) -> Result<(), Fault> {
        columns.iter().try_for_each(|column| Self::encode_column(column, out))
    }

    /// Appends the encoding of one key column to `out`.
    pub fn encode_column(column: &Value<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        match column {
            Value::Bool(value) => out.push(if *value { TRUE } else { FALSE }),
            Value::I64(value) => {
                out.push(if *value < 0 { NEGATIVE } else { NON_NEGATIVE });
                out.extend_from_slice(&value.to_be_bytes());
            }
            Value::U64(value) => {
                out.push(NON_NEGATIVE);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Value::Uuid(value) => {
                out.push(UUID);
                out.extend_from_slice(value);
            }
            Value::String(value) => put_escaped(out, TEXT, value.as_bytes()),
            Value::Bytes(value) => put_escaped(out, BYTES, value),
            Value::Null | Value::Absent => {
                return Err(Fault::permanent("a key column is NULL")
                    .advise("choose key columns that are declared NOT NULL and unique"));
            }
            other => {
                let kind = other.kind().map_or("null", crate::Kind::name);
                return Err(Fault::permanent(format!(
                    "a key column of kind {kind} has no order that every store shares"
                ))
                .advise("use columns of kind i64, u64, bool, string, uuid or bytes as the key"));
            }
        }
        Ok(())
    }

    /// Takes bytes that [`Key::encode`] made.
    pub fn from_bytes(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The encoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The columns of the key.
    pub fn decode(&self) -> Result<Vec<Value<'static>>, Fault> {
        decode(&self.0).ok_or_else(|| Fault::permanent(format!("key {:02x?} is damaged", &self.0)))
    }
}

fn put_escaped(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    for &byte in bytes {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

fn take_escaped(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        match (*rest.first()?, rest.get(1)) {
            (0, Some(0)) => {
                *rest = &rest[2..];
                return Some(bytes);
            }
            (0, Some(0xff)) => {
                bytes.push(0);
                *rest = &rest[2..];
            }
            (0, _) => return None,
            (byte, _) => {
                bytes.push(byte);
                *rest = &rest[1..];
            }
        }
    }
}

fn decode(mut rest: &[u8]) -> Option<Vec<Value<'static>>> {
    let mut columns = Vec::new();
    while let Some((&tag, tail)) = rest.split_first() {
        rest = tail;
        columns.push(match tag {
            FALSE => Value::Bool(false),
            TRUE => Value::Bool(true),
            NEGATIVE | NON_NEGATIVE => {
                let (number, tail) = rest.split_first_chunk::<8>()?;
                rest = tail;
                let value = i64::from_be_bytes(*number);
                match (tag, value < 0) {
                    (NEGATIVE, true) | (NON_NEGATIVE, false) => Value::I64(value),
                    (NON_NEGATIVE, true) => Value::U64(value as u64),
                    // Not what is encoded: it would sort before numbers that it is greater than.
                    _ => return None,
                }
            }
            UUID => {
                let (uuid, tail) = rest.split_first_chunk::<16>()?;
                rest = tail;
                Value::Uuid(*uuid)
            }
            TEXT => Value::String(Cow::Owned(String::from_utf8(take_escaped(&mut rest)?).ok()?)),
            BYTES => Value::Bytes(Cow::Owned(take_escaped(&mut rest)?)),
            _ => return None,
        });
    }
    Some(columns)
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// As people write it: columns joined by `/` (`42`, `de/berlin`, `\x00ff` for bytes).
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(columns) = decode(&self.0) else {
            return write!(f, "{:02x?}", &self.0);
        };
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                f.write_str("/")?;
            }
            match column {
                Value::Bool(value) => write!(f, "{value}")?,
                Value::I64(value) => write!(f, "{value}")?,
                Value::U64(value) => write!(f, "{value}")?,
                Value::String(value) => f.write_str(value)?,
                Value::Uuid(bytes) => {
                    for (at, byte) in bytes.iter().enumerate() {
                        let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
                        write!(f, "{dash}{byte:02x}")?;
                    }
                }
                Value::Bytes(bytes) => {
                    f.write_str("\\x")?;
                    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                }
                _ => f.write_str("?")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A range of keys, the unit of planning: from `lower` (inclusive) to `upper` (exclusive); `None` is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// First key that belongs to the range.
    pub lower: Option<Key>,
    /// First key that no longer does.
    pub upper: Option<Key>,
}

impl KeyRange {
    /// Every key.
    pub const ALL: KeyRange = KeyRange { lower: None, upper: None };

    /// Whether the range holds `key`.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.lower.as_ref().is_none_or(|lower| lower.as_bytes() <= key)
            && self.upper.as_ref().is_none_or(|upper| key < upper.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cmp::Ordering;

    fn column() -> impl Strategy<Value = Value<'static>> {
        prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::I64),
            (-3i64..3).prop_map(Value::I64),
            (i64::MAX as u64..).prop_map(Value::U64),
            ".*".prop_map(|text| Value::String(text.into())),
            "[\\x00ab]{0,4}".prop_map(|text| Value::String(text.into())),
            any::<[u8; 16]>().prop_map(Value::Uuid),
            prop::collection::vec(0u8..3, 0..4).prop_map(|bytes| Value::Bytes(bytes.into())),
        ]
    }

    /// Numbers before text before bytes, as SQLite orders them, whose undeclared keys may mix all three. Of the other
    /// kinds a column holds one only, but their places are fixed too.
    fn order(a: &Value<'_>, b: &Value<'_>) -> Ordering {
        let place = |value: &Value<'_>| match value {
            Value::Bool(_) => 0,
            Value::I64(_) | Value::U64(_) => 1,
            Value::String(_) => 2,
            Value::Uuid(_) => 3,
            _ => 4,
        };
        let number = |value: &Value<'_>| match value {
            Value::I64(value) => i128::from(*value),
            Value::U64(value) => i128::from(*value),
            _ => 0,
        };
        match (a, b) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            _ => place(a).cmp(&place(b)).then(number(a).cmp(&number(b))),
        }
    }

    proptest! {
        #[test]
        fn encoding_keeps_the_order_and_every_value(
            a in prop::collection::vec(column(), 1..4), b in prop::collection::vec(column(), 1..4)
        ) {
            let (ka, kb) = (Key::encode(&a).unwrap(), Key::encode(&b).unwrap());
            let differing = a.iter().zip(&b).map(|(a, b)| order(a, b)).find(|order| order.is_ne());
            prop_assert_eq!(ka.cmp(&kb), differing.unwrap_or(a.len().cmp(&b.len())));
            let number = |value: &Value<'_>| Key::encode(std::slice::from_ref(value)).unwrap();
            let back: Vec<Key> = ka.decode().unwrap().iter().map(number).collect();
            prop_assert_eq!(back, a.iter().map(number).collect::<Vec<_>>());
        }
    }

    #[test]
    fn null_and_unordered_kinds_are_refused_with_advice() {
        let fault = Key::encode(&[Value::Null]).unwrap_err();
        assert!(fault.to_string().contains("NULL") && fault.to_string().contains("NOT NULL"), "{fault}");
        let fault = Key::encode(&[Value::F64(1.0)]).unwrap_err();
        assert!(fault.to_string().contains("f64"), "{fault}");
    }
}
