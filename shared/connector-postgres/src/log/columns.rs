//! Where the columns that are needed lie in the rows of the log, and how a raw line is made of them.

use fides_core::{Fault, Key};

use super::message::{Described, Field, Tuple};
use crate::catalog::Relation;
use crate::copy_text::{Lines, put_as_server};

/// A column as it was when the log was opened.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) name: String,
    type_oid: u32,
    pub(super) native: String,
    /// Whether it is generated, and so not in the log.
    is_generated: bool,
}

impl Expected {
    /// The columns of these names, in their order.
    pub(super) fn all<'n>(relation: &Relation, names: impl Iterator<Item = &'n String>) -> Vec<Self> {
        let found = names.filter_map(|name| relation.column(name));
        found
            .map(|column| Self {
                name: column.name.clone(),
                type_oid: column.type_oid as u32,
                native: column.native.clone(),
                is_generated: column.generated,
            })
            .collect()
    }
}

/// A column of the log that is not the one that was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub(super) place: String,
    pub(super) column: String,
    pub(super) expected: String,
    pub(super) found: Found,
}

/// What is there instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// A type's OID.
    Type(u32),
    NoIdentity,
    /// The table has another name.
    Table(String),
}

/// Positions of the expected columns in a row of the log.
#[derive(Debug)]
pub(super) struct Columns(Vec<Option<Position>>);

#[derive(Clone, Copy, Debug)]
struct Position {
    at: usize,
    /// Whether an old row has its value.
    in_identity: bool,
}

impl Columns {
    /// Finds the columns; the first `identifying` of them must be told by old rows.
    pub(super) fn find(
        place: &str,
        expected: &[Expected],
        identifying: usize,
        described: &Described,
    ) -> Result<Self, Mismatch> {
        let position = |(number, expected): (usize, &Expected)| {
            if expected.is_generated {
                return Ok(None);
            }
            let mismatch = |found| Mismatch {
                place: place.to_owned(),
                column: expected.name.clone(),
                expected: expected.native.clone(),
                found,
            };
            let at = described.columns.iter().position(|column| column.name == expected.name);
            let at = at.ok_or_else(|| mismatch(Found::Nothing))?;
            let column = &described.columns[at];
            if column.type_oid != expected.type_oid {
                return Err(mismatch(Found::Type(column.type_oid)));
            }
            if number < identifying && !column.in_identity {
                return Err(mismatch(Found::NoIdentity));
            }
            Ok(Some(Position { at, in_identity: column.in_identity }))
        };
        Ok(Self(expected.iter().enumerate().map(position).collect::<Result<_, _>>()?))
    }

    /// Whether the log carries every one of them.
    pub(super) fn are_whole(&self) -> bool {
        self.0.iter().all(Option::is_some)
    }

    /// The value of column `number`: what an update did not touch is taken from the old row. `None` when it is in neither.
    pub(super) fn field<'a>(&self, number: usize, new: &Tuple<'a>, old: Option<&Tuple<'a>>) -> Option<Field<'a>> {
        let position = self.0.get(number).copied().flatten()?;
        match new.0.get(position.at)? {
            Field::Unchanged => match old?.0.get(position.at)? {
                Field::Text(text) if position.in_identity => Some(Field::Text(text)),
                _ => None,
            },
            field => Some(*field),
        }
    }

    /// Appends the first `count` fields as a line of COPY has them. `false` when one is not in the log; nothing is
    /// appended then.
    pub(super) fn put(&self, count: usize, new: &Tuple<'_>, old: Option<&Tuple<'_>>, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        for number in 0..count {
            if number > 0 {
                out.push(b'\t');
            }
            match self.field(number, new, old) {
                Some(Field::Text(text)) => put_as_server(Some(text), out),
                Some(_) => put_as_server(None, out),
                None => {
                    out.truncate(start);
                    return false;
                }
            }
        }
        true
    }

    /// Appends a whole line; as [`Columns::put`].
    pub(super) fn put_line(&self, new: &Tuple<'_>, old: Option<&Tuple<'_>>, out: &mut Vec<u8>) -> bool {
        self.put(self.0.len(), new, old, out)
    }

    /// The key of a row. Old rows have all of it: [`Columns::find`] made sure.
    pub(super) fn key(&self, lines: &Lines, new: &Tuple<'_>, old: Option<&Tuple<'_>>) -> Result<Key, NoKey> {
        let mut line = Vec::new();
        if !self.put(lines.key, new, old, &mut line) {
            let fault = Fault::permanent(format!("table {}: a change in the log has no key", lines.place));
            return Err(NoKey::Untold(fault.advise("set the table's REPLICA IDENTITY to FULL")));
        }
        key(lines, &line).map_err(NoKey::Unreadable)
    }
}

/// Why a change of the log has no key.
#[derive(Debug)]
pub(super) enum NoKey {
    /// The log does not carry it.
    Untold(Fault),
    /// No record has such a key: a NULL, or a value that its type does not hold.
    Unreadable(Fault),
}

/// Whether no two rows have the same key, not even in the middle of a transaction. Of the columns that identify a row PostgreSQL
/// makes sure of that, whose index may not be deferred; unless all of them do.
pub(super) fn are_apart(key: &[Expected], described: &Described) -> bool {
    let is_key = |name: &str| key.iter().any(|column| column.name == name);
    !described.is_full && described.columns.iter().all(|column| !column.in_identity || is_key(&column.name))
}

/// The key of a line.
pub(super) fn key(lines: &Lines, line: &[u8]) -> Result<Key, Fault> {
    let mut key = Vec::new();
    lines.key(line, &mut key).map_err(|fault| fault.at(format!("table {}", lines.place)))?;
    Ok(Key::from_bytes(key))
}
