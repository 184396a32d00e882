//! The process environment, as the configuration sees it: values for `${…}`, and overrides named `FIDES__…`.

use std::collections::BTreeMap;
use std::fmt;

use super::errors::{ConfigError, Place, Spot};
use super::node::{Content, Entry, Node, key_path};
use super::yaml;

/// What an override's name begins with, and what separates the parts of its path.
const SEPARATOR: &str = "__";
const PREFIX: &str = "FIDES__";

/// The variables a configuration may read. Their values may be secrets, so `Debug` prints their names only.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process; those that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(utf8).collect())
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Puts every `FIDES__SECTION__KEY=value` into the tree, as if it had been written in the file. A shorter path
    /// comes first, so that `FIDES__LIMITS={…}` and `FIDES__LIMITS__LANES=8` work together.
    pub(super) fn override_tree(&self, root: &mut Node, errors: &mut Vec<ConfigError>) {
        for (variable, value) in &self.0 {
            let Some(path) = variable.strip_prefix(PREFIX) else { continue };
            let place = Place::Variable(variable.clone());
            let parts: Vec<&str> = path.split(SEPARATOR).collect();
            if let Err(error) = set(root, &parts, value, &place, errors) {
                errors.push(*error);
            }
        }
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn set(
    node: &mut Node,
    parts: &[&str],
    value: &str,
    place: &Place,
    errors: &mut Vec<ConfigError>,
) -> Result<(), Box<ConfigError>> {
    let path = node.spot.path.clone();
    let Some((part, rest)) = parts.split_first() else {
        if let Some(written) = written(value, &path, place, errors) {
            *node = written;
        }
        return Ok(());
    };
    let error = |found: String, expected: &str| {
        let spot = Spot { place: place.clone(), path: path.clone() };
        Box::new(ConfigError { spot, found, expected: expected.to_owned(), nearest: None })
    };
    if part.is_empty() {
        return Err(error("an empty part in the variable's name".into(), "FIDES__SECTION__KEY"));
    }
    if node.is_null() {
        node.content = Content::Map(Vec::new());
    }
    let shown = node.shown();
    let Content::Map(entries) = &mut node.content else {
        return Err(error(shown, &format!("a map, since {place} names a key in it")));
    };
    let index = match positions(entries, part)[..] {
        [] => {
            let name = part.to_ascii_lowercase();
            let spot = Spot { place: place.clone(), path: key_path(&path, &name) };
            let value = Node { spot: spot.clone(), content: Content::Plain(String::new()) };
            entries.push(Entry { name, spot, value });
            entries.len() - 1
        }
        [index] => index,
        [..] => {
            return Err(error(format!("several keys that {part} can mean"), "names that differ in more than - and _"));
        }
    };
    set(&mut entries[index].value, rest, value, place, errors)
}

/// A variable's name holds neither small letters nor dashes, so both are matched loosely.
fn positions(entries: &[Entry], part: &str) -> Vec<usize> {
    let loose = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let wanted = loose(part);
    entries.iter().enumerate().filter(|(_, entry)| loose(&entry.name) == wanted).map(|(index, _)| index).collect()
}

/// A value that opens with a bracket or a quote is YAML; any other is a plain scalar, whatever colons it holds.
fn written(value: &str, path: &str, place: &Place, errors: &mut Vec<ConfigError>) -> Option<Node> {
    if value.starts_with(['[', '{', '"', '\'']) {
        return yaml::parse(value, path, &|_| place.clone(), errors);
    }
    let spot = Spot { place: place.clone(), path: path.to_owned() };
    Some(Node { spot, content: Content::Plain(value.to_owned()) })
}
