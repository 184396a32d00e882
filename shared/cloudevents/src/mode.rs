//! How a transport carries events, and events whose attributes are the transport's own headers.

use crate::event::{Attributes, Data, Event, Malformed, shortened};

/// How a transport carries events, by the content type of what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One event, attributes and data in one JSON object.
    Structured,
    /// A JSON array of such objects.
    Batch,
    /// The data; the attributes are headers.
    Binary,
}

/// The mode that a content type names. A format of events other than JSON is refused.
pub fn mode(content_type: Option<&str>) -> Result<Mode, Malformed> {
    let essence = essence(content_type.unwrap_or_default());
    if !essence.starts_with("application/cloudevents") {
        return Ok(Mode::Binary);
    }
    match essence.as_str() {
        "application/cloudevents" | "application/cloudevents+json" => Ok(Mode::Structured),
        "application/cloudevents-batch" | "application/cloudevents-batch+json" => Ok(Mode::Batch),
        other => Err(Malformed::new(format!(
            "found content type {:?}, expected application/cloudevents+json or application/cloudevents-batch+json",
            shortened(other)
        ))),
    }
}

/// Reads an event in binary mode: its attributes by their names without the transport's prefix.
pub fn binary(
    attributes: impl IntoIterator<Item = (String, String)>,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<Event, Malformed> {
    let mut read = Attributes::default();
    for (name, value) in attributes {
        read.put(&name, value);
    }
    if body.is_empty() {
        return read.with(Data::Absent);
    }
    // Before the data: what is no event at all is told as that, whatever its body is.
    let event = read.with(Data::Other(content_type.unwrap_or_default().to_owned()))?;
    let data = match (serde_json::from_slice(body), content_type) {
        (Ok(data), None) => data,
        (Ok(data), Some(content_type)) if is_json(content_type) => data,
        (Err(error), Some(content_type)) if is_json(content_type) => {
            return Err(Malformed::new(format!("the data is no JSON: {error}")));
        }
        // Without a content type it may be anything.
        _ => return Ok(event),
    };
    Ok(Event { data: Data::Json(data), ..event })
}

/// A header's value without the percent encoding of the HTTP binding.
pub fn percent_decoded(value: &str) -> Result<String, Malformed> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let encoded = if first == b'%' {
            rest.split_at_checked(2).and_then(|(pair, after)| Some((hex(pair)?, after)))
        } else {
            None
        };
        match encoded {
            Some((byte, after)) => {
                bytes.push(byte);
                rest = after;
            }
            None => bytes.push(first),
        }
    }
    String::from_utf8(bytes)
        .map_err(|_| Malformed::new(format!("the header value {:?} is no UTF-8 when decoded", shortened(value))))
}

fn hex(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*pair.first()?)? * 16 + digit(*pair.get(1)?)?).ok()
}

/// Whether a media type is JSON.
pub(crate) fn is_json(content_type: &str) -> bool {
    let essence = essence(content_type);
    essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
}

fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
