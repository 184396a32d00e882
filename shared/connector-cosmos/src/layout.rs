//! How documents of a shape are written into a container: worked out once per pipeline.

use std::sync::atomic::AtomicBool;

use fides_core::port::Sink;
use fides_core::{Change, Fault, Key, Kind, Shape, Value};

use crate::address;
use crate::container::Definition;
use crate::known::Known;
use crate::partition::{Part, Partition, Path};

/// The encoded key in hex digits, whose order is the order of the keys.
pub(crate) const KEY: &str = "_fides_key";
/// The version, where the mapping names no field for it.
pub(crate) const VERSION: &str = "_fides_version";
/// What a tombstone has and no document.
pub(crate) const GONE: &str = "_fides_gone";
/// Names that the store, or Fides, gives a meaning of its own.
pub(crate) const RESERVED: [&str; 9] = ["_rid", "_self", "_etag", "_attachments", "_ts", "ttl", KEY, VERSION, GONE];

/// Where a change is stored.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub id: String,
    pub partition: Partition,
}

/// How documents of one shape are written into one container.
#[derive(Debug)]
pub(crate) struct Layout {
    /// `database.container`, for people.
    pub place: String,
    pub shape: Shape,
    /// Kinds of the key's columns.
    pub key_kinds: Vec<Kind>,
    /// Where each path of the partition key leads.
    sources: Vec<Source>,
    pub paths: Vec<Path>,
    /// Paths of unique keys: tombstones hold something else at each.
    pub unique: Vec<Path>,
    /// The field that holds the version.
    pub version_field: String,
    /// Whether the last item that was written was new: the next one may be, too.
    pub expects_new: AtomicBool,
    pub known: Known,
}

/// What a path of the partition key reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The document's id.
    Id,
    /// A column of the key, by its number.
    Key(usize),
    /// A field that is no part of the key, by its position: documents move when it changes.
    Field(usize),
    /// Nothing that is written: every document holds nothing there.
    Nothing,
}

impl Layout {
    pub fn new(sink: &Sink, shape: &Shape, definition: &Definition) -> Self {
        let source = |path: &Path| {
            let at = shape.fields.iter().position(|field| field.name == path.field());
            match (path.field(), at) {
                ("id", _) if path.is_top() => Source::Id,
                (_, Some(at)) => match shape.key.iter().position(|&key| key == at) {
                    Some(column) if path.is_top() => Source::Key(column),
                    _ => Source::Field(at),
                },
                _ => Source::Nothing,
            }
        };
        Self {
            place: sink.namespace.to_string(),
            key_kinds: shape.key.iter().filter_map(|&at| shape.fields.get(at)).map(|field| field.kind).collect(),
            sources: definition.paths.iter().map(source).collect(),
            paths: definition.paths.clone(),
            unique: definition.unique.clone(),
            version_field: sink.version_field.clone().unwrap_or_else(|| VERSION.to_owned()),
            shape: shape.clone(),
            expects_new: AtomicBool::new(true),
            known: Known::default(),
        }
    }

    /// Whether the address of a record can change (L12): its partition key is not a function of its key.
    pub fn moves(&self) -> bool {
        self.sources.iter().any(|source| matches!(source, Source::Field(_)))
    }

    /// The id of a key.
    pub fn id(&self, key: &Key) -> Result<String, Fault> {
        address::id(key, &self.key_kinds)
    }

    /// The address of a key, where its partition key is a function of it.
    pub fn fixed(&self, key: &Key) -> Result<Address, Fault> {
        let id = self.id(key)?;
        self.address(id, key, &[])
    }

    /// The address of a document.
    pub fn of_row(&self, key: &Key, row: &[Value<'_>]) -> Result<Address, Fault> {
        let id = self.id(key)?;
        self.address(id, key, row)
    }

    fn address(&self, id: String, key: &Key, row: &[Value<'_>]) -> Result<Address, Fault> {
        let columns = key.decode()?;
        let part = |(source, path): (&Source, &Path)| match *source {
            Source::Id => Ok(Part::Text(id.clone())),
            Source::Key(column) => Ok(columns.get(column).and_then(Part::of).unwrap_or(Part::Undefined)),
            Source::Nothing => Ok(Part::Undefined),
            Source::Field(at) => row.get(at).map_or(Some(Part::Undefined), |value| path.part(value)).ok_or_else(|| {
                let field = self.shape.fields.get(at).map_or("", |field| &field.name);
                Fault::permanent(format!("field {field} holds an array or an object where the partition key is"))
                    .advise("a partition key is made of numbers, texts and truth values")
            }),
        };
        let parts = self.sources.iter().zip(&self.paths).map(part).collect::<Result<_, Fault>>()?;
        Ok(Address { id, partition: Partition(parts) })
    }
}

/// The version of a change as documents hold it: hex digits in the order of versions.
pub(crate) fn version_text(change: &Change) -> String {
    format!("{:032x}", u128::from_be_bytes(change.version.to_bytes()))
}

/// An encoded key as documents hold it.
pub(crate) fn key_text(key: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    key.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The inverse of [`key_text`].
pub(crate) fn key_of(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok();
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}
