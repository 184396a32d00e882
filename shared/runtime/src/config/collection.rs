//! The forms of values that hold others: lists, maps with names of the user's own, a value with its node.

use serde_json::{Value, json};

use super::form::{Definitions, Form, Reading};
use super::node::{Content, Node, shown_text};
use super::scalar::Text;

/// A list of different names with at least one; the words say what a name is.
pub(super) struct Names(pub &'static str);

impl Form for Names {
    type Value = Vec<String>;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<Vec<String>> {
        let Content::List(items) = &node.content else {
            return reading.refuse(node, format!("a list, each item {}", self.0));
        };
        if items.is_empty() {
            return reading.refuse_at(&node.spot, "an empty list", format!("at least {}", self.0));
        }
        let names: Vec<_> = items.iter().map(|item| Text(self.0).read(reading, item)).collect();
        let mut is_whole = true;
        for (index, (item, name)) in items.iter().zip(&names).enumerate() {
            if name.is_some() && names[..index].contains(name) {
                is_whole = false;
                reading.refuse_at::<()>(&item.spot, format!("{} a second time", item.shown()), "each name once");
            }
        }
        names.into_iter().collect::<Option<_>>().filter(|_| is_whole)
    }

    fn schema(&self, definitions: &mut Definitions) -> Value {
        json!({ "type": "array", "items": Text(self.0).schema(definitions), "minItems": 1, "uniqueItems": true })
    }
}

/// A path of names: `a.b` in one text, or a list of parts where a name has dots itself.
pub(super) struct DottedPath(pub &'static str);

impl Form for DottedPath {
    type Value = Vec<String>;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<Vec<String>> {
        let expected = || format!("{}: names joined by dots, or a list of names", self.0);
        match &node.content {
            Content::List(parts) if !parts.is_empty() => {
                let parts: Vec<_> = parts.iter().map(|part| Text("a name").read(reading, part)).collect();
                parts.into_iter().collect()
            }
            Content::Plain(_) | Content::Quoted(_) => {
                let text = reading.text(node, &expected())?;
                let parts: Vec<_> = text.split('.').map(str::to_owned).collect();
                let is_whole = parts.iter().all(|part| !part.trim().is_empty());
                if is_whole { Some(parts) } else { reading.refuse(node, expected()) }
            }
            Content::List(_) | Content::Map(_) => reading.refuse(node, expected()),
        }
    }

    fn schema(&self, _: &mut Definitions) -> Value {
        let name = json!({ "type": "string", "minLength": 1 });
        json!({ "anyOf": [name, { "type": "array", "items": name, "minItems": 1 }] })
    }
}

/// A map whose keys are names of the user's own, in the order of the file. A value that was refused is `None`, so that
/// its name can still be referred to.
pub(super) struct Named<F> {
    /// What the names must look like.
    pub names: NameRule,
    /// The form of each value.
    pub of: F,
    /// What the map is, for an error.
    pub expected: &'static str,
}

/// What the names of a map must look like.
#[derive(Clone, Copy)]
pub(super) enum NameRule {
    /// Safe in queue names, store keys and metrics: `[a-z][a-z0-9_-]{0,62}`.
    Id,
    /// The name of a column or field: anything but nothing.
    Field,
}

impl NameRule {
    fn admits(self, name: &str) -> bool {
        match self {
            Self::Id => {
                name.len() <= 63
                    && name.starts_with(|c: char| c.is_ascii_lowercase())
                    && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
            }
            Self::Field => !name.trim().is_empty(),
        }
    }

    const fn expected(self) -> &'static str {
        match self {
            Self::Id => "a name of small letters, digits, _ and -, at most 63, that begins with a letter",
            Self::Field => "a name that is not empty",
        }
    }

    const fn pattern(self) -> &'static str {
        match self {
            Self::Id => "^[a-z][a-z0-9_-]{0,62}$",
            Self::Field => "\\S",
        }
    }
}

impl<F: Form> Form for Named<F> {
    type Value = Vec<(String, Option<F::Value>)>;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<Self::Value> {
        let Content::Map(entries) = &node.content else { return reading.refuse(node, self.expected) };
        if entries.is_empty() {
            return reading.refuse_at(&node.spot, "an empty map", self.expected);
        }
        let mut values = Vec::with_capacity(entries.len());
        for entry in entries {
            let is_admitted = self.names.admits(&entry.name);
            if !is_admitted {
                reading.refuse_at::<()>(&entry.spot, shown_text(&entry.name), self.names.expected());
            }
            let value = self.of.read(reading, &entry.value);
            values.push((entry.name.clone(), value.filter(|_| is_admitted)));
        }
        Some(values)
    }

    fn schema(&self, definitions: &mut Definitions) -> Value {
        json!({
            "type": "object",
            "propertyNames": { "pattern": self.names.pattern() },
            "additionalProperties": self.of.schema(definitions),
            "minProperties": 1,
        })
    }
}

/// The values of a [`Named`] map if none was refused.
pub(super) fn complete<T>(values: Vec<(String, Option<T>)>) -> Option<Vec<(String, T)>> {
    values.into_iter().map(|(name, value)| Some((name, value?))).collect()
}

/// A value with its node, for a check that needs other parts of the file.
pub(super) struct WithNode<F>(pub F);

impl<F: Form> Form for WithNode<F> {
    type Value = (F::Value, Node);

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<Self::Value> {
        Some((self.0.read(reading, node)?, node.clone()))
    }

    fn schema(&self, definitions: &mut Definitions) -> Value {
        self.0.schema(definitions)
    }
}
