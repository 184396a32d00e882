//! Building SQL: quoted names, numbered parameters, keyset conditions.

use std::fmt::Write as _;

use fides_core::{Fault, Namespace};

/// `name` as an identifier, whatever characters it holds.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The table's name: SQLite namespaces are `[table]` or `[main, table]`.
pub(crate) fn table_name(namespace: &Namespace) -> Result<&str, Fault> {
    match namespace.0.as_slice() {
        [table] => Ok(table),
        [schema, table] if schema.eq_ignore_ascii_case("main") => Ok(table),
        _ => Err(Fault::permanent(format!("{namespace} cannot be a table of SQLite"))
            .advise("write `table` or `main.table`")),
    }
}

/// The table, quoted and qualified.
pub(crate) fn table(namespace: &Namespace) -> Result<String, Fault> {
    Ok(format!("main.{}", quoted(table_name(namespace)?)))
}

/// `?1, ?2, …`: `count` parameters after the first `before`.
pub(crate) fn parameters(before: usize, count: usize) -> String {
    list(before + 1..=before + count, |at| format!("?{at}"))
}

/// `parts` joined by commas.
pub(crate) fn list<T>(parts: impl IntoIterator<Item = T>, mut each: impl FnMut(T) -> String) -> String {
    joined(parts.into_iter().map(&mut each), ", ")
}

/// `parts` joined by `separator`.
pub(crate) fn joined(parts: impl IntoIterator<Item = String>, separator: &str) -> String {
    let mut out = String::new();
    for (at, part) in parts.into_iter().enumerate() {
        out.push_str(if at > 0 { separator } else { "" });
        out.push_str(&part);
    }
    out
}

/// `rows` rows of `width` anonymous parameters: `(?, ?), (?, ?)`.
pub(crate) fn rows(rows: usize, width: usize) -> String {
    let row = format!("({})", list(0..width, |_| "?".to_owned()));
    list(0..rows, |_| row.clone())
}

/// One column of a key in SQL.
#[derive(Clone, Debug)]
pub(crate) struct KeyTerm {
    /// The qualified, quoted column.
    pub column: String,
    /// Whether the column has a collation other than BINARY, the order of the key encoding.
    pub collated: bool,
}

impl KeyTerm {
    /// The column in code point order. Said only where needed: a row value with a COLLATE in it cannot seek.
    fn binary(&self) -> String {
        if self.collated { format!("{} COLLATE BINARY", self.column) } else { self.column.clone() }
    }
}

/// The key's columns, in order.
pub(crate) fn order(key: &[KeyTerm]) -> String {
    list(key, KeyTerm::binary)
}

/// `(k1, k2) > (?1, ?2)`: all keys on one side of a bound. `operator` is one of `>`, `>=`, `<`.
pub(crate) fn beside(key: &[KeyTerm], operator: &str, before: usize) -> String {
    if let [only] = key {
        return format!("{} {operator} ?{}", only.binary(), before + 1);
    }
    let mut sql = format!("({}) {operator} ({})", order(key), parameters(before, key.len()));
    if key.iter().any(|term| term.collated) {
        // The row value cannot seek; its first column can.
        let seek = if operator.starts_with('>') { ">=" } else { "<=" };
        write!(sql, " AND {} {seek} ?{}", key[0].binary(), before + 1).expect("writing to a String cannot fail");
    }
    sql
}

/// `FROM (VALUES …) k CROSS JOIN table r ON …`: seeks each of `count` keys. SQLite does not seek a row value by
/// `IN (VALUES …)`, it scans. Behind the key each row of values may have `extra` columns of the caller's.
pub(crate) fn seek(table: &str, key: &[KeyTerm], count: usize, extra: usize) -> String {
    let terms = key.iter().enumerate().map(|(at, term)| {
        let wanted = format!("k.column{}", at + 1);
        let natural = format!("{} = {wanted}", term.column);
        // A collated index finds candidates; code points decide.
        if term.collated { format!("{natural} AND {} = {wanted}", term.binary()) } else { natural }
    });
    format!(
        "FROM (VALUES {}) AS k CROSS JOIN {table} AS r ON {}",
        rows(count, key.len() + extra),
        joined(terms, " AND ")
    )
}

/// Cuts `count` items into chunks of falling powers of two, at most `max`: few different statements, all cacheable.
pub(crate) fn chunks(count: usize, max: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut size = 1usize << max.max(1).ilog2();
    let mut start = 0;
    std::iter::from_fn(move || {
        while size > count - start {
            size /= 2;
        }
        (size > 0).then(|| {
            start += size;
            start - size..start
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted(r#"od"d; DROP"#), r#""od""d; DROP""#);
        let ns = |parts: &[&str]| Namespace(parts.iter().map(ToString::to_string).collect());
        assert_eq!(table(&ns(&["MAIN", "a b"])).unwrap(), r#"main."a b""#);
        assert!(table(&ns(&["temp", "t"])).is_err());
        assert!(table(&ns(&[])).is_err());
    }

    #[test]
    fn chunks_cover_everything_once() {
        for count in 0..300 {
            let ends: Vec<_> = chunks(count, 100).collect();
            assert!(ends.iter().all(|chunk| chunk.len().is_power_of_two() && chunk.len() <= 64));
            assert_eq!(ends.into_iter().flatten().collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_collation_is_named_only_where_it_must_be() {
        let term = |column: &str, collated| KeyTerm { column: column.to_owned(), collated };
        assert_eq!(beside(&[term("a", false)], ">", 0), "a > ?1");
        assert_eq!(beside(&[term("a", false), term("b", false)], "<", 2), "(a, b) < (?3, ?4)");
        assert_eq!(
            beside(&[term("a", true), term("b", false)], ">", 0),
            "(a COLLATE BINARY, b) > (?1, ?2) AND a COLLATE BINARY >= ?1"
        );
    }
}
