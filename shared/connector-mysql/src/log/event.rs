//! Events of the binary log, as bytes. What a server may add is skipped by its length; a part that does not fit is `None`,
//! and the log is damaged.

use std::borrow::Cow;
use std::io::Read;

/// Numbers of events.
pub(super) mod kind {
    pub(in super::super) const QUERY: u8 = 2;
    pub(in super::super) const ROTATE: u8 = 4;
    pub(in super::super) const DESCRIPTION: u8 = 15;
    pub(in super::super) const XID: u8 = 16;
    pub(in super::super) const EXECUTE_LOAD: u8 = 18;
    pub(in super::super) const TABLE_MAP: u8 = 19;
    pub(in super::super) const WRITE_1: u8 = 23;
    pub(in super::super) const UPDATE_1: u8 = 24;
    pub(in super::super) const DELETE_1: u8 = 25;
    pub(in super::super) const INCIDENT: u8 = 26;
    pub(in super::super) const WRITE_2: u8 = 30;
    pub(in super::super) const UPDATE_2: u8 = 31;
    pub(in super::super) const DELETE_2: u8 = 32;
    /// MySQL's identifiers of transactions, real and anonymous.
    pub(in super::super) const GTID: u8 = 33;
    pub(in super::super) const ANONYMOUS: u8 = 34;
    pub(in super::super) const XA_PREPARE: u8 = 38;
    /// MariaDB's identifier of a transaction.
    pub(in super::super) const MARIADB_GTID: u8 = 162;
    pub(in super::super) const QUERY_COMPRESSED: u8 = 165;
    pub(in super::super) const WRITE_COMPRESSED: u8 = 166;
    pub(in super::super) const UPDATE_COMPRESSED: u8 = 167;
    pub(in super::super) const DELETE_COMPRESSED: u8 = 168;

    /// Whether an event says nothing about data: what accompanies statements and loads of files, heartbeats, identifiers
    /// and checkpoints, and compressed transactions of MySQL, whose events come behind it.
    pub(in super::super) fn is_silent(kind: u8) -> bool {
        matches!(kind, 3 | 5 | 8..=11 | 13 | 14 | 17 | 27..=29 | 35..=37 | 40 | 41 | 160 | 161 | 163 | 164)
    }
}

/// What a MariaDB GTID says of its group: one statement that ends by itself.
const STANDALONE: u8 = 1;

/// Whether the group of a MariaDB GTID is one statement, without a commit.
pub(super) fn is_standalone(body: &[u8]) -> Option<bool> {
    Some(body.get(12)? & STANDALONE != 0)
}

/// Bytes that are read from their front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of `count` bytes, the smallest first.
    pub(super) fn number(&mut self, count: usize) -> Option<u64> {
        Some(self.take(count)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    pub(super) fn length(&mut self, count: usize) -> Option<usize> {
        usize::try_from(self.number(count)?).ok()
    }

    /// A number in the protocol's own form.
    pub(super) fn packed(&mut self) -> Option<usize> {
        match self.length(1)? {
            small @ 0..=250 => Some(small),
            252 => self.length(2),
            253 => self.length(3),
            254 => self.length(8),
            _ => None,
        }
    }
}

/// The name of the next file, and where it is read from.
pub(super) fn rotate(body: &[u8]) -> Option<(&str, u64)> {
    let mut body = Bytes(body);
    let offset = body.number(8)?;
    Some((std::str::from_utf8(body.0).ok()?, offset))
}

/// The database that a statement was run in, and its text.
pub(super) fn query(body: &[u8], is_compressed: bool) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let mut body = Bytes(body);
    body.take(8)?;
    let database = body.length(1)?;
    body.take(2)?;
    let variables = body.length(2)?;
    body.take(variables)?;
    let database = String::from_utf8_lossy(body.take(database)?);
    body.take(1)?;
    let text = match inflated(body.0, is_compressed)? {
        Cow::Borrowed(text) => String::from_utf8_lossy(text),
        Cow::Owned(text) => Cow::Owned(String::from_utf8_lossy(&text).into_owned()),
    };
    Some((database, text))
}

/// MariaDB's compression: a byte that says in how many bytes the length is, the length, zlib.
pub(super) fn inflated(bytes: &[u8], is_compressed: bool) -> Option<Cow<'_, [u8]>> {
    if !is_compressed {
        return Some(Cow::Borrowed(bytes));
    }
    let (&head, rest) = bytes.split_first()?;
    // The number of another algorithm.
    if head & 0x70 != 0 {
        return None;
    }
    let (length, packed) = rest.split_at_checked(usize::from(head & 0x07))?;
    let length = length.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
    let mut out = Vec::with_capacity(length.min(1 << 20));
    let read = flate2::read::ZlibDecoder::new(packed).take(length as u64 + 1).read_to_end(&mut out);
    (read.is_ok() && out.len() == length).then_some(Cow::Owned(out))
}
