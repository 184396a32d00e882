//! Paths of a mapping against what the host has.

use fides_core::{Arity, Column, Include, Kind, Table};

use crate::error::MappingError;

/// What a mapping may name: the host's columns and the included tables.
pub(crate) struct Names<'a> {
    pub table: &'a Table,
    pub includes: &'a [Include],
}

/// Something that is read of a record. Positions in the table and in the includes, not yet in the selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// A column of the host.
    Column(usize),
    /// An included table.
    Include(usize),
}

/// Where a path leads.
pub(crate) struct Resolved {
    pub origin: Origin,
    /// The way into the JSON that it holds.
    pub keys: Vec<String>,
    /// What is found there.
    pub kind: Kind,
}

impl<'a> Names<'a> {
    /// Everything that a path can begin with.
    pub fn all(&self) -> impl Iterator<Item = &'a str> {
        let columns = self.table.columns.iter().map(|column| column.name.as_str());
        columns.chain(self.includes.iter().map(|include| include.name.as_str()))
    }

    pub fn column(&self, name: &str) -> Option<usize> {
        self.table.columns.iter().position(|column| column.name == name)
    }

    pub fn find(&self, name: &str) -> Option<Origin> {
        let include = || self.includes.iter().position(|include| include.name == name).map(Origin::Include);
        self.column(name).map(Origin::Column).or_else(include)
    }

    /// Follows a path. The longest beginning that is the name of a column wins.
    pub fn resolve(&self, place: &str, path: &[String]) -> Result<Resolved, MappingError> {
        for parts in (1..=path.len()).rev() {
            let (name, keys) = path.split_at(parts);
            if let Some(at) = self.column(&name.join(".")) {
                return into_column(place, &self.table.columns[at], Origin::Column(at), keys);
            }
        }
        let Some((name, keys)) = path.split_first() else {
            return Err(MappingError::new(place, "an empty path", "a column"));
        };
        match self.includes.iter().position(|include| include.name == *name) {
            Some(at) => into_include(place, &self.includes[at], Origin::Include(at), keys),
            None => Err(MappingError::unknown(place, "column", &path.join("."), self.all())),
        }
    }
}

fn into_column(place: &str, column: &Column, origin: Origin, keys: &[String]) -> Result<Resolved, MappingError> {
    if keys.is_empty() {
        return Ok(Resolved { origin, keys: Vec::new(), kind: column.kind });
    }
    if !matches!(column.kind, Kind::Json | Kind::String | Kind::Any) {
        let found = format!("a path into the column {:?}, which is {} ({})", column.name, column.native, column.kind);
        return Err(MappingError::new(place, found, "a column that holds JSON, or the column itself"));
    }
    Ok(Resolved { origin, keys: keys.to_vec(), kind: Kind::Any })
}

/// Follows the way through included tables to the column it ends in.
fn into_include(place: &str, root: &Include, origin: Origin, keys: &[String]) -> Result<Resolved, MappingError> {
    let (mut include, mut rest) = (root, keys);
    let found = |kind| Ok(Resolved { origin, keys: keys.to_vec(), kind });
    while let Some((name, further)) = rest.split_first() {
        if include.arity == Arity::Many {
            let what = format!("a path into {:?}, which is many records", include.name);
            return Err(MappingError::new(place, what, "a path into a single record, or jq for a list"));
        }
        if let Some(column) = include.columns.iter().find(|column| column.name == *name) {
            return into_column(place, column, origin, further).and_then(|within| found(within.kind));
        }
        let Some(nested) = include.includes.iter().find(|nested| nested.name == *name) else {
            let columns = include.columns.iter().map(|column| column.name.as_str());
            let known = columns.chain(include.includes.iter().map(|nested| nested.name.as_str()));
            return Err(MappingError::unknown(place, &format!("column of {:?}", include.name), name, known));
        };
        (include, rest) = (nested, further);
    }
    found(Kind::Json)
}
