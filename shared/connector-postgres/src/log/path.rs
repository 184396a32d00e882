//! From a record of an included table to the roots that nest it.

use std::borrow::Cow;

use fides_core::{Fault, Include, Key};

use super::columns::{Columns, Expected};
use super::message::{Field, Tuple};
use crate::catalog::{Attribute, Collation, Relation};
use crate::kind::PgType;
use crate::quote;
use crate::read::Reading;

/// One way up, by the columns that the include is joined on.
#[derive(Debug)]
pub(super) struct Path {
    /// The columns of the included table.
    pub(super) own: Vec<Expected>,
    /// The columns of the parent that they are equal to, as SQL.
    parents: Vec<String>,
    /// The tables between the root and the included one, and how they are joined, as SQL.
    between: Option<String>,
    /// Where they are the root's key: its columns by their number among `own`, and how they are read.
    key: Option<Vec<(usize, PgType)>>,
}

impl Path {
    /// The way from `relation`, the last of the includes, outermost first.
    pub(super) fn new(chain: &[&Include], relation: &Relation, reading: &Reading) -> Result<Self, Fault> {
        // The parent of the first include is the root.
        let alias = |at: usize| if at == 0 { "p".to_owned() } else { format!("a{at}") };
        let depth = chain.len() - 1;
        let on = &chain[depth].on;
        let mut tables = Vec::new();
        let mut joins = Vec::new();
        for (at, include) in chain[..depth].iter().enumerate() {
            tables.push(format!("{} AS {}", quote::table(&include.namespace)?, alias(at + 1)));
            for (own, parent) in &include.on {
                joins.push(format!("{}.{} = {}.{}", alias(at + 1), quote::name(own), alias(at), quote::name(parent)));
            }
        }
        let between = (depth > 0).then(|| format!("FROM {} WHERE {}", tables.join(", "), joins.join(" AND ")));
        Ok(Self {
            own: Expected::all(relation, on.iter().map(|(own, _)| own)),
            parents: on.iter().map(|(_, parent)| format!("{}.{}", alias(depth), quote::name(parent))).collect(),
            between,
            key: if depth == 0 { key(on, relation, reading) } else { None },
        })
    }

    /// The values that a row is joined on; `None` when one of them is NULL, which no parent is equal to.
    pub(super) fn values(
        &self,
        columns: &Columns,
        new: &Tuple<'_>,
        old: Option<&Tuple<'_>>,
    ) -> Result<Option<Vec<String>>, Fault> {
        let mut values = Vec::with_capacity(self.own.len());
        for (number, own) in self.own.iter().enumerate() {
            let wrong = |what: &str| Fault::permanent(format!("column {}: {what}", own.name));
            match columns.field(number, new, old) {
                Some(Field::Text(text)) => {
                    let text = std::str::from_utf8(text).map_err(|_| wrong("a text of the log is not UTF-8"))?;
                    if text.contains('\0') {
                        return Err(wrong("a text of the log holds NUL"));
                    }
                    values.push(text.to_owned());
                }
                Some(_) => return Ok(None),
                None => {
                    return Err(wrong("a change in the log has no value of it")
                        .advise("set the table's REPLICA IDENTITY to FULL"));
                }
            }
        }
        Ok(Some(values))
    }

    /// The root's key, where the values say it.
    pub(super) fn key(&self, values: &[String]) -> Option<Key> {
        let mut key = Vec::new();
        for (number, ty) in self.key.as_ref()? {
            let value = ty.value(Cow::Borrowed(values.get(*number)?))?;
            Key::encode_column(&value, &mut key).ok()?;
        }
        Some(Key::from_bytes(key))
    }

    /// The condition that finds the roots, which are called `p`.
    pub(super) fn condition(&self, values: &[String]) -> String {
        let equal = self.parents.iter().zip(values).zip(&self.own);
        let equal = equal.map(|((parent, value), own)| format!("{parent} = {}::{}", quote::text(value), own.native));
        let equal = equal.collect::<Vec<_>>().join(" AND ");
        match &self.between {
            None => equal,
            Some(between) => format!("EXISTS (SELECT {between} AND {equal})"),
        }
    }
}

/// The root's key columns among the columns that an include is joined on, if equality in SQL is equality of keys.
fn key(on: &[(String, String)], relation: &Relation, reading: &Reading) -> Option<Vec<(usize, PgType)>> {
    if on.len() != reading.selection.key.len() {
        return None;
    }
    let columns = reading.key.columns.iter().map(|column| {
        let number = on.iter().position(|(_, parent)| *parent == column.name)?;
        let (own, parent) = (relation.column(&on[number].0)?, reading.relation.column(&column.name)?);
        is_same(own, parent).then(|| (number, column.ty.clone()))
    });
    columns.collect()
}

fn is_same(own: &Attribute, parent: &Attribute) -> bool {
    let plain = |column: &Attribute| {
        matches!(column.base.as_str(), "text" | "varchar") && column.collation != Collation::Folding
    };
    match own.ty {
        PgType::Int | PgType::Uuid | PgType::Bytea | PgType::Bool => own.ty == parent.ty,
        PgType::Text => plain(own) && plain(parent),
        _ => false,
    }
}
