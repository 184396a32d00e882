//! Tables and their rows in the log: what of a row Fides needs, and the lengths of all that it passes over.

use std::borrow::Cow;

use super::decimal;
use super::event::{Bytes, inflated, kind};

/// Which table the rows behind it are of.
pub(super) struct TableMap<'a> {
    pub(super) id: u64,
    pub(super) database: &'a str,
    pub(super) table: &'a str,
    rest: Bytes<'a>,
}

/// A column in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Where the server tells it: `binlog_row_metadata` is FULL.
    pub(super) name: Option<String>,
    pub(super) ty: u8,
    pub(super) meta: [u8; 2],
}

/// Numbers of types.
pub(super) mod ty {
    pub(in super::super) const TINY: u8 = 1;
    pub(in super::super) const SHORT: u8 = 2;
    pub(in super::super) const LONG: u8 = 3;
    pub(in super::super) const FLOAT: u8 = 4;
    pub(in super::super) const DOUBLE: u8 = 5;
    pub(in super::super) const TIMESTAMP: u8 = 7;
    pub(in super::super) const LONGLONG: u8 = 8;
    pub(in super::super) const INT24: u8 = 9;
    pub(in super::super) const DATE: u8 = 10;
    pub(in super::super) const TIME: u8 = 11;
    pub(in super::super) const DATETIME: u8 = 12;
    pub(in super::super) const YEAR: u8 = 13;
    pub(in super::super) const NEWDATE: u8 = 14;
    pub(in super::super) const VARCHAR: u8 = 15;
    pub(in super::super) const BIT: u8 = 16;
    pub(in super::super) const TIMESTAMP2: u8 = 17;
    pub(in super::super) const DATETIME2: u8 = 18;
    pub(in super::super) const TIME2: u8 = 19;
    pub(in super::super) const BLOB_COMPRESSED: u8 = 140;
    pub(in super::super) const VARCHAR_COMPRESSED: u8 = 141;
    pub(in super::super) const VECTOR: u8 = 242;
    pub(in super::super) const JSON: u8 = 245;
    pub(in super::super) const DECIMAL: u8 = 246;
    pub(in super::super) const ENUM: u8 = 247;
    pub(in super::super) const SET: u8 = 248;
    pub(in super::super) const VAR_STRING: u8 = 253;
    pub(in super::super) const STRING: u8 = 254;
    pub(in super::super) const GEOMETRY: u8 = 255;
}

/// Names of columns, among what a server may tell of a table.
const NAMES: u8 = 4;

impl<'a> TableMap<'a> {
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let mut body = Bytes(body);
        let id = body.number(6)?;
        body.take(2)?;
        let mut name = || {
            let length = body.length(1)?;
            let name = std::str::from_utf8(body.take(length)?).ok()?;
            body.take(1)?;
            Some(name)
        };
        let (database, table) = (name()?, name()?);
        Some(Self { id, database, table, rest: body })
    }

    /// Its columns.
    pub(super) fn columns(&self) -> Option<Vec<Form>> {
        let mut rest = self.rest;
        let count = rest.packed()?;
        let types = rest.take(count)?;
        let length = rest.packed()?;
        let mut metas = Bytes(rest.take(length)?);
        let form = |&ty: &u8| {
            let mut meta = [0; 2];
            let width = meta_width(ty);
            meta[..width].copy_from_slice(metas.take(width)?);
            Some(Form { name: None, ty, meta })
        };
        let mut columns = types.iter().map(form).collect::<Option<Vec<_>>>()?;
        rest.take(count.div_ceil(8))?;
        while !rest.0.is_empty() {
            let what = rest.length(1)?;
            let length = rest.packed()?;
            let mut told = Bytes(rest.take(length)?);
            if what == usize::from(NAMES) {
                for column in &mut columns {
                    let length = told.packed()?;
                    column.name = Some(std::str::from_utf8(told.take(length)?).ok()?.to_owned());
                }
            }
        }
        Some(columns)
    }
}

/// How many bytes the description of a type has.
fn meta_width(ty: u8) -> usize {
    match ty {
        ty::FLOAT
        | ty::DOUBLE
        | ty::TIMESTAMP2
        | ty::DATETIME2
        | ty::TIME2
        | ty::BLOB_COMPRESSED
        | ty::VECTOR
        | ty::JSON
        | 249..=252
        | ty::GEOMETRY => 1,
        ty::VARCHAR
        | ty::BIT
        | ty::VARCHAR_COMPRESSED
        | ty::DECIMAL
        | ty::ENUM
        | ty::SET
        | ty::VAR_STRING
        | ty::STRING => 2,
        _ => 0,
    }
}

impl Form {
    /// What hides behind STRING: an ENUM, a SET, or a text whose length has bits in the type.
    pub(super) fn real(&self) -> u8 {
        match (self.ty, self.meta[0]) {
            (ty::STRING, real @ (ty::ENUM | ty::SET)) => real,
            _ => self.ty,
        }
    }

    /// The bytes of a value, without its length.
    fn value<'a>(&self, row: &mut Bytes<'a>) -> Option<&'a [u8]> {
        let fraction = usize::from(self.meta[0].div_ceil(2));
        let length = match self.real() {
            ty::TINY | ty::YEAR => 1,
            ty::SHORT => 2,
            ty::INT24 | ty::DATE | ty::TIME | ty::NEWDATE => 3,
            ty::LONG | ty::FLOAT | ty::TIMESTAMP => 4,
            ty::LONGLONG | ty::DOUBLE | ty::DATETIME => 8,
            ty::TIMESTAMP2 => 4 + fraction,
            ty::DATETIME2 => 5 + fraction,
            ty::TIME2 => 3 + fraction,
            ty::BIT => usize::from(self.meta[1]) + usize::from(self.meta[0] > 0),
            ty::DECIMAL => decimal::width(self.meta),
            ty::ENUM | ty::SET => usize::from(self.meta[1]),
            ty::VARCHAR | ty::VARCHAR_COMPRESSED | ty::VAR_STRING => {
                row.length(if u16::from_le_bytes(self.meta) > 255 { 2 } else { 1 })?
            }
            ty::STRING => row.length(if self.string_bytes_max() > 255 { 2 } else { 1 })?,
            ty::BLOB_COMPRESSED | ty::VECTOR | ty::JSON | 249..=252 | ty::GEOMETRY => {
                row.length(usize::from(self.meta[0]))?
            }
            _ => return None,
        };
        row.take(length)
    }

    /// Two bits of the length of a CHAR are in its type, inverted.
    fn string_bytes_max(&self) -> usize {
        usize::from(self.meta[1]) | usize::from((self.meta[0] & 0x30) ^ 0x30) << 4
    }
}

/// A value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field<'a> {
    /// It is not in the log.
    Absent,
    Null,
    Bytes(&'a [u8]),
}

/// What happened to rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Did {
    Write,
    Update,
    Delete,
}

impl Did {
    /// What an event of rows tells; `None` when it is another event.
    pub(super) fn of(kind: u8) -> Option<Self> {
        match kind {
            kind::WRITE_1 | kind::WRITE_2 | kind::WRITE_COMPRESSED => Some(Self::Write),
            kind::UPDATE_1 | kind::UPDATE_2 | kind::UPDATE_COMPRESSED => Some(Self::Update),
            kind::DELETE_1 | kind::DELETE_2 | kind::DELETE_COMPRESSED => Some(Self::Delete),
            _ => None,
        }
    }
}

/// Rows of one table.
pub(super) struct Rows<'a> {
    pub(super) did: Did,
    pub(super) table: u64,
    /// Which columns the first image of each row has, and the second.
    present: [&'a [u8]; 2],
    width: usize,
    rows: Cow<'a, [u8]>,
}

impl<'a> Rows<'a> {
    pub(super) fn read(did: Did, kind: u8, body: &'a [u8]) -> Option<Self> {
        let mut body = Bytes(body);
        let table = body.number(6)?;
        body.take(2)?;
        if matches!(kind, kind::WRITE_2..=kind::DELETE_2) {
            let extra = body.length(2)?.checked_sub(2)?;
            body.take(extra)?;
        }
        let width = body.packed()?;
        let first = body.take(width.div_ceil(8))?;
        let second = if did == Did::Update { body.take(width.div_ceil(8))? } else { first };
        let rows = inflated(body.0, kind >= kind::WRITE_COMPRESSED)?;
        Some(Self { did, table, present: [first, second], width, rows })
    }

    /// Hands each change over: its old row and its new one, in the order of the columns.
    pub(super) fn each<E>(
        &self,
        columns: &[Form],
        mut take: impl FnMut(Option<&[Field<'_>]>, Option<&[Field<'_>]>) -> Result<(), E>,
        damaged: impl Fn() -> E,
    ) -> Result<(), E> {
        if columns.len() != self.width {
            return Err(damaged());
        }
        let mut rest = Bytes(&self.rows);
        let (mut first, mut second) = (Vec::with_capacity(self.width), Vec::with_capacity(self.width));
        while !rest.0.is_empty() {
            self.image(0, columns, &mut rest, &mut first).ok_or_else(&damaged)?;
            match self.did {
                Did::Write => take(None, Some(&first))?,
                Did::Delete => take(Some(&first), None)?,
                Did::Update => {
                    self.image(1, columns, &mut rest, &mut second).ok_or_else(&damaged)?;
                    take(Some(&first), Some(&second))?;
                }
            }
        }
        Ok(())
    }

    fn image<'r>(&self, which: usize, columns: &[Form], rest: &mut Bytes<'r>, out: &mut Vec<Field<'r>>) -> Option<()> {
        let is_set = |bits: &[u8], at: usize| bits.get(at / 8).is_some_and(|byte| byte & (1 << (at % 8)) != 0);
        let present = self.present[which];
        let count = (0..self.width).filter(|&at| is_set(present, at)).count();
        let nulls = rest.take(count.div_ceil(8))?;
        out.clear();
        let mut told = 0;
        for (at, column) in columns.iter().enumerate() {
            if !is_set(present, at) {
                out.push(Field::Absent);
                continue;
            }
            out.push(if is_set(nulls, told) { Field::Null } else { Field::Bytes(column.value(rest)?) });
            told += 1;
        }
        Some(())
    }
}
