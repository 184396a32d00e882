use std::borrow::Cow;

use fides_core::{Fault, Key, Kind, Selection, Value};

/// Reads a key as people write it: `42`, `de/berlin` for a composite key, or a JSON array where a part holds a `/`.
pub fn parse_key(selection: &Selection, text: &str) -> Result<Key, Fault> {
    let columns: Vec<_> =
        selection.key.iter().filter_map(|name| selection.columns.iter().find(|column| column.name == *name)).collect();
    let expected = || {
        let parts: Vec<String> = columns.iter().map(|column| format!("{} ({})", column.name, column.kind)).collect();
        format!("expected {}", parts.join("/"))
    };
    let parts: Vec<String> = if columns.len() == 1 {
        vec![text.to_owned()]
    } else if text.starts_with('[') {
        serde_json::from_str::<Vec<serde_json::Value>>(text)
            .map_err(|error| Fault::permanent(format!("key {text}: {error}")).advise(expected()))?
            .into_iter()
            .map(|part| part.as_str().map_or_else(|| part.to_string(), ToOwned::to_owned))
            .collect()
    } else {
        text.split('/').map(ToOwned::to_owned).collect()
    };
    if parts.len() != columns.len() {
        return Err(Fault::permanent(format!("key {text} has {} parts", parts.len())).advise(expected()));
    }
    let values = columns
        .iter()
        .zip(&parts)
        .map(|(column, part)| {
            parse_part(column.kind, part).ok_or_else(|| {
                Fault::permanent(format!("key {text}: {part:?} is not a {}", column.kind)).advise(expected())
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    Key::encode(&values)
}

/// A key as [`parse_key`] reads it back: parts joined by `/`, or as a JSON array where that would be read as something else.
pub fn key_text(selection: &Selection, key: &Key) -> String {
    let shown = key.to_string();
    if parse_key(selection, &shown).is_ok_and(|read| read == *key) {
        return shown;
    }
    let part = |value: &Value<'_>| Key::encode(std::slice::from_ref(value)).map(|part| part.to_string());
    let parts: Option<Vec<String>> =
        key.decode().ok().and_then(|values| values.iter().map(part).collect::<Result<_, _>>().ok());
    parts.map_or(shown, |parts| serde_json::Value::from(parts).to_string())
}

fn parse_part(kind: Kind, part: &str) -> Option<Value<'static>> {
    let text = || Value::String(Cow::Owned(part.to_owned()));
    Some(match kind {
        Kind::I64 => Value::I64(part.parse().ok()?),
        Kind::U64 => Value::U64(part.parse().ok()?),
        Kind::Bool => Value::Bool(part.parse().ok()?),
        Kind::Uuid => Value::Uuid(hex::<16>(&part.replace('-', ""))?),
        Kind::Bytes => Value::Bytes(Cow::Owned(hex_bytes(part.strip_prefix("\\x").unwrap_or(part))?)),
        // A column without a type holds what was put there; a number is the likelier guess.
        Kind::Any => part.parse().map_or_else(|_| text(), Value::I64),
        _ => text(),
    })
}

fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    // from_str_radix would take a sign too.
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    hex_bytes(text)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fides_core::{Column, Namespace};
    use proptest::prelude::*;

    fn selection(kinds: &[Kind]) -> Selection {
        let column = |(at, kind): (usize, &Kind)| Column {
            name: format!("k{at}"),
            kind: *kind,
            native: String::new(),
            nullable: false,
        };
        let columns: Vec<Column> = kinds.iter().enumerate().map(column).collect();
        Selection {
            namespace: Namespace(vec!["t".into()]),
            key: columns.iter().map(|column| column.name.clone()).collect(),
            columns,
            includes: Vec::new(),
            seed: 0,
            page_records_max: 1,
        }
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        let uuid = Value::Uuid(*b"0123456789abcdef");
        let cases: Vec<(Vec<Kind>, Vec<Value<'_>>)> = vec![
            (vec![Kind::I64], vec![Value::I64(-42)]),
            (vec![Kind::String], vec![Value::String("a/ü".into())]),
            (vec![Kind::Uuid], vec![uuid]),
            (vec![Kind::Bytes], vec![Value::Bytes(vec![0, 255].into())]),
            (vec![Kind::String, Kind::I64], vec![Value::String("de".into()), Value::I64(7)]),
        ];
        for (kinds, values) in cases {
            let key = Key::encode(&values).unwrap();
            assert_eq!(parse_key(&selection(&kinds), &key.to_string()).unwrap(), key);
        }
        let composite = selection(&[Kind::String, Kind::I64]);
        let key = Key::encode(&[Value::String("a/b".into()), Value::I64(7)]).unwrap();
        assert_eq!(parse_key(&composite, r#"["a/b", 7]"#).unwrap(), key);
        assert_eq!(key_text(&composite, &key), r#"["a/b","7"]"#);
        for parts in ["a/b", "a", "", "[", "[\"a\",1]", "ü\"\\"] {
            let key = Key::encode(&[Value::String(parts.into()), Value::I64(7)]).unwrap();
            assert_eq!(parse_key(&composite, &key_text(&composite, &key)).unwrap(), key, "{parts}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_read_without_panic(
            text in prop_oneof!["\\PC{0,12}", "[0-9a-f+/\\[\\]\",x\\\\ -]{0,40}"],
            kinds in prop::collection::vec(prop::sample::select(&Kind::ALL[..]), 1..3),
        ) {
            match parse_key(&selection(&kinds), &text) {
                // Every part was understood.
                Ok(key) => prop_assert_eq!(key.decode().unwrap().len(), kinds.len()),
                Err(fault) => prop_assert!(!fault.to_string().is_empty()),
            }
        }

        #[test]
        fn bytes_are_hexadecimal_digits_and_nothing_else(text in "[0-9a-fA-FgG+é -]{0,6}") {
            let read = parse_key(&selection(&[Kind::Bytes]), &text).is_ok();
            let digits = text.chars().all(|char| char.is_ascii_hexdigit()) && text.len() % 2 == 0;
            prop_assert_eq!(read, digits, "{:?}", text);
        }
    }

    #[test]
    fn a_wrong_key_says_what_was_expected() {
        let fault = parse_key(&selection(&[Kind::String, Kind::I64]), "de/x").unwrap_err().to_string();
        assert!(fault.contains("\"x\"") && fault.contains("k0 (string)/k1 (i64)"), "{fault}");
        assert!(parse_key(&selection(&[Kind::Uuid]), "ü").is_err());
    }
}
