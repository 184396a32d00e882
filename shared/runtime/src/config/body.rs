//! The checks between the parts of one pipeline: what its documents consist of against its key, its included tables
//! and its version field.

use super::form::Reading;
use super::model::{Arity, Columns, Relation, Source};
use super::node::{Node, shown_text};

/// What a pipeline's documents consist of, as far as it could be read.
pub(super) struct Body<'a> {
    pub columns: Option<&'a Columns>,
    pub mapping: Option<&'a [(String, Option<Source>)]>,
}

impl Body<'_> {
    /// L12: an address in the target must be an injective function of the key, so a key column is taken over as it is.
    /// Without an explicit `key` the columns are known only once the host has been asked.
    pub fn takes_over_key(&self, reading: &mut Reading<'_>, node: &Node, key: Option<&[String]>) -> Option<()> {
        let (name, expected) = match self.mapping {
            Some(_) => {
                ("mapping", "a target field that takes it over as it is, without cast, default, const or jq (L12)")
            }
            None => ("columns", "every key column in the list (L12)"),
        };
        let spot = node.get(name).map_or(&node.spot, |value| &value.spot);
        let lost = key.unwrap_or_default().iter().filter(|column| !self.takes_over(column));
        let refusals = lost.map(|column| {
            reading.refuse_at(spot, format!("no plain field for the key column {}", shown_text(column)), expected)
        });
        all(refusals)
    }

    fn takes_over(&self, column: &str) -> bool {
        let is_plain = |source: &Option<Source>| match source {
            Some(Source::Column { path, cast: None, default: None }) => path.len() == 1 && path[0] == column,
            _ => false,
        };
        match (self.mapping, self.columns) {
            (Some(mapping), _) => mapping.iter().any(|(_, source)| is_plain(source)),
            (None, Some(Columns::Only(columns))) => columns.iter().any(|name| name == column),
            (None, Some(Columns::All) | None) => true,
        }
    }

    /// A path that enters an included table goes on to what is read of it, and only if there is one row.
    pub fn paths_lead_somewhere(&self, reading: &mut Reading<'_>, node: &Node, include: &[Relation]) -> Option<()> {
        let node = node.get("mapping").unwrap_or(node);
        let sources =
            self.mapping.unwrap_or_default().iter().filter_map(|(name, source)| Some((name, source.as_ref()?)));
        all(sources.map(|(name, source)| leads_somewhere(reading, node.get(name).unwrap_or(node), source, include)))
    }

    /// The version is written by Fides alone.
    pub fn leaves_version_alone(&self, reading: &mut Reading<'_>, node: &Node, field: Option<&str>) -> Option<()> {
        let Some(field) = field else { return Some(()) };
        let is_taken = self.mapping.unwrap_or_default().iter().any(|(name, _)| name == field)
            || matches!(self.columns, Some(Columns::Only(columns)) if columns.iter().any(|column| column == field));
        if !is_taken {
            return Some(());
        }
        let spot = node.get("version_field").map_or(&node.spot, |value| &value.spot);
        reading.refuse_at(spot, format!("{}, which is a mapped field too", shown_text(field)), "a column of its own")
    }
}

/// Whether nothing was refused; looks at all of them.
fn all(checks: impl Iterator<Item = Option<()>>) -> Option<()> {
    checks.fold(Some(()), Option::and)
}

fn leads_somewhere(reading: &mut Reading<'_>, node: &Node, source: &Source, include: &[Relation]) -> Option<()> {
    match source {
        Source::Object(fields) => {
            let node = node.get("object").unwrap_or(node);
            all(fields
                .iter()
                .map(|(name, source)| leads_somewhere(reading, node.get(name).unwrap_or(node), source, include)))
        }
        Source::Column { path, .. } => {
            let from = node.get("from").unwrap_or(node);
            follow(reading, from, path, include)
        }
        Source::Const(_) | Source::Jq { .. } => Some(()),
    }
}

/// Follows a path through included tables until it ends or enters a column, about which only the host knows.
fn follow(reading: &mut Reading<'_>, node: &Node, path: &[String], include: &[Relation]) -> Option<()> {
    let Some((name, rest)) = path.split_first() else { return Some(()) };
    let relation = include.iter().find(|relation| relation.name == *name);
    let (Some(relation), Some(next)) = (relation, rest.first()) else { return Some(()) };
    if relation.arity == Arity::Many {
        let found = format!("a path into {}, which is many records", shown_text(name));
        return reading.refuse_at(&node.spot, found, "a path into a single record, or jq for a list");
    }
    let mut included = relation.include.iter().map(|relation| relation.name.as_str());
    match &relation.columns {
        Columns::Only(columns) if !columns.contains(next) && !included.clone().any(|name| name == next) => {
            let known: Vec<_> = columns.iter().map(String::as_str).chain(&mut included).collect();
            let expected = format!("what is read of {}: {}", shown_text(name), known.join(", "));
            reading.refuse_word(node, next, expected, known)
        }
        _ => follow(reading, node, rest, &relation.include),
    }
}
