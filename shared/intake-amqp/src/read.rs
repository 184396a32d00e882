//! A delivery as an event.

use fides_cloudevents::{Event, Malformed, Mode, binary, mode, structured};
use fides_core::Key;
use lapin::BasicProperties;
use lapin::types::AMQPValue;

use crate::Route;

/// The record that a delivery concerns; `None` where it does not concern the pipeline.
pub(crate) fn key_of(route: &Route, properties: &BasicProperties, body: &[u8]) -> Result<Option<Key>, Malformed> {
    let event = event(properties, body)?;
    let key = route.rule.key_of(&event)?;
    key.map(|key| route.hints.key(&key)).transpose().map_err(|fault| Malformed::new(fault.to_string()))
}

fn event(properties: &BasicProperties, body: &[u8]) -> Result<Event, Malformed> {
    let content_type = properties.content_type().as_ref().map(lapin::types::ShortString::as_str);
    match mode(content_type)? {
        Mode::Structured => structured(body),
        Mode::Batch => {
            Err(Malformed::new("found a batch, which the AMQP binding does not have: expected one event a message"))
        }
        Mode::Binary => binary(attributes(properties), content_type, body),
    }
}

/// The attributes in headers: the binding's `cloudEvents:`, or `cloudEvents_` for clients that cannot write a colon.
fn attributes(properties: &BasicProperties) -> Vec<(String, String)> {
    let headers = properties.headers().iter().flat_map(|table| table.inner().iter());
    headers
        .filter_map(|(name, value)| {
            let name = name.as_str();
            let name = name.strip_prefix("cloudEvents:").or_else(|| name.strip_prefix("cloudEvents_"))?;
            Some((name.to_owned(), text_of(value)?))
        })
        .collect()
}

fn text_of(value: &AMQPValue) -> Option<String> {
    Some(match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok()?.to_owned(),
        AMQPValue::ShortString(text) => text.as_str().to_owned(),
        AMQPValue::Boolean(flag) => flag.to_string(),
        AMQPValue::LongInt(number) => number.to_string(),
        AMQPValue::LongLongInt(number) => number.to_string(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use lapin::types::{FieldTable, ShortString};

    use super::*;

    fn properties(prefix: &str, content_type: Option<&str>) -> BasicProperties {
        let mut headers = FieldTable::default();
        for (name, value) in [("specversion", "1.0"), ("id", "1"), ("source", "/shop"), ("type", "t"), ("subject", "7")]
        {
            headers.insert(ShortString::from(format!("{prefix}{name}")), AMQPValue::LongString(value.into()));
        }
        let properties = BasicProperties::default().with_headers(headers);
        match content_type {
            Some(content_type) => properties.with_content_type(content_type.into()),
            None => properties,
        }
    }

    #[test]
    fn both_prefixes_and_both_modes_are_one_event() {
        let body = br#"{"specversion":"1.0","id":"1","source":"/shop","type":"t","subject":"7"}"#;
        let structured = BasicProperties::default().with_content_type("application/cloudevents+json".into());
        let expected = event(&structured, body).unwrap();
        for prefix in ["cloudEvents:", "cloudEvents_"] {
            assert_eq!(event(&properties(prefix, None), b"").unwrap(), expected, "{prefix}");
        }
    }

    #[test]
    fn what_is_no_event_says_why() {
        for (properties, body, reason) in [
            (BasicProperties::default(), &b"{}"[..], "specversion"),
            (properties("ce-", None), b"", "specversion"),
            (properties("cloudEvents:", Some("application/json")), b"{", "no JSON"),
            (properties("cloudEvents:", Some("application/cloudevents-batch+json")), b"[]", "batch"),
        ] {
            let refused = event(&properties, body).unwrap_err().to_string();
            assert!(refused.contains(reason), "{reason}: {refused}");
        }
    }
}
