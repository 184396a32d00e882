//! The mapping before the edit, at work.

use std::sync::Arc;

use fides_core::port::{Mapped, Mapper, Recalled};
use fides_core::{
    Column, Decode, Fault, Fingerprint, Held, Include, Key, Mark, Namespace, Op, Page, Selection, Shape, Table,
    decode_row, encode_value, fingerprint,
};

use super::kept::Kept;
use crate::Pipeline;
use crate::import::Snapshots;

/// The mapping before, and how its documents compare with those of the present one.
pub(super) struct Before<'a> {
    mapper: Arc<dyn Mapper>,
    fields: Fields,
    /// Where it reads other columns, a state of the host of its own. It may be another state than the present mapping's:
    /// what the mark says of a document stays true, whenever its record is read.
    own: Option<Snapshots<'a>>,
    /// Seeds its fingerprints.
    seed: u64,
}

/// Where the fields of the present documents are in those before.
enum Fields {
    /// At the same places.
    Same,
    /// At these places.
    Moved(Vec<usize>),
    /// Not all of them, or not only they: no document is the same.
    Others,
}

impl<'a> Before<'a> {
    /// Makes the mapping again; the reason, where that is impossible.
    pub(super) async fn open(pipeline: &'a Pipeline, kept: &Kept) -> Result<Result<Self, String>, Fault> {
        let Some(recipe) = &kept.recipe else {
            return Ok(Err("it was not kept by the release that imported last".to_owned()));
        };
        let recalled = match pipeline.mapper.recall(recipe) {
            Ok(recalled) => recalled,
            Err(fault) => return Ok(Err(fault.to_string())),
        };
        let Recalled { mapper, columns, includes, key } = recalled;
        let present = &pipeline.selection;
        if key != present.key {
            return Ok(Err(format!("its key was ({}), and is ({}) now", key.join(", "), present.key.join(", "))));
        }
        let reads_the_same = same_columns(&columns, &present.columns) && same_includes(&includes, &present.includes);
        let own = if reads_the_same {
            None
        } else {
            if let Some(missing) = missing(pipeline, &present.namespace, &columns, &includes).await? {
                return Ok(Err(missing));
            }
            let seed = mapper.revision();
            Some(Snapshots::of(pipeline, Selection { columns, includes, seed, ..present.clone() }))
        };
        let fields = Fields::between(mapper.shape(), pipeline.shape());
        Ok(Ok(Self { seed: mapper.revision(), mapper, fields, own }))
    }

    /// Rows `wanted` of a page as the mapping before reads them.
    pub(super) async fn rows<'r>(&'r self, page: &'r Page, wanted: &[usize]) -> Result<Rows<'r>, Fault> {
        let own = match &self.own {
            None => None,
            Some(snapshots) => {
                let keys: Vec<Key> = wanted.iter().map(|&at| Key::from_bytes(page.keys.get(at))).collect();
                Some(snapshots.current().await?.fetch(&keys).await?)
            }
        };
        Ok(Rows { before: self, page, own })
    }
}

/// Rows as the mapping before reads them.
pub(super) struct Rows<'r> {
    before: &'r Before<'r>,
    page: &'r Page,
    /// Where they are not those of the page.
    own: Option<Page>,
}

impl Rows<'_> {
    /// The row of the page's record `at`; `None` where the host has none any more.
    pub(super) fn row(&self, at: usize) -> Option<Row<'_>> {
        let (page, at) = match &self.own {
            None => (self.page, at),
            Some(own) => (own, own.find(self.page.keys.get(at))?),
        };
        Some(Row { before: self.before, bytes: page.rows.get(at), decoder: &*page.decoder })
    }
}

/// One row as the mapping before reads it.
pub(super) struct Row<'r> {
    before: &'r Before<'r>,
    bytes: &'r [u8],
    decoder: &'r dyn Decode,
}

impl Row<'_> {
    /// Whether this row is what the mark speaks of, and the mapping before makes of it what the present one does.
    pub(super) fn says(&self, mark: &Mark, present: &Op) -> bool {
        if mark.fingerprint != Some(self.fingerprint()) {
            return false;
        }
        match (mark.held, present) {
            (Held::Present, Op::Upsert(document)) => {
                self.document().is_some_and(|before| self.before.fields.same(&before, document))
            }
            (Held::Absent, Op::Delete) => true,
            _ => false,
        }
    }

    /// Whether the mapping before leaves it out.
    pub(super) fn is_excluded(&self) -> bool {
        matches!(self.map(&mut Vec::new()), Ok(Mapped::Excluded))
    }

    fn fingerprint(&self) -> Fingerprint {
        fingerprint(self.bytes, self.before.seed)
    }

    fn document(&self) -> Option<Vec<u8>> {
        let mut document = Vec::new();
        matches!(self.map(&mut document), Ok(Mapped::Document)).then_some(document)
    }

    fn map(&self, out: &mut Vec<u8>) -> Result<Mapped, Fault> {
        let mut values = Vec::new();
        self.decoder.decode(self.bytes, &mut values)?;
        self.before.mapper.map(&values, out)
    }
}

impl Fields {
    fn between(before: &Shape, present: &Shape) -> Self {
        if before.fields == present.fields {
            return Self::Same;
        }
        let place = |field| before.fields.iter().position(|other| other == field);
        let places: Option<Vec<usize>> = present.fields.iter().map(place).collect();
        match places {
            Some(places) if places.len() == before.fields.len() => Self::Moved(places),
            _ => Self::Others,
        }
    }

    /// Whether two documents are the same, value by value in every byte.
    fn same(&self, before: &[u8], present: &[u8]) -> bool {
        match self {
            Self::Same => before == present,
            Self::Others => false,
            Self::Moved(places) => {
                let Ok(values) = decode_row(before) else { return false };
                let mut moved = Vec::with_capacity(before.len());
                for &place in places {
                    let Some(value) = values.get(place) else { return false };
                    encode_value(&mut moved, value);
                }
                moved == present
            }
        }
    }
}

/// Whether rows of these columns have the same bytes. How a store names a type does not matter: its bytes tell.
fn same_columns(one: &[Column], other: &[Column]) -> bool {
    let parts = |column: &Column| (column.name.clone(), column.kind);
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| parts(one) == parts(other))
}

fn same_includes(one: &[Include], other: &[Include]) -> bool {
    let same = |(one, other): (&Include, &Include)| {
        (&one.name, &one.namespace, &one.on, one.arity, &one.order_by)
            == (&other.name, &other.namespace, &other.on, other.arity, &other.order_by)
            && same_columns(&one.columns, &other.columns)
            && same_includes(&one.includes, &other.includes)
    };
    one.len() == other.len() && one.iter().zip(other).all(same)
}

/// What the mapping before reads and the host does not have any more, or has in another kind.
async fn missing(
    pipeline: &Pipeline,
    namespace: &Namespace,
    columns: &[Column],
    includes: &[Include],
) -> Result<Option<String>, Fault> {
    let Some(table) = pipeline.host.describe(namespace).await? else {
        return Ok(Some(format!("it read the table {namespace}, which is gone")));
    };
    for column in columns {
        let (name, was) = (&column.name, column.kind);
        match table.column(name).map(|found| found.kind) {
            Some(is) if is == was => {}
            Some(is) => return Ok(Some(format!("it read the column {namespace}.{name} as {was}, which is {is} now"))),
            None => return Ok(Some(gone(namespace, name))),
        }
    }
    for include in includes {
        let Some(related) = pipeline.host.describe(&include.namespace).await? else {
            return Ok(Some(format!("it read the table {}, which is gone", include.namespace)));
        };
        let absent = |table: &Table, name: &&String| table.column(name).is_none();
        let mut parents = include.on.iter().map(|(_, parent)| parent);
        let mut own = include.on.iter().map(|(own, _)| own).chain(&include.order_by);
        if let Some(name) = parents.find(|name| absent(&table, name)) {
            return Ok(Some(gone(namespace, name)));
        }
        if let Some(name) = own.find(|name| absent(&related, name)) {
            return Ok(Some(gone(&include.namespace, name)));
        }
        let nested = missing(pipeline, &include.namespace, &include.columns, &include.includes);
        if let Some(nested) = Box::pin(nested).await? {
            return Ok(Some(nested));
        }
    }
    Ok(None)
}

fn gone(namespace: &Namespace, column: &str) -> String {
    format!("it read the column {namespace}.{column}, which is gone")
}
