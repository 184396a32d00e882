//! Lines of COPY's text format. A tab, a newline or a backslash inside a value is escaped and NULL is `\N`, so two
//! different rows never have equal lines: the raw line is what is fingerprinted.

use std::borrow::Cow;

use fides_core::{Decode, Fault, Key, Value};

use crate::kind::PgType;

/// The fields of a line.
pub(crate) struct Fields<'a>(Option<&'a [u8]>);

impl<'a> Fields<'a> {
    pub(crate) fn of(line: &'a [u8]) -> Self {
        Self(Some(line))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.0?;
        let Some(end) = memchr::memchr(b'\t', line) else {
            self.0 = None;
            return Some(line);
        };
        self.0 = Some(&line[end + 1..]);
        Some(&line[..end])
    }
}

/// The text of a field; `None` is NULL.
pub(crate) fn text(field: &[u8]) -> Result<Option<Cow<'_, str>>, Fault> {
    if field == b"\\N" {
        return Ok(None);
    }
    let utf8 = |_| Fault::permanent("a text is not UTF-8").advise("the database must have encoding UTF8");
    if memchr::memchr(b'\\', field).is_none() {
        return std::str::from_utf8(field).map(|text| Some(Cow::Borrowed(text))).map_err(utf8);
    }
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'v') => 11,
            Some(&other) => other,
            None => return Err(Fault::permanent("a line of COPY ends inside an escape")),
        });
    }
    String::from_utf8(bytes).map(|text| Some(Cow::Owned(text))).map_err(|error| utf8(error.utf8_error()))
}

/// The value of a field.
pub(crate) fn value<'a>(field: &'a [u8], ty: &PgType) -> Result<Value<'a>, Fault> {
    let Some(text) = text(field)? else { return Ok(Value::Null) };
    ty.value(text).ok_or_else(|| Fault::permanent(format!("`{}` is no {}", String::from_utf8_lossy(field), ty.kind())))
}

/// Appends a text as a field.
pub(crate) fn put(text: &str, out: &mut Vec<u8>) {
    for &byte in text.as_bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            _ => out.push(byte),
        }
    }
}

/// Appends a text as the very field that `COPY … TO` writes for it, or NULL.
pub(crate) fn put_as_server(text: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(mut rest) = text else { return out.extend_from_slice(b"\\N") };
    while let Some(at) = rest.iter().position(|byte| matches!(byte, 8..=13 | b'\\')) {
        out.extend_from_slice(&rest[..at]);
        let letter = match rest[at] {
            8 => b'b',
            9 => b't',
            10 => b'n',
            11 => b'v',
            12 => b'f',
            13 => b'r',
            other => other,
        };
        out.extend_from_slice(&[b'\\', letter]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Reads the lines of one selection: key columns first, then the others, then the includes.
#[derive(Debug)]
pub(crate) struct Lines {
    /// For messages.
    pub(crate) place: String,
    /// Types of the columns, and their positions in the selection, in the line's order.
    pub(crate) columns: Vec<(PgType, usize)>,
    /// How many of them are the key.
    pub(crate) key: usize,
    /// Names of the includes.
    pub(crate) includes: Vec<String>,
    /// Whether an include of arity one may have a second match.
    pub(crate) one: bool,
}

impl Lines {
    /// Appends the encoded key of a line.
    pub(crate) fn key(&self, line: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let mut fields = Fields::of(line);
        for (ty, _) in &self.columns[..self.key] {
            let field = fields.next().ok_or_else(|| self.damaged())?;
            Key::encode_column(&value(field, ty)?, out)?;
        }
        Ok(())
    }

    fn damaged(&self) -> Fault {
        Fault::permanent(format!("table {}: a line has another number of columns than was asked for", self.place))
    }
}

/// Begins the object that the query puts in place of a second match. Inside a JSON string its quotes would be escaped.
pub(crate) const MATCHES: &str = "{\"fides:matches\":";

impl Decode for Lines {
    fn decode<'a>(&self, row: &'a [u8], values: &mut Vec<Value<'a>>) -> Result<(), Fault> {
        values.clear();
        values.resize(self.columns.len(), Value::Null);
        let mut fields = Fields::of(row);
        for (ty, at) in &self.columns {
            let field = fields.next().ok_or_else(|| self.damaged())?;
            values[*at] = value(field, ty).map_err(|fault| fault.at(format!("table {}", self.place)))?;
        }
        for name in &self.includes {
            let field = fields.next().ok_or_else(|| self.damaged())?;
            let nested = value(field, &PgType::Json)?;
            if let Value::Json(text) = &nested
                && self.one
                && text.contains(MATCHES)
            {
                let mut key = Vec::new();
                self.key(row, &mut key)?;
                return Err(Fault::permanent(format!(
                    "record {} of {}: include {name} finds more than one match where `one` was declared",
                    Key::from_bytes(key),
                    self.place
                ))
                .advise("declare it as `many`, or make the columns it is joined on unique"));
            }
            values.push(nested);
        }
        if fields.next().is_some() {
            return Err(self.damaged());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_is_read(texts in prop::collection::vec("[^\\x00]*", 1..5)) {
            let mut line = Vec::new();
            for (at, text) in texts.iter().enumerate() {
                if at > 0 {
                    line.push(b'\t');
                }
                put(text, &mut line);
            }
            let read: Vec<Option<Cow<'_, str>>> = Fields::of(&line).map(|field| text(field).unwrap()).collect();
            prop_assert_eq!(read, texts.iter().map(|text| Some(Cow::Borrowed(text.as_str()))).collect::<Vec<_>>());
        }
    }

    fn any_type() -> impl Strategy<Value = PgType> {
        use PgType::{
            Array, Bool, Bytea, Date, Float, Int, Json, Numeric, Other, Text, Time, Timestamp, TimestampTz, Uuid,
            UuidText, Whole,
        };
        let scalars = [
            Bool,
            Int,
            Numeric,
            Whole,
            Float,
            Text,
            Bytea,
            Uuid,
            UuidText,
            Date,
            Time,
            Timestamp,
            TimestampTz,
            Json,
            Other,
        ];
        prop::sample::select(scalars.to_vec())
            .prop_flat_map(|ty| prop::sample::select(vec![Array(Box::new(ty.clone())), ty]))
    }

    /// Bytes, and what servers write with some of it changed.
    fn any_line() -> impl Strategy<Value = Vec<u8>> {
        const WRITTEN: &[&str] = &[
            "t",
            "-9223372036854775808",
            "1e-7",
            "NaN",
            "-Infinity",
            "\\\\x00ff",
            "2024-02-30",
            "24:00:00+15:59:59",
            "0001-01-01 00:00:00+00 BC",
            "infinity",
            "{1,NULL,\"a\\\\\"\"}",
            "{\"a\": [1.50, null]}",
            "\\N",
            "\\",
            "\t",
            "é",
            "00000000-0000-0000-0000-00000000000G",
        ];
        let part = prop_oneof![
            3 => prop::sample::select(WRITTEN).prop_map(|text| text.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..6),
        ];
        (prop::collection::vec(part, 0..5), 0..12_usize).prop_map(|(parts, drop)| {
            let mut line = parts.concat();
            if drop < line.len() {
                line.remove(drop);
            }
            line
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

        #[test]
        fn any_line_is_read_without_panic(
            line in any_line(), types in prop::collection::vec(any_type(), 1..4), includes in 0..2_usize, one: bool
        ) {
            let columns: Vec<(PgType, usize)> = types.into_iter().enumerate().map(|(at, ty)| (ty, at)).collect();
            let width = columns.len() + includes;
            let place = String::from("public.t");
            let lines = Lines { place, columns, key: 1, includes: vec![String::from("i"); includes], one };
            let mut values = Vec::new();
            match lines.decode(&line, &mut values) {
                Ok(()) => {
                    let fields = line.split(|byte| *byte == b'\t').count();
                    prop_assert_eq!((values.len(), fields), (width, width));
                }
                Err(fault) => prop_assert_eq!(fault.kind, fides_core::FaultKind::Permanent, "{}", fault),
            }
            let mut key = Vec::new();
            if lines.key(&line, &mut key).is_ok() {
                prop_assert!(Key::from_bytes(key).decode().is_ok());
            }
        }
    }

    #[test]
    fn null_is_not_the_text_backslash_n() {
        assert_eq!(value(b"\\N", &PgType::Text).unwrap(), Value::Null);
        assert_eq!(value(b"\\\\N", &PgType::Text).unwrap(), Value::String("\\N".into()));
    }
}
