//! Names and literals in SQL. COPY takes no bind parameters, so keys are written as literals, here and nowhere else.

use fides_core::{Fault, Namespace};

/// A quoted identifier.
pub(crate) fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quoted identifiers with a prefix (`p.`, or none), joined by commas.
pub(crate) fn names<'a>(prefix: &str, all: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = all.into_iter().map(|one| format!("{prefix}{}", name(one))).collect();
    quoted.join(", ")
}

/// A table's quoted name: `"schema"."table"`, or `"table"` found through the search path.
pub(crate) fn table(namespace: &Namespace) -> Result<String, Fault> {
    let parts = &namespace.0;
    if !(1..=2).contains(&parts.len()) || parts.iter().any(|part| part.is_empty() || part.contains('\0')) {
        return Err(Fault::permanent(format!("`{namespace}` does not name a table"))
            .advise("name it as table, or as schema.table"));
    }
    Ok(parts.iter().map(|part| name(part)).collect::<Vec<_>>().join("."))
}

/// A text literal that means the same under either setting of `standard_conforming_strings`. The text must not hold
/// NUL, which no text of Postgres can.
pub(crate) fn text(text: &str) -> String {
    debug_assert!(!text.contains('\0'));
    let mut out = String::with_capacity(text.len() + 3);
    if text.contains('\\') {
        out.push('E');
    }
    out.push('\'');
    for char in text.chars() {
        if matches!(char, '\'' | '\\') {
            out.push(char);
        }
        out.push(char);
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(name("a\"b"), "\"a\"\"b\"");
        assert_eq!(text("it's"), "'it''s'");
        assert_eq!(text("\\'"), "E'\\\\'''");
        assert_eq!(table(&Namespace(vec!["s".into(), "t.u".into()])).unwrap(), "\"s\".\"t.u\"");
    }

    #[test]
    fn what_names_no_table_is_refused() {
        for parts in [vec![], vec![""], vec!["a", "b", "c"], vec!["a\0b"]] {
            let namespace = Namespace(parts.into_iter().map(str::to_owned).collect());
            assert!(table(&namespace).unwrap_err().to_string().contains("schema.table"));
        }
    }
}
