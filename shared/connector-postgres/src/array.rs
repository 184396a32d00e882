//! The text of arrays: `{1,NULL,"a \"b\"",{…}}`.

use std::borrow::Cow;

use fides_core::Value;

use crate::kind::PgType;

/// Postgres itself stops at 6 dimensions.
const DEPTH_MAX: usize = 16;

/// Reads an array; `None` when the text is none.
pub(crate) fn parse(text: &str, element: &PgType) -> Option<Value<'static>> {
    let mut rest = text;
    let value = list(&mut rest, element, 0)?;
    rest.is_empty().then_some(value)
}

fn list(rest: &mut &str, element: &PgType, depth: usize) -> Option<Value<'static>> {
    *rest = rest.strip_prefix('{').filter(|_| depth < DEPTH_MAX)?;
    let mut items = Vec::new();
    if let Some(tail) = rest.strip_prefix('}') {
        *rest = tail;
        return Some(Value::Array(items));
    }
    loop {
        items.push(if rest.starts_with('{') { list(rest, element, depth + 1)? } else { item(rest, element)? });
        let (mark, tail) = rest.split_at_checked(1)?;
        *rest = tail;
        match mark {
            "," => {}
            "}" => return Some(Value::Array(items)),
            _ => return None,
        }
    }
}

fn item(rest: &mut &str, element: &PgType) -> Option<Value<'static>> {
    if let Some(body) = rest.strip_prefix('"') {
        let mut text = String::new();
        let mut chars = body.char_indices();
        loop {
            match chars.next()? {
                (at, '"') => {
                    *rest = &body[at + 1..];
                    return element.value(Cow::Owned(text)).map(Value::into_owned);
                }
                (_, '\\') => text.push(chars.next()?.1),
                (_, char) => text.push(char),
            }
        }
    }
    let end = rest.find([',', '}'])?;
    let (text, tail) = rest.split_at(end);
    *rest = tail;
    if text == "NULL" {
        return Some(Value::Null);
    }
    element.value(Cow::Owned(text.to_owned())).map(Value::into_owned)
}

/// Appends the items as the text of an array, each written by `put` and quoted.
pub(crate) fn write(
    items: &[Value<'_>],
    out: &mut String,
    put: &dyn Fn(&Value<'_>, &mut String) -> Result<(), String>,
) -> Result<(), String> {
    out.push('{');
    let mut text = String::new();
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        match item {
            Value::Null | Value::Absent => out.push_str("NULL"),
            Value::Array(inner) => write(inner, out, put)?,
            item => {
                text.clear();
                put(item, &mut text)?;
                out.push('"');
                for char in text.chars() {
                    if matches!(char, '"' | '\\') {
                        out.push('\\');
                    }
                    out.push(char);
                }
                out.push('"');
            }
        }
    }
    out.push('}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: &Value<'_>, out: &mut String) -> Result<(), String> {
        match value {
            Value::String(text) => out.push_str(text),
            other => return Err(format!("{other:?}")),
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(items in prop::collection::vec(prop::collection::vec(prop::option::of(".*"), 1..4), 0..4)) {
            let item = |item: Option<String>| item.map_or(Value::Null, |text| Value::String(text.into()));
            let list = |items: Vec<Option<String>>| Value::Array(items.into_iter().map(item).collect());
            let value: Vec<Value<'_>> = items.into_iter().map(list).collect();
            let mut written = String::new();
            write(&value, &mut written, &text).unwrap();
            prop_assert_eq!(parse(&written, &PgType::Text), Some(Value::Array(value)));
        }

        #[test]
        fn any_text_is_read_without_panic(any in "[{},\"\\\\aN€]*") {
            let _ = parse(&any, &PgType::Text);
        }
    }

    #[test]
    fn null_is_not_the_text_null() {
        let parsed = parse(r#"{NULL,"NULL",a b}"#, &PgType::Text).unwrap();
        let expected = vec![Value::Null, Value::String("NULL".into()), Value::String("a b".into())];
        assert_eq!(parsed, Value::Array(expected));
        let nested = parse("{{1,2},{3,NULL}}", &PgType::Int).unwrap();
        let row = |items: [Value<'static>; 2]| Value::Array(items.into());
        assert_eq!(nested, Value::Array(vec![row([Value::I64(1), Value::I64(2)]), row([Value::I64(3), Value::Null])]));
    }
}
