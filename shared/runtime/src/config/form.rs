//! Forms: what a value of the file may look like. A form both reads a value and describes it for the JSON Schema, so
//! that the two cannot drift apart.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::environment::Environment;
use super::errors::{ConfigError, Place, Spot};
use super::fields::Section;
use super::node::{Entry, Node, shown_text};
use super::secrets::{Gap, interpolate};

/// What a value may look like.
///
/// Contract: `read` returns `None` only after it has added an error to the [`Reading`], so whoever combines several
/// reads may drop a `None` without a word; and it goes on after a mistake, so that every mistake is found.
pub(super) trait Form {
    /// What is read.
    type Value;
    /// Reads a node or says what is wrong with it.
    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<Self::Value>;
    /// The JSON Schema of the form; sections go to the definitions.
    fn schema(&self, definitions: &mut Definitions) -> Value;
}

/// One reading of a configuration: what it may look at, and the mistakes so far.
pub(super) struct Reading<'a> {
    /// The folder of the file, against which relative paths are resolved.
    pub folder: &'a Path,
    /// Where `${…}` comes from.
    pub environment: &'a Environment,
    /// The mistakes so far.
    pub errors: Vec<ConfigError>,
}

impl Reading<'_> {
    /// Refuses a value; the error shows the value.
    pub fn refuse<T>(&mut self, node: &Node, expected: impl Into<String>) -> Option<T> {
        self.refuse_at(&node.spot, node.shown(), expected)
    }

    /// Refuses what is at a spot, in words of one's own.
    pub fn refuse_at<T>(&mut self, spot: &Spot, found: impl Into<String>, expected: impl Into<String>) -> Option<T> {
        let (spot, found, expected) = (spot.clone(), found.into(), expected.into());
        self.errors.push(ConfigError { spot, found, expected, nearest: None });
        None
    }

    /// Refuses a word that is not one of the known ones, and suggests the nearest. The error shows what is written, not
    /// what a variable made of it.
    pub fn refuse_word<'k, T>(
        &mut self,
        node: &Node,
        word: &str,
        expected: impl Into<String>,
        known: impl IntoIterator<Item = &'k str>,
    ) -> Option<T> {
        let nearest = nearest(word, known).map(str::to_owned);
        let (spot, found, expected) = (node.spot.clone(), node.shown(), expected.into());
        self.errors.push(ConfigError { spot, found, expected, nearest });
        None
    }

    /// Refuses a key that is not one of the known ones, and suggests the nearest.
    pub fn refuse_key(&mut self, entry: &Entry, known: &[&str]) {
        let expected = match known {
            [only] => format!("the key {only}"),
            several => format!("one of the keys {}", several.join(", ")),
        };
        let nearest = nearest(&entry.name, known.iter().copied()).map(str::to_owned);
        let found = format!("the unknown key {}", shown_text(&entry.name));
        self.errors.push(ConfigError { spot: entry.spot.clone(), found, expected, nearest });
    }

    /// The text of a scalar with its `${…}` replaced. What a variable overrides is taken as it is.
    pub fn text(&mut self, node: &Node, expected: &str) -> Option<String> {
        let Some(text) = node.scalar().filter(|_| !node.is_null()) else { return self.refuse(node, expected) };
        if matches!(node.spot.place, Place::Variable(_)) {
            return Some(text.to_owned());
        }
        let gaps = match interpolate(text, self.environment) {
            Ok(text) => return Some(text),
            Err(gaps) => gaps,
        };
        for gap in gaps {
            let (found, wanted) = match gap {
                Gap::Unset(name) => (
                    format!("${{{name}}}, a variable that is not set"),
                    format!("{expected} (set {name}, or write ${{{name}:-default}})"),
                ),
                Gap::Malformed => (
                    "`${` that does not begin a ${NAME}".to_owned(),
                    format!("{expected} (write $${{ for the characters themselves)"),
                ),
            };
            self.refuse_at::<()>(&node.spot, found, wanted);
        }
        None
    }
}

/// The sections of the schema met so far, by name.
#[derive(Default)]
pub(super) struct Definitions(pub BTreeMap<&'static str, Value>);

impl Definitions {
    /// A reference to the schema of a section, which is made when it is first met.
    pub fn refer<T: Section>(&mut self) -> Value {
        if !self.0.contains_key(T::NAME) {
            self.0.insert(T::NAME, Value::Null); // a section may contain itself
            let schema = super::fields::describe::<T>(self);
            self.0.insert(T::NAME, schema);
        }
        json!({ "$ref": format!("#/$defs/{}", T::NAME) })
    }
}

/// The known word that a misspelt one is nearest to, if it is near enough to be meant.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    const WORD_BYTES_MAX: usize = 128;
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let word = word.to_lowercase();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&word, &candidate.to_lowercase());
    let is_near = |(distance, candidate): &(usize, &str)| {
        *distance <= (word.chars().count().max(candidate.chars().count()) / 3).max(1)
    };
    let by_distance = known.into_iter().map(|candidate| (distance(candidate), candidate));
    by_distance.filter(is_near).min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}
