use std::borrow::Cow;
use std::collections::HashMap;

use fides_core::{Fault, Value};
use json_event_parser::{JsonEvent, SliceJsonParser};

/// Arrays and objects nest at most this deep (L10).
const DEPTH_MAX: usize = 128;

/// Reads one JSON text, borrowing from it. Lossless: an integer becomes I64, beyond that U64, and every other number a
/// Decimal with the digits that were written (`-0` too). Of two fields with one name the last wins, at the place of the
/// first, as in Postgres' `jsonb`.
///
/// Bad syntax, nesting beyond 128 levels and half surrogates are Permanent faults.
pub fn parse_json(text: &str) -> Result<Value<'_>, Fault> {
    let mut parser = SliceJsonParser::new(text.as_bytes());
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut root = None;
    loop {
        let event = parser.parse_next().map_err(|error| Fault::permanent(format!("not JSON: {error}")))?;
        let value = match event {
            JsonEvent::Eof => return root.ok_or_else(|| Fault::permanent("not JSON: nothing there")),
            JsonEvent::StartArray => {
                open.push(Open::Array(Vec::new()));
                deep_enough(&open)?;
                continue;
            }
            JsonEvent::StartObject => {
                open.push(Open::Object(Vec::new(), None));
                deep_enough(&open)?;
                continue;
            }
            JsonEvent::ObjectKey(name) => {
                if let Some(Open::Object(_, next)) = open.last_mut() {
                    *next = Some(name);
                }
                continue;
            }
            JsonEvent::EndArray | JsonEvent::EndObject => match open.pop() {
                Some(Open::Array(items)) => Value::Array(items),
                Some(Open::Object(fields, _)) => Value::Object(last_wins(fields)),
                None => continue, // the parser reports it
            },
            JsonEvent::String(text) => Value::String(text),
            JsonEvent::Number(text) => number(text),
            JsonEvent::Boolean(value) => Value::Bool(value),
            JsonEvent::Null => Value::Null,
        };
        match open.last_mut() {
            Some(Open::Array(items)) => items.push(value),
            Some(Open::Object(fields, name)) => fields.extend(name.take().map(|name| (name, value))),
            None => root = Some(value),
        }
    }
}

enum Open<'a> {
    Array(Vec<Value<'a>>),
    /// The fields so far and the name of the next one.
    Object(Fields<'a>, Option<Cow<'a, str>>),
}

type Fields<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

fn deep_enough(open: &[Open<'_>]) -> Result<(), Fault> {
    if open.len() > DEPTH_MAX {
        return Err(Fault::permanent(format!("JSON that nests deeper than {DEPTH_MAX} levels")));
    }
    Ok(())
}

fn number(text: Cow<'_, str>) -> Value<'_> {
    if &*text == "-0" {
        return Value::Decimal(text);
    }
    match (text.parse(), text.parse()) {
        (Ok(value), _) => Value::I64(value),
        (_, Ok(value)) => Value::U64(value),
        _ => Value::Decimal(text),
    }
}

/// Leaves each name once. Few fields are compared with each other, many through a map: foreign text must not be able to
/// cost more than its length.
fn last_wins(fields: Fields<'_>) -> Fields<'_> {
    const FEW: usize = 12;
    let is_plain = fields.len() <= FEW
        && fields.iter().enumerate().all(|(at, (name, _))| fields[..at].iter().all(|(known, _)| known != name));
    if is_plain {
        return fields;
    }
    let mut places = HashMap::with_capacity(fields.len());
    let mut kept: Fields<'_> = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        let place = *places.entry(name.clone()).or_insert(kept.len());
        match kept.get_mut(place) {
            Some(field) => field.1 = value,
            None => kept.push((name, value)),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::to_json;

    #[test]
    fn numbers_keep_their_digits() {
        let parsed = |text: &'static str| parse_json(text).expect(text);
        assert_eq!(parsed("9007199254740993"), Value::I64(9_007_199_254_740_993));
        assert_eq!(parsed("18446744073709551615"), Value::U64(u64::MAX));
        for text in ["18446744073709551616", "1.50", "1e400", "-0", "0.1000000000000000055511151231257827"] {
            assert_eq!(parsed(text), Value::Decimal(text.into()));
        }
    }

    #[test]
    fn the_last_of_two_fields_wins() {
        assert_eq!(to_json(&parse_json(r#"{"a":1,"b":2,"a":3}"#).expect("JSON")), r#"{"a":3,"b":2}"#);
        let many: Vec<_> = (0..100).map(|at| format!("\"k{}\":{at}", at % 50)).collect();
        let Value::Object(fields) = parse_json(&format!("{{{}}}", many.join(","))).expect("JSON").into_owned() else {
            panic!("an object")
        };
        assert_eq!((fields.len(), &fields[0]), (50, &("k0".into(), Value::I64(50))));
    }

    #[test]
    fn what_is_no_json_is_a_permanent_fault() {
        for text in ["", " ", "{", "[1,]", "1 2", "{\"a\"}", "nul", "\"\\ud800\"", "NaN", "'a'"] {
            assert!(parse_json(text).is_err(), "{text:?}");
        }
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(parse_json(&deep(128)).is_ok());
        assert!(parse_json(&deep(129)).is_err());
        assert!(parse_json(&"[".repeat(1_000_000)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC*") {
            let _ = parse_json(&text);
        }

        #[test]
        fn text_made_of_json_is_read_as_serde_does(text in r#"([\[\]{},: "a01.e\-]|true|null|"b":){0,12}"#) {
            let other = serde_json::from_str::<serde_json::Value>(&text);
            if !text.contains('e') { // serde_json bounds exponents
                prop_assert_eq!(parse_json(&text).is_ok(), other.is_ok(), "{:?}", other);
            }
        }

        #[test]
        fn strings_survive(text: String) {
            let json = to_json(&Value::String(text.as_str().into()));
            prop_assert_eq!(parse_json(&json).expect("JSON"), Value::String(text.into()));
        }
    }
}
