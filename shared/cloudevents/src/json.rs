//! The JSON format: one event, or a batch of them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::event::{Attributes, Data, Event, Malformed, shortened};
use crate::mode::is_json;

/// Reads one event in structured mode.
pub fn structured(body: &[u8]) -> Result<Event, Malformed> {
    match parse(body)? {
        Value::Object(fields) => event(fields),
        other => Err(Malformed::new(format!("found {}, expected an event: a JSON object", name_of(&other)))),
    }
}

/// Reads a batch of at most `events_max`. One that is malformed refuses them all, by its place: whoever sent them repeats
/// the request, and nothing is half done.
pub fn batch(body: &[u8], events_max: usize) -> Result<Vec<Event>, Malformed> {
    let Value::Array(items) = parse(body)? else {
        return Err(Malformed::new("found something else, expected a batch: a JSON array of events"));
    };
    if items.len() > events_max {
        return Err(Malformed::new(format!("found {} events, expected at most {events_max} in a batch", items.len())));
    }
    let read = |(at, item)| match item {
        Value::Object(fields) => event(fields).map_err(|malformed| malformed.at(format!("event {at}"))),
        other => Err(Malformed::new(format!("event {at}: found {}, expected a JSON object", name_of(&other)))),
    };
    items.into_iter().enumerate().map(read).collect()
}

fn parse(body: &[u8]) -> Result<Value, Malformed> {
    serde_json::from_slice(body).map_err(|error| Malformed::new(format!("the body is no JSON: {error}")))
}

fn event(mut fields: Map<String, Value>) -> Result<Event, Malformed> {
    let data = data(&mut fields)?;
    let mut attributes = Attributes::default();
    for (name, value) in fields {
        match value {
            Value::String(text) => attributes.put(&name, text),
            // As if it were not there.
            Value::Null => {}
            Value::Bool(_) | Value::Number(_) if !NAMED.contains(&name.as_str()) => {}
            other => {
                let (name, found) = (shortened(&name), name_of(&other));
                return Err(Malformed::new(format!("attribute `{name}` is {found}, expected text")));
            }
        }
    }
    attributes.with(data)
}

/// Attributes that are text, whatever an extension may be.
const NAMED: [&str; 8] = ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"];

fn data(fields: &mut Map<String, Value>) -> Result<Data, Malformed> {
    let kind = match fields.get("datacontenttype") {
        Some(Value::String(kind)) => kind.clone(),
        _ => "application/json".to_owned(),
    };
    let (plain, encoded) = (fields.remove("data"), fields.remove("data_base64"));
    match (plain, encoded.filter(|encoded| !encoded.is_null())) {
        (Some(_), Some(_)) => Err(Malformed::new("found both `data` and `data_base64`, expected one at most")),
        (None, None) => Ok(Data::Absent),
        (Some(data), None) if is_json(&kind) => Ok(Data::Json(data)),
        (Some(_), None) => Ok(Data::Other(kind)),
        (None, Some(Value::String(text))) => {
            let bytes = STANDARD.decode(text).map_err(|_| Malformed::new("`data_base64` is no Base64"))?;
            if !is_json(&kind) {
                return Ok(Data::Other(kind));
            }
            let value = serde_json::from_slice(&bytes);
            value.map(Data::Json).map_err(|error| Malformed::new(format!("`data_base64` holds no JSON: {error}")))
        }
        (None, Some(other)) => {
            Err(Malformed::new(format!("`data_base64` is {}, expected text in Base64", name_of(&other))))
        }
    }
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
