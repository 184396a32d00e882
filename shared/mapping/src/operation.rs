use std::sync::Arc;

use fides_core::{Kind, Value};

use crate::jq::Program;
use crate::resolve::Origin;

/// How the value of one field is made. `P` is what points into a record: an [`Origin`] while compiling, a position in
/// the selected row afterwards.
#[derive(Clone, Debug)]
pub(crate) enum Operation<P = Origin> {
    /// The value as it is read.
    Take(P),
    /// What the JSON of a value holds further down, as the kind it had before it became JSON.
    Follow { from: P, keys: Vec<String>, kind: Kind },
    /// The value of another operation, with a default in the place of null, as another kind.
    Convert { of: Box<Operation<P>>, cast: Option<Kind>, default: Option<Value<'static>> },
    /// The same value always.
    Const(Value<'static>),
    /// JSON of the fields that are not absent.
    Object(Vec<(String, Operation<P>)>),
    /// The output of a program.
    Jq { program: Arc<Program>, kind: Kind },
}

impl<P: Copy> Operation<P> {
    /// The same operation, pointing elsewhere.
    pub fn pointing<Q>(self, at: &impl Fn(P) -> Q) -> Operation<Q> {
        match self {
            Self::Take(from) => Operation::Take(at(from)),
            Self::Follow { from, keys, kind } => Operation::Follow { from: at(from), keys, kind },
            Self::Convert { of, cast, default } => Operation::Convert { of: Box::new(of.pointing(at)), cast, default },
            Self::Const(value) => Operation::Const(value),
            Self::Object(fields) => {
                Operation::Object(fields.into_iter().map(|(name, of)| (name, of.pointing(at))).collect())
            }
            Self::Jq { program, kind } => Operation::Jq { program, kind },
        }
    }

    /// Everything it reads apart from its jq programs.
    pub fn origins(&self, out: &mut Vec<P>) {
        match self {
            Self::Take(from) | Self::Follow { from, .. } => out.push(*from),
            Self::Convert { of, .. } => of.origins(out),
            Self::Object(fields) => fields.iter().for_each(|(_, of)| of.origins(out)),
            Self::Const(_) | Self::Jq { .. } => {}
        }
    }

    /// Its jq programs.
    pub fn programs<'a>(&'a self, out: &mut Vec<&'a Program>) {
        match self {
            Self::Jq { program, .. } => out.push(program),
            Self::Convert { of, .. } => of.programs(out),
            Self::Object(fields) => fields.iter().for_each(|(_, of)| of.programs(out)),
            Self::Take(_) | Self::Follow { .. } | Self::Const(_) => {}
        }
    }
}
