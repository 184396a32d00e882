//! Soft deletion: the document of a record that is gone stays, and says so in one field.
//!
//! The document of a deleted record is not known from the host any more. The lane's owner is the only writer of its keys
//! (L6), so it reads the document from the target, sets the field and writes it back. The documents of living records have
//! the field too, cleared: a record that returns is whole again with its next write.

use std::sync::Arc;

use bytes::Bytes;
use fides_core::port::{Mapped, Mapper, Recalled};
use fides_core::{Fault, Field, Kind, Page, Shape, Value, encode_row, encode_value, fingerprint, put_bytes};

use crate::Pipeline;

/// The field that says that a record is gone.
#[derive(Clone, Debug, PartialEq)]
pub struct SoftDelete {
    /// Its name at the target.
    pub field: String,
    /// What it holds then: text, a whole number or a boolean. Otherwise it holds nothing, or the other boolean.
    pub value: Value<'static>,
}

impl SoftDelete {
    fn alive(&self) -> Value<'static> {
        match self.value {
            Value::Bool(gone) => Value::Bool(!gone),
            _ => Value::Null,
        }
    }

    /// Maps as `mapper`, and clears the field, unless the mapping itself has such a field and clears it.
    pub fn around(&self, mapper: Arc<dyn Mapper>) -> Result<Arc<dyn Mapper>, Fault> {
        let shape = mapper.shape();
        if let Some(at) = shape.fields.iter().position(|field| field.name == self.field) {
            if shape.key.contains(&at) {
                return Err(Fault::permanent(format!("field {} is a part of the key", self.field))
                    .advise("let a field of its own tell that a record is gone"));
            }
            return Ok(mapper);
        }
        let kind = self.value.kind().unwrap_or(Kind::Any);
        let field = Field { name: self.field.clone(), kind };
        let fields = shape.fields.iter().cloned().chain([field]).collect();
        let (mut alive, mut seed) = (Vec::new(), self.field.clone().into_bytes());
        encode_value(&mut alive, &self.alive());
        seed.extend_from_slice(&alive);
        // Documents without the field are not what this mapping makes of their records.
        let revision = (fingerprint(&seed, mapper.revision()).0 >> 64) as u64;
        let shape = Arc::new(Shape { fields, key: shape.key.clone() });
        let mut prefix = vec![RECIPE];
        put_bytes(&mut prefix, self.field.as_bytes());
        put_bytes(&mut prefix, &alive);
        let recipe = [&*prefix, mapper.recipe()].concat();
        Ok(Arc::new(Alive { soft: self.clone(), mapper, shape, alive, revision, recipe, prefix: prefix.len() }))
    }
}

/// Begins the recipe of a mapping with one field more; no other mapping's begins so.
const RECIPE: u8 = 0xff;

/// A mapping whose documents have one field more, cleared.
struct Alive {
    soft: SoftDelete,
    mapper: Arc<dyn Mapper>,
    shape: Arc<Shape>,
    /// The cleared field, encoded.
    alive: Vec<u8>,
    revision: u64,
    recipe: Vec<u8>,
    /// Bytes of the recipe that are about the field.
    prefix: usize,
}

impl Mapper for Alive {
    fn revision(&self) -> u64 {
        self.revision
    }

    fn recipe(&self) -> &[u8] {
        &self.recipe
    }

    fn recall(&self, recipe: &[u8]) -> Result<Recalled, Fault> {
        // One without the field, or with another, is what it is: its documents differ in that field.
        let Some(inner) = recipe.strip_prefix(&self.recipe[..self.prefix]) else { return self.mapper.recall(recipe) };
        let recalled = self.mapper.recall(inner)?;
        Ok(Recalled { mapper: self.soft.around(recalled.mapper)?, ..recalled })
    }

    fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    fn map(&self, record: &[Value<'_>], out: &mut Vec<u8>) -> Result<Mapped, Fault> {
        let mapped = self.mapper.map(record, out)?;
        if mapped == Mapped::Document {
            out.extend_from_slice(&self.alive);
        }
        Ok(mapped)
    }
}

/// The field of a pipeline whose deletions are soft.
pub(crate) struct Flag<'a> {
    soft: &'a SoftDelete,
    /// Its position in the documents.
    at: usize,
}

impl<'a> Flag<'a> {
    /// `None` where deletions are not soft.
    pub(crate) fn of(pipeline: &'a Pipeline) -> Option<Self> {
        let crate::DeletePolicy::Soft(soft) = &pipeline.delete else { return None };
        let at = pipeline.shape().fields.iter().position(|field| field.name == soft.field)?;
        Some(Self { soft, at })
    }

    /// Whether a document says that its record is gone. One that cannot be read says nothing.
    pub(crate) fn is_set(&self, page: &Page, at: usize) -> bool {
        let values = page.values(at);
        values.is_ok_and(|values| {
            values
                .get(self.at)
                .is_some_and(|found| *found == self.soft.value || fides_format::same(&self.soft.value, found))
        })
    }

    /// A document with the field set, in the shape of the pipeline's mapping.
    pub(crate) fn set(&self, page: &Page, at: usize) -> Result<Bytes, Fault> {
        let mut values = page.values(at)?;
        if let Some(field) = values.get_mut(self.at) {
            *field = self.soft.value.clone();
        }
        let mut row = Vec::with_capacity(page.rows.get(at).len() + 8);
        encode_row(&mut row, &values);
        Ok(row.into())
    }
}
