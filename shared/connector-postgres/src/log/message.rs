//! Messages of `pgoutput`, protocol version 1, as the transport hands them over. Any bytes are read without a panic.

/// A change, or what is needed to read one. Begin and Commit come from the transport as events of their own.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    Relation(Described),
    Insert {
        relation: u32,
        new: Tuple<'a>,
    },
    Update {
        relation: u32,
        old: Option<Tuple<'a>>,
        new: Tuple<'a>,
    },
    Delete {
        relation: u32,
        old: Tuple<'a>,
    },
    Truncate(Vec<u32>),
    /// A type or an origin: says nothing that is needed.
    Other,
}

/// A table as it was when the changes that follow were made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) table: String,
    /// Whether its replica identity is all of a row, and no index.
    pub(super) is_full: bool,
    pub(super) columns: Vec<DescribedColumn>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct DescribedColumn {
    pub(super) name: String,
    pub(super) type_oid: u32,
    /// Whether an old row carries its value.
    pub(super) in_identity: bool,
}

/// The values of a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tuple<'a>(pub(super) Vec<Field<'a>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field<'a> {
    Null,
    /// A value outside the row that the update did not touch: not in the log.
    Unchanged,
    Text(&'a [u8]),
}

impl<'a> Message<'a> {
    /// Reads a message; `None` when it makes no sense.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let message = match reader.byte()? {
            b'R' => Self::Relation(reader.described()?),
            b'I' => {
                let relation = reader.u32()?;
                let b'N' = reader.byte()? else { return None };
                Self::Insert { relation, new: reader.tuple()? }
            }
            b'U' => {
                let relation = reader.u32()?;
                let (old, new) = match reader.byte()? {
                    b'K' | b'O' => {
                        let old = reader.tuple()?;
                        (Some(old), reader.byte()?)
                    }
                    new => (None, new),
                };
                let b'N' = new else { return None };
                Self::Update { relation, old, new: reader.tuple()? }
            }
            b'D' => {
                let relation = reader.u32()?;
                let (b'K' | b'O') = reader.byte()? else { return None };
                Self::Delete { relation, old: reader.tuple()? }
            }
            b'T' => {
                let count = reader.u32()?;
                reader.byte()?;
                Self::Truncate((0..count).map(|_| reader.u32()).collect::<Option<_>>()?)
            }
            b'Y' | b'O' => return Some(Self::Other),
            _ => return None,
        };
        reader.0.is_empty().then_some(message)
    }
}

/// What was not read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    fn name(&mut self) -> Option<String> {
        let end = memchr::memchr(0, self.0)?;
        let name = std::str::from_utf8(self.take(end)?).ok()?.to_owned();
        self.byte()?;
        Some(name)
    }

    fn described(&mut self) -> Option<Described> {
        let oid = self.u32()?;
        let (schema, table) = (self.name()?, self.name()?);
        let is_full = self.byte()? == b'f';
        let columns = (0..self.u16()?).map(|_| self.column()).collect::<Option<_>>()?;
        Some(Described { oid, schema, table, is_full, columns })
    }

    fn column(&mut self) -> Option<DescribedColumn> {
        let in_identity = self.byte()? & 1 == 1;
        let (name, type_oid) = (self.name()?, self.u32()?);
        self.u32()?;
        Some(DescribedColumn { name, type_oid, in_identity })
    }

    fn tuple(&mut self) -> Option<Tuple<'a>> {
        (0..self.u16()?).map(|_| self.field()).collect::<Option<_>>().map(Tuple)
    }

    fn field(&mut self) -> Option<Field<'a>> {
        Some(match self.byte()? {
            b'n' => Field::Null,
            b'u' => Field::Unchanged,
            b't' => {
                let length = self.u32()?;
                Field::Text(self.take(length as usize)?)
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UPDATE: &[u8] = b"U\0\0\0\x07K\0\x02t\0\0\0\x011nN\0\x03t\0\0\0\x012un";

    #[test]
    fn an_update_with_its_old_key_is_read() {
        let old = Some(Tuple(vec![Field::Text(b"1"), Field::Null]));
        let new = Tuple(vec![Field::Text(b"2"), Field::Unchanged, Field::Null]);
        assert_eq!(Message::parse(UPDATE), Some(Message::Update { relation: 7, old, new }));
        assert_eq!(Message::parse(b"T\0\0\0\x01\0\0\0\0\x09"), Some(Message::Truncate(vec![9])));
    }

    #[test]
    fn what_is_cut_off_or_too_long_makes_no_sense() {
        for end in 0..UPDATE.len() {
            assert_eq!(Message::parse(&UPDATE[..end]), None, "{end}");
        }
        assert_eq!(Message::parse(&[UPDATE, b"x"].concat()), None);
        assert_eq!(Message::parse(b"T\xff\xff\xff\xff\0"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            tag in prop::sample::select(b"RIUDTYOx".to_vec()),
            bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(b'N'), Just(b't'), any::<u8>()], 0..60)
        ) {
            let whole = [&[tag][..], &bytes].concat();
            let _ = Message::parse(&whole);
        }
    }
}
