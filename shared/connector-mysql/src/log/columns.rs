//! The columns whose values are needed of a row of the log, made into what a scan reads of them.

use std::borrow::Cow;

use fides_core::{Fault, Key, Kind, Value};
use fides_format::text::uuid_text;

use super::decimal;
use super::row::{Field, Form, ty};
use crate::catalog::{Attribute, Relation};
use crate::key::is_of;
use crate::kind::MyType;
use crate::quote;

/// A column as the catalog has it.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) name: String,
    native: String,
    base: String,
    /// How it is read.
    pub(super) ty: MyType,
    charset: Option<String>,
    length: Option<usize>,
    is_unsigned: bool,
    /// The words of an ENUM or a SET.
    words: Vec<String>,
    /// Where it is, if the log tells no names.
    at: usize,
}

impl Expected {
    /// Column `at` of a table, read as `kind`.
    pub(super) fn new(at: usize, column: &Attribute, kind: Option<Kind>) -> Self {
        Self {
            name: column.name.clone(),
            native: column.native.clone(),
            base: column.base.clone(),
            ty: kind.map_or(column.ty, |kind| column.ty.read_as(kind)),
            charset: column.charset.clone(),
            length: column.length_max,
            is_unsigned: column.native.to_ascii_lowercase().contains("unsigned"),
            words: if matches!(column.base.as_str(), "enum" | "set") { words(&column.native) } else { Vec::new() },
            at,
        }
    }

    /// The columns of these names, in their order.
    pub(super) fn all<'n>(relation: &Relation, names: impl Iterator<Item = (&'n str, Option<Kind>)>) -> Vec<Self> {
        let find = |(name, kind): (&str, _)| {
            let at = relation.columns.iter().position(|column| column.name == name)?;
            Some(Self::new(at, &relation.columns[at], kind))
        };
        names.filter_map(find).collect()
    }

    /// Why its values are not read from the log; `None` when they are.
    pub(super) fn refused(&self) -> Option<String> {
        if self.native.to_ascii_lowercase().contains("compressed") {
            return Some("is COMPRESSED".to_owned());
        }
        let is_known = match self.ty {
            MyType::Bool
            | MyType::Int
            | MyType::Unsigned
            | MyType::Bit
            | MyType::Decimal
            | MyType::Whole
            | MyType::Bytes
            | MyType::Uuid
            | MyType::UuidBytes => true,
            MyType::Text | MyType::UuidText => return self.refused_charset(),
            _ => self.base == "uuid",
        };
        (!is_known).then(|| format!("is of type {}", self.native))
    }

    fn refused_charset(&self) -> Option<String> {
        if self.base == "uuid" || !self.words.is_empty() {
            return None;
        }
        let charset = self.charset.as_deref().unwrap_or_default();
        let is_known = matches!(charset, "utf8mb4" | "utf8mb3" | "utf8" | "ascii" | "latin1");
        (!is_known).then(|| format!("is of character set {charset}"))
    }

    /// The value as the server would write it as text; `None` where it is in a form that is not known.
    fn text<'a>(&self, form: &Form, bytes: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let text = |text: String| Some(Cow::Owned(text.into_bytes()));
        match form.real() {
            ty::TINY | ty::SHORT | ty::INT24 | ty::LONG | ty::LONGLONG => text(self.integer(bytes)),
            ty::YEAR => {
                text(bytes.first().map_or(0, |year| if *year == 0 { 0 } else { 1_900 + u16::from(*year) }).to_string())
            }
            ty::DECIMAL => text(decimal::text(form.meta, bytes)?),
            ty::BIT => Some(Cow::Borrowed(bytes)),
            ty::ENUM => {
                let number = little(bytes) as usize;
                text(if number == 0 { String::new() } else { self.words.get(number - 1)?.clone() })
            }
            ty::SET => {
                let set = little(bytes);
                let chosen = self.words.iter().enumerate().filter(|(at, _)| *at < 64 && set & (1 << at) != 0);
                text(chosen.map(|(_, word)| word.as_str()).collect::<Vec<_>>().join(","))
            }
            ty::STRING if self.base == "uuid" => text(uuid_text(&uuid(&padded(bytes, 16))?)),
            ty::STRING if self.base == "binary" => Some(padded(bytes, self.length?)),
            ty::VARCHAR | ty::STRING | 249..=252 => match self.charset.as_deref() {
                Some("latin1") => text(latin1(bytes)),
                _ => Some(Cow::Borrowed(bytes)),
            },
            _ => None,
        }
    }

    fn integer(&self, bytes: &[u8]) -> String {
        let number = little(bytes);
        if self.is_unsigned || bytes.is_empty() {
            return number.to_string();
        }
        let unused = 64 - 8 * bytes.len().min(8) as u32;
        ((number << unused).cast_signed() >> unused).to_string()
    }

    /// The value as a literal that the column itself is compared with; `None` where it is in a form that is not known.
    fn literal(&self, form: &Form, bytes: &[u8]) -> Option<String> {
        let mut out = String::new();
        match form.real() {
            ty::VARCHAR | ty::STRING | 249..=252 if self.base != "uuid" => {
                // In its own character set, whatever that is: then its collation decides.
                if let Some(charset) = &self.charset {
                    out.extend(["_", charset, " "]);
                    quote::put_bytes(bytes, &mut out);
                } else {
                    quote::put_bytes(&self.text(form, bytes)?, &mut out);
                }
            }
            ty::BIT => {
                out.push_str(&bytes.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte)).to_string());
            }
            ty::ENUM | ty::SET | ty::STRING => {
                quote::put_text(std::str::from_utf8(&self.text(form, bytes)?).ok()?, &mut out);
            }
            _ => out.push_str(std::str::from_utf8(&self.text(form, bytes)?).ok()?),
        }
        Some(out)
    }
}

fn little(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The log leaves the zeros at the end of a fixed length out.
fn padded(bytes: &[u8], length: usize) -> Cow<'_, [u8]> {
    if bytes.len() >= length {
        return Cow::Borrowed(bytes);
    }
    let mut padded = bytes.to_vec();
    padded.resize(length, 0);
    Cow::Owned(padded)
}

/// MariaDB keeps UUIDs of versions 1 to 5 with their groups backward, so that those of one machine are neighbours.
fn uuid(kept: &[u8]) -> Option<[u8; 16]> {
    let kept: [u8; 16] = kept.try_into().ok()?;
    let is_swapped = kept[6] & 0x80 != 0 && (0x01..0x60).contains(&kept[8]);
    if !is_swapped {
        return Some(kept);
    }
    let mut uuid = [0; 16];
    let groups = [(0..4, 12), (4..6, 10), (6..8, 8), (8..10, 6), (10..16, 0)];
    for (group, from) in groups {
        let length = group.len();
        uuid[group].copy_from_slice(&kept[from..from + length]);
    }
    Some(uuid)
}

/// MySQL's latin1 is cp1252, with the control characters where that has nothing.
fn latin1(bytes: &[u8]) -> String {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘',
        '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    let char = |byte: &u8| match byte {
        0x80..=0x9f => HIGH[usize::from(byte - 0x80)],
        byte => char::from(*byte),
    };
    bytes.iter().map(char).collect()
}

/// The words of `enum('a','it''s')`.
fn words(native: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut chars = native.chars().peekable();
    while let Some(char) = chars.next() {
        match (&mut word, char) {
            (None, '\'') => word = Some(String::new()),
            (None, _) => {}
            (Some(text), '\'') if chars.peek() == Some(&'\'') => {
                chars.next();
                text.push('\'');
            }
            (Some(_), '\'') => words.extend(word.take()),
            (Some(text), '\\') => text.push(match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('0') => '\0',
                Some(other) => other,
                None => '\\',
            }),
            (Some(text), char) => text.push(char),
        }
    }
    words
}

/// Where the expected columns lie in the rows of a table.
#[derive(Debug)]
pub(super) struct Columns {
    columns: Vec<(Expected, usize)>,
    place: String,
}

/// The values that a row has of some columns.
pub(super) enum Told<T> {
    All(T),
    /// One of them is NULL.
    Null,
    /// One of them is not in the log.
    Absent,
}

impl Columns {
    /// Finds the columns by their names; where the log tells none, by their places.
    pub(super) fn find(place: &str, expected: &[Expected], count: usize, forms: &[Form]) -> Result<Self, Fault> {
        let has_names = forms.iter().all(|form| form.name.is_some());
        if !has_names && forms.len() != count {
            return Err(Fault::permanent(format!(
                "table {place} has {} columns in the log, without their names, and {count} in the database",
                forms.len()
            ))
            .advise("run: SET GLOBAL binlog_row_metadata = 'FULL'; and begin anew behind the change of the table"));
        }
        let position = |expected: &Expected| {
            if !has_names {
                return Ok((expected.clone(), expected.at));
            }
            let at = forms.iter().position(|form| form.name.as_deref() == Some(&expected.name));
            at.map(|at| (expected.clone(), at)).ok_or_else(|| {
                Fault::permanent(format!("table {place}: column {} is not in the log", expected.name))
                    .advise("the table was changed since: what the log has of the time before cannot be read")
            })
        };
        let columns = expected.iter().map(position).collect::<Result<_, _>>()?;
        Ok(Self { columns, place: place.to_owned() })
    }

    fn told<'a>(&self, number: usize, row: &[Field<'a>], old: Option<&[Field<'a>]>) -> Field<'a> {
        let at = self.columns[number].1;
        match row.get(at).copied().unwrap_or(Field::Absent) {
            // An image without what did not change.
            Field::Absent => old.and_then(|old| old.get(at).copied()).unwrap_or(Field::Absent),
            told => told,
        }
    }

    fn each<T>(
        &self,
        forms: &[Form],
        (row, old): (&[Field<'_>], Option<&[Field<'_>]>),
        mut take: impl FnMut(&Expected, &Form, &[u8]) -> Option<T>,
    ) -> Result<Told<Vec<T>>, Fault> {
        let mut all = Vec::with_capacity(self.columns.len());
        for (number, (expected, at)) in self.columns.iter().enumerate() {
            match self.told(number, row, old) {
                Field::Absent => return Ok(Told::Absent),
                Field::Null => return Ok(Told::Null),
                Field::Bytes(bytes) => all.push(take(expected, &forms[*at], bytes).ok_or_else(|| {
                    Fault::permanent(format!(
                        "column {}.{} ({}): the log has a value of another type ({})",
                        self.place, expected.name, expected.native, forms[*at].ty
                    ))
                    .advise("the column was changed since: what the log has of the time before cannot be read")
                })?),
            }
        }
        Ok(Told::All(all))
    }

    /// The key of a row, just as a scan encodes it.
    pub(super) fn key(&self, forms: &[Form], row: &[Field<'_>], old: Option<&[Field<'_>]>) -> Result<Told<Key>, Fault> {
        let mut key = Vec::new();
        let told = self.each(forms, (row, old), |expected, form, bytes| {
            let text = expected.text(form, bytes)?;
            let value: Value<'_> = expected.ty.value(&text)?;
            (is_of(&value, expected.ty)).then(|| Key::encode_column(&value, &mut key))
        })?;
        Ok(match told {
            Told::All(encoded) => {
                encoded
                    .into_iter()
                    .collect::<Result<(), Fault>>()
                    .map_err(|fault| fault.at(format!("table {}", self.place)))?;
                Told::All(Key::from_bytes(key))
            }
            Told::Null => Told::Null,
            Told::Absent => Told::Absent,
        })
    }

    /// The values of a row as literals.
    pub(super) fn literals(
        &self,
        forms: &[Form],
        row: &[Field<'_>],
        old: Option<&[Field<'_>]>,
    ) -> Result<Told<Vec<String>>, Fault> {
        self.each(forms, (row, old), Expected::literal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_an_enum_are_read() {
        assert_eq!(words("enum('a','it''s','b\\\\c','')"), ["a", "it's", "b\\c", ""]);
        assert!(words("int(11)").is_empty());
    }

    #[test]
    fn a_uuid_is_put_in_order_again() {
        let uuid_1 = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x41, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x00];
        let kept = [0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x00, 0x99, 0xaa, 0x41, 0x88, 0x55, 0x66, 0x11, 0x22, 0x33, 0x44];
        assert_eq!(uuid(&kept), Some(uuid_1));
        let mut version_7 = uuid_1;
        version_7[6] = 0x71;
        assert_eq!(uuid(&version_7), Some(version_7), "kept as it is written");
    }

    #[test]
    fn latin1_is_that_of_mysql() {
        assert_eq!(latin1(b"caf\xe9 \x80\x81"), "café €\u{81}");
    }
}
