//! The id of a document: a static injective function of its key (L12).

use std::fmt::Write;

use fides_core::{Fault, Key, Kind, Value};
use fides_format::text::uuid_text;

/// What Cosmos takes.
const ID_BYTES_MAX: usize = 1_023;

/// The id under which a key is stored. `kinds` are those that the mapping declares for its columns.
///
/// Columns are joined by commas, each written as people do (`42`, `de,berlin`). Whatever an id may not hold, or would make
/// two keys one, is written as `~` and two hex digits a byte; a column that is empty as a lone `~`. A value of another kind
/// than its column's, which SQLite allows, has its kind written before it: the number 1 and the text "1" are two keys.
pub(crate) fn id(key: &Key, kinds: &[Kind]) -> Result<String, Fault> {
    let mut id = String::new();
    for (at, column) in key.decode()?.iter().enumerate() {
        if at > 0 {
            id.push(',');
        }
        put(column, kinds.get(at).copied(), &mut id);
    }
    if id.len() > ID_BYTES_MAX {
        return Err(Fault::permanent(format!(
            "the id of key {key} has {} bytes, and Cosmos takes {ID_BYTES_MAX}",
            id.len()
        ))
        .advise("choose a shorter key"));
    }
    Ok(id)
}

fn put(column: &Value<'_>, declared: Option<Kind>, id: &mut String) {
    let (kind, tag) = match column {
        Value::Bool(_) => (Kind::Bool, 't'),
        // The encoding of keys has one order of signed and unsigned numbers, and one of the two kinds for each.
        Value::I64(_) | Value::U64(_) => (Kind::I64, 'n'),
        Value::Uuid(_) => (Kind::Uuid, 'u'),
        Value::Bytes(_) => (Kind::Bytes, 'y'),
        _ => (Kind::String, 's'),
    };
    let declared = declared.map(|kind| if kind == Kind::U64 { Kind::I64 } else { kind });
    if declared != Some(kind) {
        id.push('~');
        id.push(tag);
    }
    let start = id.len();
    match column {
        Value::Bool(value) => id.push_str(if *value { "true" } else { "false" }),
        Value::I64(value) => write!(id, "{value}").unwrap_or_default(),
        Value::U64(value) => write!(id, "{value}").unwrap_or_default(),
        Value::Uuid(value) => id.push_str(&uuid_text(value)),
        Value::Bytes(value) => value.iter().for_each(|byte| write!(id, "{byte:02x}").unwrap_or_default()),
        Value::String(text) => put_text(text, id),
        // No other kind is a key.
        _ => {}
    }
    if id.len() == start {
        id.push('~');
    }
}

/// Also `.` and `..`, which are ways in a URL, and blanks at either end, which are cut.
fn put_text(text: &str, id: &mut String) {
    let is_way = text.bytes().all(|byte| byte == b'.');
    let last = text.chars().count().saturating_sub(1);
    for (at, char) in text.chars().enumerate() {
        let is_edge = at == 0 || at == last;
        let is_plain = !(matches!(char, '/' | '\\' | '?' | '#' | ',' | '~' | '%')
            || char.is_control()
            || (char == '.' && is_way)
            || (char.is_whitespace() && (is_edge || char != ' ')));
        if is_plain {
            id.push(char);
        } else {
            let mut bytes = [0; 4];
            char.encode_utf8(&mut bytes).bytes().for_each(|byte| write!(id, "~{byte:02X}").unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id_of(columns: &[Value<'_>], kinds: &[Kind]) -> String {
        id(&Key::encode(columns).unwrap(), kinds).unwrap()
    }

    #[test]
    fn ids_are_what_people_write() {
        let text = |text: &'static str| Value::String(text.into());
        assert_eq!(id_of(&[Value::I64(-42)], &[Kind::I64]), "-42");
        assert_eq!(id_of(&[Value::U64(u64::MAX)], &[Kind::U64]), u64::MAX.to_string());
        assert_eq!(id_of(&[text("de"), Value::I64(7)], &[Kind::String, Kind::I64]), "de,7");
        assert_eq!(id_of(&[text("a/b?c#d\\e,f~%")], &[Kind::String]), "a~2Fb~3Fc~23d~5Ce~2Cf~7E~25");
        assert_eq!(id_of(&[text(" a b ")], &[Kind::String]), "~20a b~20");
        assert_eq!(id_of(&[text("..")], &[Kind::String]), "~2E~2E");
        assert_eq!(id_of(&[text("Zoë 日本")], &[Kind::String]), "Zoë 日本");
        assert_eq!(id_of(&[text("")], &[Kind::String]), "~");
        assert_eq!(id_of(&[Value::I64(1)], &[Kind::Any]), "~n1");
        assert_eq!(id_of(&[text("1")], &[Kind::Any]), "~s1");
    }

    #[test]
    fn an_id_that_is_too_long_fails_its_record() {
        let long = Key::encode(&[Value::String("x".repeat(1_024).into())]).unwrap();
        assert!(id(&long, &[Kind::String]).unwrap_err().to_string().contains("1023"));
    }

    fn column() -> impl Strategy<Value = Value<'static>> {
        prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            (-3i64..3).prop_map(Value::I64),
            any::<i64>().prop_map(Value::I64),
            "[-~,1-2.a s%/n]{0,4}".prop_map(|text| Value::String(text.into())),
            ".{0,3}".prop_map(|text| Value::String(text.into())),
            any::<[u8; 16]>().prop_map(Value::Uuid),
            prop::collection::vec(0u8..3, 0..3).prop_map(|bytes| Value::Bytes(bytes.into())),
        ]
    }

    proptest! {
        #[test]
        fn two_keys_are_never_one_id(
            a in prop::collection::vec(column(), 2), b in prop::collection::vec(column(), 2),
            kinds in prop::collection::vec(prop::sample::select(&Kind::ALL), 2),
        ) {
            let same = Key::encode(&a).unwrap() == Key::encode(&b).unwrap();
            prop_assert_eq!(id_of(&a, &kinds) == id_of(&b, &kinds), same);
        }

        #[test]
        fn an_id_holds_nothing_that_cosmos_forbids(text in ".{0,9}") {
            let id = id_of(&[Value::String(text.into())], &[Kind::String]);
            prop_assert!(!id.is_empty() && !id.contains(['/', '\\', '?', '#']) && !id.chars().any(char::is_control));
            prop_assert_eq!(id.trim(), &id);
        }
    }
}
