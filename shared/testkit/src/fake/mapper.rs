use std::sync::{Arc, OnceLock};

use fides_core::port::{Mapped, Mapper, Recalled};
use fides_core::{Column, Fault, Field, Kind, Namespace, Selection, Shape, Value, encode_row};
use serde::{Deserialize, Serialize};

use super::FakeHost;

/// Maps rows of [`super::FakeHost`] to documents `(id, value, label)` with `value = v + adds`.
///
/// A value in `rejects` cannot be mapped, one in `excludes` is left out. To be changed only before it is used.
#[derive(Clone, Serialize, Deserialize)]
pub struct FakeMapper {
    revision: u64,
    #[serde(skip, default = "shape")]
    shape: Arc<Shape>,
    #[serde(skip)]
    recipe: OnceLock<Vec<u8>>,
    /// What it adds to every value; the revision, unless this is an edit that leaves documents as they are.
    pub adds: i64,
    /// Values of `v` that it adds a thousand to.
    pub lifts: Vec<i64>,
    /// Values of `v` that are a Permanent fault.
    pub rejects: Vec<i64>,
    /// Values of `v` that the target must not hold.
    pub excludes: Vec<i64>,
    /// How many of the table's columns it reads, two at least.
    pub columns: usize,
    /// Whether no other mapper can make it again.
    pub is_forgotten: bool,
}

fn shape() -> Arc<Shape> {
    let field = |name: &str, kind| Field { name: name.into(), kind };
    let fields = vec![field("id", Kind::I64), field("value", Kind::I64), field("label", Kind::String)];
    Arc::new(Shape { fields, key: vec![0] })
}

impl FakeMapper {
    /// A mapper of that revision, which maps everything and reads everything.
    pub fn new(revision: u64) -> Self {
        Self {
            revision,
            shape: shape(),
            recipe: OnceLock::new(),
            adds: revision as i64,
            lifts: Vec::new(),
            rejects: Vec::new(),
            excludes: Vec::new(),
            columns: usize::MAX,
            is_forgotten: false,
        }
    }

    /// Its documents at their target, as they are read back in pages of `page_records_max`.
    pub fn documents(&self, namespace: Namespace, page_records_max: usize) -> Selection {
        let column = |field: &Field| Column {
            name: field.name.clone(),
            kind: field.kind,
            native: String::new(),
            nullable: true,
        };
        Selection {
            namespace,
            key: vec!["id".into()],
            columns: self.shape.fields.iter().map(column).collect(),
            includes: Vec::new(),
            seed: 0,
            page_records_max,
        }
    }

    /// An edit of this mapper: of another revision, and otherwise what `edit` makes of it.
    #[must_use]
    pub fn edited(&self, revision: u64, edit: impl FnOnce(&mut Self)) -> Self {
        let mut edited = Self { revision, recipe: OnceLock::new(), ..self.clone() };
        edit(&mut edited);
        edited
    }

    /// What the target should hold for a host row: `None` for a row that is excluded or cannot be mapped.
    pub fn document(&self, id: i64, v: i64) -> Option<Vec<u8>> {
        if self.rejects.contains(&v) || self.excludes.contains(&v) {
            return None;
        }
        let mut document = Vec::new();
        let label = format!("item {id}");
        encode_row(&mut document, &[Value::I64(id), Value::I64(self.value(v)), Value::String(label.into())]);
        Some(document)
    }

    /// The columns that it reads.
    pub fn reads(&self) -> Vec<Column> {
        FakeHost::selection(0, 1).columns.into_iter().take(self.columns.max(2)).collect()
    }

    fn value(&self, v: i64) -> i64 {
        let lifted = if self.lifts.contains(&v) { 1_000 } else { 0 };
        v.wrapping_add(self.adds).wrapping_add(lifted)
    }
}

impl Mapper for FakeMapper {
    fn revision(&self) -> u64 {
        self.revision
    }

    fn recipe(&self) -> &[u8] {
        self.recipe.get_or_init(|| serde_json::to_vec(self).unwrap_or_default())
    }

    fn recall(&self, recipe: &[u8]) -> Result<Recalled, Fault> {
        let mapper: Self = serde_json::from_slice(recipe)
            .map_err(|error| Fault::permanent("this is no recipe of a fake mapper").because(error))?;
        if mapper.is_forgotten {
            return Err(Fault::permanent("this mapping is forgotten"));
        }
        let columns = mapper.reads();
        Ok(Recalled { mapper: Arc::new(mapper), columns, includes: Vec::new(), key: vec!["id".into()] })
    }

    fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    fn map(&self, record: &[Value<'_>], out: &mut Vec<u8>) -> Result<Mapped, Fault> {
        let [Value::I64(id), Value::I64(v), ..] = record else {
            return Err(Fault::permanent(format!("a record of items is (id, v, …); found {record:?}")));
        };
        if self.rejects.contains(v) {
            return Err(Fault::permanent(format!("field value: {v} cannot be mapped")));
        }
        match self.document(*id, *v) {
            Some(document) => out.extend_from_slice(&document),
            None => return Ok(Mapped::Excluded),
        }
        Ok(Mapped::Document)
    }
}
