use std::sync::Arc;

use fides_core::port::{Mapped, Mapper, Recalled};
use fides_core::{Fault, Shape, Value, encode_value};

use crate::compile::{self, Compiled};
use crate::evaluate::Record;
use crate::jq::Program;
use crate::operation::Operation;
use crate::recipe;

/// Maps records by the operations of a compiled mapping.
pub(crate) struct RecordMapper {
    pub recipe: Vec<u8>,
    /// Of the recipe.
    pub revision: u64,
    pub shape: Arc<Shape>,
    /// One per field of the shape.
    pub operations: Vec<Operation<usize>>,
    pub when: Option<Arc<Program>>,
    /// Names of a record's values: the selection's columns, then its includes.
    pub names: Vec<String>,
}

impl RecordMapper {
    fn is_excluded(&self, record: &Record<'_>) -> Result<bool, Fault> {
        let Some(when) = &self.when else { return Ok(false) };
        let output = record.run(when).map_err(|fault| fault.at("when"))?;
        Ok(matches!(output, None | Some(Value::Null | Value::Bool(false))))
    }

    fn document(&self, record: &Record<'_>, values: &[Value<'_>], out: &mut Vec<u8>) -> Result<(), Fault> {
        for (operation, field) in self.operations.iter().zip(&self.shape.fields) {
            match operation {
                Operation::Take(at) => encode_value(out, &values[*at]),
                Operation::Const(value) => encode_value(out, value),
                other => {
                    let value = record.evaluate(other);
                    encode_value(out, &value.map_err(|fault| fault.at(format_args!("field {}", field.name)))?);
                }
            }
        }
        Ok(())
    }
}

impl Mapper for RecordMapper {
    fn revision(&self) -> u64 {
        self.revision
    }

    fn recipe(&self) -> &[u8] {
        &self.recipe
    }

    fn recall(&self, kept: &[u8]) -> Result<Recalled, Fault> {
        let (spec, columns, includes) = recipe::decode(kept)?;
        let compiled = compile::again(&spec, columns, &includes)?;
        // What seeded the fingerprints of its marks, or nothing: by another mapper they would prove nothing.
        if compiled.mapper.recipe() != kept {
            return Err(Fault::permanent("this release reads the mapping that was kept in another way"));
        }
        let Compiled { mapper, columns, includes, key } = compiled;
        Ok(Recalled { mapper, columns, includes, key })
    }

    fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    fn map(&self, values: &[Value<'_>], out: &mut Vec<u8>) -> Result<Mapped, Fault> {
        if values.len() != self.names.len() {
            let (found, expected) = (values.len(), self.names.len());
            return Err(Fault::permanent(format!("a record of {found} values where the mapping reads {expected}")));
        }
        let record = Record::new(values, &self.names);
        if self.is_excluded(&record)? {
            return Ok(Mapped::Excluded);
        }
        let start = out.len();
        match self.document(&record, values, out) {
            Ok(()) => Ok(Mapped::Document),
            Err(fault) => {
                out.truncate(start);
                Err(fault)
            }
        }
    }
}
