//! The forms of single values: texts, names, flags, numbers, words of a closed set, paths of files, literals.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::form::{Definitions, Form, Reading};
use super::model::Literal;
use super::node::{Content, Node};

/// A text that is not empty; the words say what it is.
pub(super) struct Text(pub &'static str);

impl Form for Text {
    type Value = String;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<String> {
        let text = reading.text(node, self.0)?;
        if text.trim().is_empty() { reading.refuse(node, self.0) } else { Some(text) }
    }

    fn schema(&self, _: &mut Definitions) -> Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// `true` or `false`.
pub(super) struct Flag;

impl Form for Flag {
    type Value = bool;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<bool> {
        match node.plain() {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => reading.refuse(node, "true or false"),
        }
    }

    fn schema(&self, _: &mut Definitions) -> Value {
        json!({ "type": "boolean" })
    }
}

/// A number in a range.
pub(super) struct Number<T>(pub RangeInclusive<T>);

/// The kinds of number a limit may be.
pub(super) trait Numeric: FromStr + PartialOrd + Display + Copy + Into<serde_json::Number> {
    /// What such a number is called.
    const NAME: &'static str;
    /// Its type in JSON Schema.
    const TYPE: &'static str;
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl Numeric for $integer {
            const NAME: &'static str = "a whole number";
            const TYPE: &'static str = "integer";
        }
    )*};
}
integers!(u32, u64, usize);

impl<T: Numeric> Form for Number<T> {
    type Value = T;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<T> {
        let number = node.plain().and_then(|text| text.parse().ok());
        match number.filter(|number| self.0.contains(number)) {
            Some(number) => Some(number),
            None => reading.refuse(node, format!("{} from {} to {}", T::NAME, self.0.start(), self.0.end())),
        }
    }

    fn schema(&self, _: &mut Definitions) -> Value {
        let (minimum, maximum): (serde_json::Number, serde_json::Number) =
            ((*self.0.start()).into(), (*self.0.end()).into());
        json!({ "type": T::TYPE, "minimum": minimum, "maximum": maximum })
    }
}

/// A share between 0 and 1.
pub(super) struct Ratio;

impl Form for Ratio {
    type Value = f64;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<f64> {
        let number = node.plain().and_then(|text| text.parse().ok());
        match number.filter(|number| (0.0..=1.0).contains(number)) {
            Some(number) => Some(number),
            None => reading.refuse(node, "a number from 0 to 1"),
        }
    }

    fn schema(&self, _: &mut Definitions) -> Value {
        json!({ "type": "number", "minimum": 0, "maximum": 1 })
    }
}

/// One word of a closed set.
pub(super) struct Word<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Clone> Form for Word<T> {
    type Value = T;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<T> {
        let words = || self.0.iter().map(|(word, _)| *word);
        let expected = match words().collect::<Vec<_>>()[..] {
            [only] => format!("{only:?}"),
            ref several => format!("one of {}", several.join(", ")),
        };
        let text = reading.text(node, &expected)?;
        match self.0.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Some(value.clone()),
            None => reading.refuse_word(node, &text, expected, words()),
        }
    }

    fn schema(&self, _: &mut Definitions) -> Value {
        json!({ "enum": self.0.iter().map(|(word, _)| *word).collect::<Vec<_>>() })
    }
}

/// The path of a file; a relative one is taken from the folder of the configuration.
pub(super) struct FilePath;

impl Form for FilePath {
    type Value = PathBuf;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<PathBuf> {
        let path = Text("the path of a file").read(reading, node)?;
        let path = Path::new(&path);
        Some(reading.folder.join(path.strip_prefix(".").unwrap_or(path)))
    }

    fn schema(&self, definitions: &mut Definitions) -> Value {
        Text("").schema(definitions)
    }
}

/// An address to listen at. No name: what it stands for would be known only once something looks it up.
pub(super) struct Listen;

impl Form for Listen {
    type Value = SocketAddr;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<SocketAddr> {
        let expected = "an IP address and a port: 127.0.0.1:8080, 0.0.0.0:8080 for all of IPv4, \"[::]:8080\" for all";
        let text = reading.text(node, expected)?;
        text.parse().ok().or_else(|| reading.refuse(node, expected))
    }

    fn schema(&self, definitions: &mut Definitions) -> Value {
        Text("").schema(definitions)
    }
}

/// Any value at all. Numbers keep the digits they are written with.
pub(super) struct AnyValue;

impl Form for AnyValue {
    type Value = Literal;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<Literal> {
        match &node.content {
            _ if node.is_null() => Some(Literal::Null),
            Content::Plain(text) if text == "true" => Some(Literal::Bool(true)),
            Content::Plain(text) if text == "false" => Some(Literal::Bool(false)),
            Content::Plain(text) if is_json_number(text) => Some(Literal::Number(text.clone())),
            Content::Plain(text) if is_other_number(text) => {
                reading.refuse(node, "a number as JSON writes it, or text in quotes")
            }
            Content::Plain(_) | Content::Quoted(_) => reading.text(node, "a value").map(Literal::String),
            Content::List(items) => {
                let items: Vec<_> = items.iter().map(|item| self.read(reading, item)).collect();
                items.into_iter().collect::<Option<_>>().map(Literal::Array)
            }
            Content::Map(entries) => {
                let fields = entries.iter().map(|entry| (entry.name.clone(), self.read(reading, &entry.value)));
                let fields: Vec<_> = fields.collect();
                fields.into_iter().map(|(name, value)| Some((name, value?))).collect::<Option<_>>().map(Literal::Object)
            }
        }
    }

    fn schema(&self, _: &mut Definitions) -> Value {
        json!(true)
    }
}

/// Whether the text is a number by the grammar of JSON.
fn is_json_number(text: &str) -> bool {
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && serde_json::from_str::<&RawValue>(text).is_ok()
}

/// Whether the text is a number to YAML though not to JSON: `007`, `0x1F`, `+1`, `.5`, `.inf`. Such a text may be a
/// postcode or a version as well, so it is not guessed.
fn is_other_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0o"));
    matches!(unsigned.to_ascii_lowercase().as_str(), ".inf" | ".nan")
        || digits.is_some_and(|digits| u128::from_str_radix(digits, 16).is_ok())
        || (unsigned.starts_with(|c: char| c == '.' || c.is_ascii_digit()) && unsigned.parse::<f64>().is_ok())
}
