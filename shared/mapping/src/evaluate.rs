use std::borrow::Cow;
use std::cell::OnceCell;

use fides_core::{Fault, Kind, Value};
use fides_format::{cast, parse_json, to_json};

use crate::jq::{Input, Program};
use crate::operation::Operation;

/// One record while it is mapped. What is costly to make of it is made once, and only if it is needed.
pub(crate) struct Record<'r> {
    values: &'r [Value<'r>],
    names: &'r [String],
    /// The trees of values that hold JSON, by position; empty until the first is needed.
    trees: OnceCell<Vec<OnceCell<Value<'r>>>>,
    input: OnceCell<Input>,
}

impl<'r> Record<'r> {
    pub fn new(values: &'r [Value<'r>], names: &'r [String]) -> Self {
        Self { values, names, trees: OnceCell::new(), input: OnceCell::new() }
    }

    /// The value that an operation makes. Faults are Permanent and say what, not where.
    pub fn evaluate(&self, operation: &Operation<usize>) -> Result<Value<'_>, Fault> {
        match operation {
            Operation::Take(at) => Ok(self.values[*at].clone()),
            Operation::Follow { from, keys, kind } => self.follow(*from, keys, *kind),
            Operation::Convert { of, cast: kind, default } => {
                let value = self.evaluate(of)?;
                match (default, kind) {
                    (Some(default), _) if value.is_null() => Ok(default.clone()),
                    (_, Some(kind)) => cast(value, *kind).map_err(|error| Fault::permanent(error.to_string())),
                    (_, None) => Ok(value),
                }
            }
            Operation::Const(value) => Ok(value.clone()),
            Operation::Object(fields) => {
                let field = |(name, of): &'_ (String, Operation<usize>)| -> Result<_, Fault> {
                    let value = self.evaluate(of).map_err(|fault| fault.at(name))?;
                    Ok((Cow::Owned(name.clone()), value))
                };
                let object = Value::Object(fields.iter().map(field).collect::<Result<_, Fault>>()?);
                Ok(Value::Json(to_json(&object).into()))
            }
            Operation::Jq { program, kind } => match self.run(program)? {
                None => Ok(Value::Absent),
                Some(value) => as_kind(value, *kind),
            },
        }
    }

    /// The output of a program; none when it gives nothing.
    pub fn run(&self, program: &Program) -> Result<Option<Value<'static>>, Fault> {
        if let Some(input) = self.input.get() {
            return program.run(input);
        }
        let input = Input::new(self.names, self.values)?;
        program.run(self.input.get_or_init(|| input))
    }

    /// Goes down into the JSON of a value. A field that is missing is absent; null has only null in it.
    fn follow(&self, from: usize, keys: &[String], kind: Kind) -> Result<Value<'_>, Fault> {
        let mut value = self.tree(from)?;
        for key in keys {
            value = match value {
                Value::Null | Value::Absent => return Ok(Value::Null),
                Value::Object(fields) => match fields.iter().find(|(name, _)| name == key) {
                    Some((_, value)) => value,
                    None => return Ok(Value::Absent),
                },
                other => {
                    let shown = other.kind().map_or("null", Kind::name);
                    return Err(Fault::permanent(format!("no field {key:?} in a value of kind {shown}")));
                }
            };
        }
        as_kind(value.clone(), kind)
    }

    fn tree(&self, at: usize) -> Result<&Value<'r>, Fault> {
        let (Value::Json(text) | Value::String(text)) = &self.values[at] else { return Ok(&self.values[at]) };
        let trees = self.trees.get_or_init(|| self.values.iter().map(|_| OnceCell::new()).collect());
        if let Some(tree) = trees[at].get() {
            return Ok(tree);
        }
        let tree = parse_json(text).map_err(|fault| fault.at(&self.names[at]))?;
        Ok(trees[at].get_or_init(|| tree))
    }
}

/// A value that was JSON, as the kind that it is declared as. Trees become JSON text, since only text may nest as deep as
/// JSON does.
fn as_kind(value: Value<'_>, kind: Kind) -> Result<Value<'_>, Fault> {
    match (&value, kind) {
        (Value::Null | Value::Absent, _) => Ok(value),
        (_, Kind::Json) | (Value::Array(_) | Value::Object(_), Kind::Any) => Ok(Value::Json(to_json(&value).into())),
        (Value::Array(_) | Value::Object(_), Kind::String) => Ok(Value::String(to_json(&value).into())),
        _ => cast(value, kind).map_err(|error| Fault::permanent(error.to_string())),
    }
}
