//! Read by hand: every refusal names the place in the document, and the derived readers of tagged enums name none.

use serde_json::{Map, Value};

use super::bounds::{
    COMMAND_BYTES_MAX, EXPIRES_SECONDS_DEFAULT, EXPIRES_SECONDS_MAX, ID_CHARS_MAX, KEY_BYTES_MAX, KEYS_MAX,
    NAME_BYTES_MAX, PIPELINES_MAX, RANGES_MAX, REQUESTER_BYTES_MAX,
};
use super::{Action, Answer, Command, Extent, KeySpan, KeyText};

const COMMANDS: &str = "reimport, pause, resume, cleanup, verify, approve, replay, cancel";
/// What was found is shown up to this many characters.
const SHOWN_CHARS_MAX: usize = 60;

/// Why something is refused, beginning with its place.
type Refusal = String;

pub(super) fn command(bytes: &[u8]) -> Result<Command, Answer> {
    if bytes.len() > COMMAND_BYTES_MAX {
        let found = bytes.len();
        return Err(Answer::refused(
            "",
            format!("a command has at most {COMMAND_BYTES_MAX} bytes; this one has {found}"),
        ));
    }
    let document: Value = serde_json::from_slice(bytes)
        .map_err(|error| Answer::refused("", format!("a command is a JSON object; this is none: {error}")))?;
    let Value::Object(map) = document else {
        let found = shown(&document);
        return Err(Answer::refused("", format!("a command is a JSON object; found {found}")));
    };
    let mut fields = Fields { map, place: String::new() };
    let id = fields.required("id").and_then(id).map_err(|refusal| Answer::refused("", refusal))?;
    match rest(&mut fields) {
        Ok((requester, action)) => Ok(Command { id, requester, action }),
        Err(refusal) => Err(Answer::refused(id, refusal)),
    }
}

fn rest(fields: &mut Fields) -> Result<(String, Action), Refusal> {
    let requester = fields.required("requester")?.text(REQUESTER_BYTES_MAX)?;
    let name = fields.required("command")?;
    let place = name.place.clone();
    let name = name.text(NAME_BYTES_MAX)?;
    let action = match name.as_str() {
        "reimport" => reimport(fields)?,
        "pause" => Action::Pause { pipelines: fields.pipelines()? },
        "resume" => Action::Resume { pipelines: fields.pipelines()? },
        "cleanup" => Action::Cleanup { pipelines: fields.pipelines()? },
        "verify" => Action::Verify { pipelines: fields.pipelines()?, repair: fields.flag("repair")? },
        "approve" => approve(fields)?,
        "replay" => {
            Action::Replay { pipeline: fields.required("pipeline")?.text(NAME_BYTES_MAX)?, keys: fields.keys()? }
        }
        "cancel" => Action::Cancel { pipelines: fields.pipelines()? },
        other => return Err(format!("`{place}`: found {}; expected one of {COMMANDS}", quoted(other))),
    };
    fields.end(&name)?;
    Ok((requester, action))
}

fn id(found: Found) -> Result<String, Refusal> {
    let place = found.place.clone();
    let id = found.text(ID_CHARS_MAX)?;
    if id.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(id)
    } else {
        Err(format!("`{place}`: found {}; expected visible ASCII characters without spaces", quoted(&id)))
    }
}

fn reimport(fields: &mut Fields) -> Result<Action, Refusal> {
    let pipelines = fields.pipelines()?;
    let (keys, ranges) = (fields.keys()?, fields.ranges()?);
    let part = if keys.is_empty() { "ranges" } else { "keys" };
    let is_part = !keys.is_empty() || !ranges.is_empty();
    if !keys.is_empty() && !ranges.is_empty() {
        return Err("`ranges`: found beside `keys`; one of them is expected".into());
    }
    let mode = match fields.map.remove("mode") {
        None if is_part => Extent::Full,
        None => Extent::Delta,
        Some(value) => match value.as_str() {
            Some("delta") => Extent::Delta,
            Some("full") => Extent::Full,
            _ => return Err(format!("`mode`: found {}; expected \"delta\" or \"full\"", shown(&value))),
        },
    };
    if is_part && pipelines.len() != 1 {
        return Err(format!("`pipelines`: found {}; with `{part}` exactly one is expected", pipelines.len()));
    }
    if is_part && mode == Extent::Delta {
        return Err(format!("`mode`: found \"delta\"; with `{part}` everything named is sent: expected \"full\""));
    }
    Ok(Action::Reimport { pipelines, mode, keys, ranges })
}

fn approve(fields: &mut Fields) -> Result<Action, Refusal> {
    let pipeline = fields.required("pipeline")?.text(NAME_BYTES_MAX)?;
    let run = fields.required("run")?.text(NAME_BYTES_MAX)?;
    let deletions_max = fields.required("deletions_max")?.count(1..=u64::MAX)?;
    let expires_seconds = match fields.optional("expires_seconds") {
        Some(found) => found.count(1..=EXPIRES_SECONDS_MAX)?,
        None => EXPIRES_SECONDS_DEFAULT,
    };
    Ok(Action::Approve { pipeline, run, deletions_max, expires_seconds })
}

/// The fields of an object that were not taken yet.
struct Fields {
    map: Map<String, Value>,
    /// Of the object, with a dot at its end.
    place: String,
}

impl Fields {
    fn optional(&mut self, name: &str) -> Option<Found> {
        self.map.remove(name).map(|value| Found { value, place: format!("{}{name}", self.place) })
    }

    fn required(&mut self, name: &str) -> Result<Found, Refusal> {
        self.optional(name).ok_or_else(|| format!("`{}{name}` is missing", self.place))
    }

    fn flag(&mut self, name: &str) -> Result<bool, Refusal> {
        match self.optional(name) {
            None => Ok(false),
            Some(Found { value: Value::Bool(flag), .. }) => Ok(flag),
            Some(found) => Err(found.unlike("true or false")),
        }
    }

    fn list(&mut self, name: &str, most: usize) -> Result<Vec<Found>, Refusal> {
        let Some(found) = self.optional(name) else { return Ok(Vec::new()) };
        let Value::Array(items) = found.value else { return Err(found.unlike("a list")) };
        if items.len() > most {
            return Err(format!("`{}`: found {} of them; at most {most} are taken", found.place, items.len()));
        }
        let at = |(at, value)| Found { value, place: format!("{}[{at}]", found.place) };
        Ok(items.into_iter().enumerate().map(at).collect())
    }

    fn pipelines(&mut self) -> Result<Vec<String>, Refusal> {
        let mut pipelines: Vec<String> = Vec::new();
        for found in self.list("pipelines", PIPELINES_MAX)? {
            let name = found.text(NAME_BYTES_MAX)?;
            if !pipelines.contains(&name) {
                pipelines.push(name);
            }
        }
        Ok(pipelines)
    }

    fn keys(&mut self) -> Result<Vec<KeyText>, Refusal> {
        self.list("keys", KEYS_MAX)?.into_iter().map(Found::key).collect()
    }

    fn ranges(&mut self) -> Result<Vec<KeySpan>, Refusal> {
        self.list("ranges", RANGES_MAX)?.into_iter().map(Found::span).collect()
    }

    /// Refuses what nobody took: a misspelt field that is passed over would ask for something else than was meant.
    fn end(&self, of: &str) -> Result<(), Refusal> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("`{}{}`: {of} knows no such field", self.place, cut(name))),
        }
    }
}

/// A value and where it was found.
struct Found {
    value: Value,
    place: String,
}

impl Found {
    fn unlike(&self, expected: &str) -> Refusal {
        format!("`{}`: found {}; expected {expected}", self.place, shown(&self.value))
    }

    fn text(self, bytes_max: usize) -> Result<String, Refusal> {
        match self.value {
            Value::String(text) if !text.is_empty() && text.len() <= bytes_max && !text.contains(char::is_control) => {
                Ok(text)
            }
            Value::String(text) if text.len() > bytes_max => {
                Err(format!("`{}`: found {} bytes; expected at most {bytes_max}", self.place, text.len()))
            }
            _ => Err(self.unlike("text that is not empty and has no control characters")),
        }
    }

    fn count(&self, allowed: std::ops::RangeInclusive<u64>) -> Result<u64, Refusal> {
        let count = self.value.as_u64().filter(|count| allowed.contains(count));
        count.ok_or_else(|| match *allowed.end() {
            u64::MAX => self.unlike(&format!("a whole number of at least {}", allowed.start())),
            most => self.unlike(&format!("a whole number from {} to {most}", allowed.start())),
        })
    }

    /// Text, a number or a boolean as it is written; an array of those for a composite key.
    fn key(self) -> Result<KeyText, Refusal> {
        let is_part = |value: &Value| value.is_string() || value.is_i64() || value.is_u64() || value.is_boolean();
        let text = match &self.value {
            Value::String(text) => text.clone(),
            Value::Array(parts) if !parts.is_empty() && parts.iter().all(is_part) => match parts.as_slice() {
                [Value::String(only)] => only.clone(),
                [only] => only.to_string(),
                _ => self.value.to_string(),
            },
            part if is_part(part) => part.to_string(),
            _ => return Err(self.unlike("a key: text, a whole number, or a list of those")),
        };
        if text.len() > KEY_BYTES_MAX {
            return Err(format!("`{}`: found {} bytes; expected at most {KEY_BYTES_MAX}", self.place, text.len()));
        }
        Ok(KeyText(text))
    }

    fn span(self) -> Result<KeySpan, Refusal> {
        let Value::Object(map) = self.value else { return Err(self.unlike("an object with `from`, `to` or both")) };
        let mut fields = Fields { map, place: format!("{}.", self.place) };
        let from = fields.optional("from").map(Found::key).transpose()?;
        let to = fields.optional("to").map(Found::key).transpose()?;
        fields.end("a range")?;
        if from.is_none() && to.is_none() {
            return Err(format!("`{}`: a range without ends is everything: leave `ranges` out", self.place));
        }
        Ok(KeySpan { from, to })
    }
}

/// A value for people, bounded.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) | Value::Number(_) => cut(&value.to_string()),
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "an object".into(),
    }
}

fn quoted(text: &str) -> String {
    format!("{:?}", cut(text))
}

fn cut(text: &str) -> String {
    let mut chars = text.chars();
    let mut cut: String = chars.by_ref().take(SHOWN_CHARS_MAX).collect();
    if chars.next().is_some() {
        cut.push('…');
    }
    cut
}
