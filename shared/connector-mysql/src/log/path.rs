//! From a record of an included table to the roots that nest it.

use fides_core::{Fault, Include, Key, Value};

use super::columns::Expected;
use crate::catalog::Relation;
use crate::kind::MyType;
use crate::quote;
use crate::reading::Reading;

/// One way up, by the columns that the include is joined on.
#[derive(Debug)]
pub(super) struct Path {
    /// The columns of the included table.
    pub(super) own: Vec<Expected>,
    /// The columns of the parent that they are equal to, as SQL.
    parents: Vec<String>,
    /// The tables between the root and the included one, and how they are joined, as SQL.
    between: Option<String>,
    /// Whether they are the root's key, whose values say it: its columns by their number among `own`.
    key: Option<Vec<usize>>,
}

impl Path {
    /// The way from `relation`, the last of the includes, outermost first.
    pub(super) fn new(chain: &[&Include], relation: &Relation, reading: &Reading) -> Result<Self, Fault> {
        // The parent of the first include is the root.
        let alias = |at: usize| if at == 0 { "p".to_owned() } else { format!("a{at}") };
        let depth = chain.len() - 1;
        let on = &chain[depth].on;
        let (mut tables, mut joins) = (Vec::new(), Vec::new());
        for (at, include) in chain[..depth].iter().enumerate() {
            tables.push(format!("{} AS {}", quote::table(&include.namespace)?, alias(at + 1)));
            for (own, parent) in &include.on {
                joins.push(format!("{}.{} = {}.{}", alias(at + 1), quote::name(own), alias(at), quote::name(parent)));
            }
        }
        let between = (depth > 0).then(|| format!("FROM {} WHERE {}", tables.join(", "), joins.join(" AND ")));
        Ok(Self {
            own: Expected::all(relation, on.iter().map(|(own, _)| (own.as_str(), None))),
            parents: on.iter().map(|(_, parent)| format!("{}.{}", alias(depth), quote::name(parent))).collect(),
            between,
            key: if depth == 0 { key(on, relation, reading) } else { None },
        })
    }

    /// The root's key, where the values say it.
    pub(super) fn key(&self, literals: &[String]) -> Option<Key> {
        let mut key = Vec::new();
        for number in self.key.as_ref()? {
            let literal = literals.get(*number)?;
            let value = literal.parse().map(Value::I64).or_else(|_| literal.parse().map(Value::U64)).ok()?;
            Key::encode_column(&value, &mut key).ok()?;
        }
        Some(Key::from_bytes(key))
    }

    /// The condition that finds the roots, which are called `p`.
    pub(super) fn condition(&self, literals: &[String]) -> String {
        let equal = self.parents.iter().zip(literals).map(|(parent, literal)| format!("{parent} = {literal}"));
        let equal = equal.collect::<Vec<_>>().join(" AND ");
        match &self.between {
            None => equal,
            Some(between) => format!("EXISTS (SELECT 1 {between} AND {equal})"),
        }
    }
}

/// The root's key columns among the columns that an include is joined on, if they are whole numbers: then equality in SQL
/// is equality of keys.
fn key(on: &[(String, String)], relation: &Relation, reading: &Reading) -> Option<Vec<usize>> {
    let is_whole = |ty| matches!(ty, MyType::Int | MyType::Unsigned);
    let columns = reading.key.columns.iter().map(|column| {
        let number = on.iter().position(|(_, parent)| *parent == column.name)?;
        (is_whole(column.ty) && is_whole(relation.column(&on[number].0)?.ty)).then_some(number)
    });
    columns.collect::<Option<Vec<_>>>().filter(|columns| columns.len() == on.len())
}
