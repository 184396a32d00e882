use std::sync::Arc;

use fides_core::port::{Mapped, Mapper};
use fides_core::{Fault, Field, Kind, Shape, Value, encode_row};

/// Maps rows of [`super::FakeHost`] to documents `(id, value, label)` with `value = v + revision`.
///
/// A value in `rejects` cannot be mapped, one in `excludes` is left out.
pub struct FakeMapper {
    revision: u64,
    shape: Arc<Shape>,
    /// Values of `v` that are a Permanent fault.
    pub rejects: Vec<i64>,
    /// Values of `v` that the target must not hold.
    pub excludes: Vec<i64>,
}

impl FakeMapper {
    /// A mapper of that revision, which maps everything.
    pub fn new(revision: u64) -> Self {
        let field = |name: &str, kind| Field { name: name.into(), kind };
        let fields = vec![field("id", Kind::I64), field("value", Kind::I64), field("label", Kind::String)];
        Self { revision, shape: Arc::new(Shape { fields, key: vec![0] }), rejects: Vec::new(), excludes: Vec::new() }
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

    fn value(&self, v: i64) -> i64 {
        v.wrapping_add(self.revision as i64)
    }
}

impl Mapper for FakeMapper {
    fn revision(&self) -> u64 {
        self.revision
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
