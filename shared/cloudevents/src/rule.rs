//! What of an event concerns a pipeline: by its type, and the key that it names.

use serde_json::Value;

use crate::event::{Data, Event, Malformed};

/// Which events concern a pipeline, and where they name the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Patterns of `type`, where `*` stands for any text; empty for every type.
    pub types: Vec<String>,
    /// Where the key is: one place for the whole of it, or one per key column; never empty.
    pub key: Vec<KeySource>,
}

/// A place in an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The attribute `subject`.
    Subject,
    /// A field of the data, by the way to it.
    Data(Vec<String>),
}

impl Rule {
    /// Whether events of this type concern the pipeline.
    pub fn concerns(&self, kind: &str) -> bool {
        self.types.is_empty() || self.types.iter().any(|pattern| matches(pattern, kind))
    }

    /// The key as people write it: a text, or a JSON array of texts where several places make one key. `None` where the
    /// event does not concern the pipeline.
    pub fn key_of(&self, event: &Event) -> Result<Option<String>, Malformed> {
        if !self.concerns(&event.kind) {
            return Ok(None);
        }
        let mut parts: Vec<String> = self.key.iter().map(|source| source.text(event)).collect::<Result<_, _>>()?;
        if parts.iter().any(|part| part.contains('\0')) {
            return Err(Malformed::new("the key contains a NUL character, which no store can hold"));
        }
        Ok(Some(if parts.len() == 1 { parts.remove(0) } else { Value::from(parts).to_string() }))
    }
}

impl KeySource {
    /// Reads `subject` or `data.…`; `None` where the text is neither.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "subject" {
            return Some(Self::Subject);
        }
        let path: Vec<String> = text.strip_prefix("data.")?.split('.').map(str::to_owned).collect();
        path.iter().all(|part| !part.is_empty()).then_some(Self::Data(path))
    }

    fn text(&self, event: &Event) -> Result<String, Malformed> {
        match self {
            Self::Subject => {
                event.subject.clone().ok_or_else(|| Malformed::new("no attribute `subject`, expected the record's key"))
            }
            Self::Data(path) => {
                let place = format!("data.{}", path.join("."));
                let data = match &event.data {
                    Data::Json(data) => data,
                    Data::Absent => {
                        return Err(Malformed::new(format!("no data, expected the record's key in {place}")));
                    }
                    Data::Other(_) => {
                        return Err(Malformed::new(format!(
                            "the data is not JSON, expected the record's key in {place}"
                        )));
                    }
                };
                let value = path.iter().try_fold(data, |value, part| value.get(part));
                scalar(value).ok_or_else(|| {
                    Malformed::new(format!(
                        "{place} is no text, whole number or truth value, expected the record's key"
                    ))
                })
            }
        }
    }
}

/// A number that is not whole is no key: its digits may be lost already.
fn scalar(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

/// Whether `text` is like `pattern`, in which `*` stands for any text. Linear: each piece is looked for once, from the left.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut pieces = rest.split('*').peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return text.ends_with(piece);
        }
        match text.find(piece) {
            Some(at) => text = &text[at + piece.len()..],
            None => return false,
        }
    }
    true
}
