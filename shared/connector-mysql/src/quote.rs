//! Names and literals in SQL. The text protocol takes no parameters, so values are written as literals, here and nowhere
//! else. Sessions have `utf8mb4` and no `NO_BACKSLASH_ESCAPES` (see [`crate::connect`]).

use fides_core::{Fault, Namespace};

/// A quoted identifier.
pub(crate) fn name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Quoted identifiers with a prefix (`p.`, or none), joined by commas.
pub(crate) fn names<'a>(prefix: &str, all: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = all.into_iter().map(|one| format!("{prefix}{}", name(one))).collect();
    quoted.join(", ")
}

/// A table's quoted name: `` `database`.`table` ``, or `` `table` `` of the URL's database.
pub(crate) fn table(namespace: &Namespace) -> Result<String, Fault> {
    let parts = &namespace.0;
    if !(1..=2).contains(&parts.len()) || parts.iter().any(|part| part.is_empty() || part.contains('\0')) {
        return Err(Fault::permanent(format!("`{namespace}` does not name a table"))
            .advise("name it as table, or as database.table"));
    }
    Ok(parts.iter().map(|part| name(part)).collect::<Vec<_>>().join("."))
}

/// Appends a text literal.
pub(crate) fn put_text(text: &str, out: &mut String) {
    out.push('\'');
    for char in text.chars() {
        match char {
            '\'' | '\\' => out.extend(['\\', char]),
            '\0' => out.push_str("\\0"),
            _ => out.push(char),
        }
    }
    out.push('\'');
}

/// A text literal.
pub(crate) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    put_text(text, &mut out);
    out
}

/// Appends a literal of bytes.
pub(crate) fn put_bytes(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 * bytes.len() + 3);
    out.push_str("X'");
    for byte in bytes {
        out.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]].map(char::from));
    }
    out.push('\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_escaped() {
        assert_eq!(name("a`b"), "`a``b`");
        assert_eq!(text("it's \\ \0"), "'it\\'s \\\\ \\0'");
        assert_eq!(table(&Namespace(vec!["s".into(), "t.u".into()])).unwrap(), "`s`.`t.u`");
        let mut out = String::new();
        put_bytes(&[0, 0xff, 0x1a], &mut out);
        assert_eq!(out, "X'00ff1a'");
    }

    #[test]
    fn what_names_no_table_is_refused() {
        for parts in [vec![], vec![""], vec!["a", "b", "c"], vec!["a\0b"]] {
            let namespace = Namespace(parts.into_iter().map(str::to_owned).collect());
            assert!(table(&namespace).unwrap_err().to_string().contains("database.table"));
        }
    }
}
