use std::fmt;

use serde_json::Value;

/// An event, as far as anybody here looks at it. Extensions are read over: they may be anything that the standard allows.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Unique within `source`.
    pub id: String,
    /// Where it happened.
    pub source: String,
    /// What happened: the attribute `type`.
    pub kind: String,
    /// To what it happened.
    pub subject: Option<String>,
    /// What it says of it.
    pub data: Data,
}

/// An event's data.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// None at all.
    Absent,
    /// JSON.
    Json(Value),
    /// Something else: of which media type.
    Other(String),
}

/// Why something is no event, or none that can be understood: what was found and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(String);

impl Malformed {
    /// With its reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// Puts a place before the reason: `event 3: …`.
    #[must_use]
    pub fn at(self, place: impl fmt::Display) -> Self {
        Self(format!("{place}: {}", self.0))
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

/// The attributes that decide, as a transport carried them.
#[derive(Default)]
pub(crate) struct Attributes {
    pub(crate) specversion: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) subject: Option<String>,
}

impl Attributes {
    /// Keeps an attribute, if it is one that decides.
    pub(crate) fn put(&mut self, name: &str, value: String) {
        let slot = match name {
            "specversion" => &mut self.specversion,
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.kind,
            "subject" => &mut self.subject,
            _ => return,
        };
        *slot = Some(value);
    }

    /// The event, if nothing is missing.
    pub(crate) fn with(self, data: Data) -> Result<Event, Malformed> {
        match self.specversion.as_deref() {
            Some("1.0") => {}
            Some(other) => {
                return Err(Malformed::new(format!("found specversion {:?}, expected \"1.0\"", shortened(other))));
            }
            None => return Err(Malformed::new("no attribute `specversion`, expected \"1.0\"")),
        }
        Ok(Event {
            id: needed("id", self.id)?,
            source: needed("source", self.source)?,
            kind: needed("type", self.kind)?,
            subject: self.subject.map(|subject| needed("subject", Some(subject))).transpose()?,
            data,
        })
    }
}

fn needed(name: &str, value: Option<String>) -> Result<String, Malformed> {
    match value {
        Some(value) if !value.is_empty() => Ok(value),
        Some(_) => Err(Malformed::new(format!("attribute `{name}` is empty, expected text"))),
        None => Err(Malformed::new(format!("no attribute `{name}`, expected text"))),
    }
}

/// What somebody else wrote, short enough for a message.
pub(crate) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    match text.char_indices().nth(CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
