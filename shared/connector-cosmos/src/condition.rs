//! Queries in the order of keys: which documents, from where, in which order.

use std::fmt::Write as _;

use azure_data_cosmos::Query;
use fides_core::{Fault, Key, KeyRange, Value};
use fides_format::text::uuid_text;
use serde_json::{Value as Json, json};

use crate::layout::{GONE, KEY, key_text};

/// What documents are found and ordered by.
#[derive(Clone, Debug)]
pub(crate) enum Keying {
    /// The encoded key that Fides wrote into them: its hex digits have the order of the keys. The field `version` says which
    /// document of a record is the newer one.
    Encoded { version: String },
    /// Fields of their own, each a path that a query can read.
    Fields(Vec<String>),
}

/// Text of a query with its parameters, which never stand in the text.
#[derive(Debug, Default)]
pub(crate) struct Sql {
    pub text: String,
    parameters: Vec<Json>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bound {
    After,
    From,
    Before,
}

impl Sql {
    /// A query without parameters.
    pub fn new(text: String) -> Self {
        Self { text, ..Self::default() }
    }

    /// Adds to the text.
    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // A text takes everything.
        let _ = self.text.write_fmt(text);
    }

    /// Puts a parameter into the text.
    fn bind(&mut self, value: Json) {
        let name = format!("@p{}", self.parameters.len());
        self.text.push_str(&name);
        self.parameters.push(value);
    }

    /// As the driver takes it.
    pub fn query(self) -> Result<Query, Fault> {
        let mut query = Query::from(self.text);
        for (at, value) in self.parameters.into_iter().enumerate() {
            query = query
                .with_parameter(format!("@p{at}"), value)
                .map_err(|error| Fault::permanent("a parameter of a query").because(error))?;
        }
        Ok(query)
    }
}

impl Keying {
    /// Documents of `range` behind `after`, at most `limit`, in key order.
    pub fn page(&self, select: &str, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<Sql, Fault> {
        let mut sql =
            Sql { text: format!("SELECT TOP {limit} {select} FROM c WHERE {}", self.is_record()), ..Sql::default() };
        let lower = match (after, &range.lower) {
            (Some(after), Some(lower)) if after < lower => Some((Bound::From, lower)),
            (Some(after), _) => Some((Bound::After, after)),
            (None, lower) => lower.as_ref().map(|lower| (Bound::From, lower)),
        };
        let upper = range.upper.as_ref().map(|upper| (Bound::Before, upper));
        for (bound, key) in lower.into_iter().chain(upper) {
            sql.text.push_str(" AND ");
            self.compare(bound, key, &mut sql)?;
        }
        self.order("ASC", &mut sql);
        Ok(sql)
    }

    /// Documents under `keys`, in key order.
    pub fn among(&self, select: &str, keys: &[&Key]) -> Result<Sql, Fault> {
        let mut sql = Sql { text: format!("SELECT {select} FROM c WHERE {} AND ", self.is_record()), ..Sql::default() };
        match self {
            Self::Encoded { .. } => {
                listed(&path(KEY), keys.iter().map(|key| key_text(key.as_bytes()).into()), &mut sql);
            }
            Self::Fields(fields) if fields.len() == 1 => {
                let values = keys.iter().map(|key| Ok(key.decode()?.first().map_or(Json::Null, literal)));
                listed(&path(&fields[0]), values.collect::<Result<Vec<_>, Fault>>()?.into_iter(), &mut sql);
            }
            Self::Fields(fields) => {
                sql.text.push('(');
                for (at, key) in keys.iter().enumerate() {
                    sql.text.push_str(if at == 0 { "(" } else { " OR (" });
                    for (at, (field, value)) in fields.iter().zip(key.decode()?).enumerate() {
                        sql.text.push_str(if at == 0 { "" } else { " AND " });
                        sql.write(format_args!("{} = ", path(field)));
                        sql.bind(literal(&value));
                    }
                    sql.text.push(')');
                }
                sql.text.push(')');
            }
        }
        self.order("ASC", &mut sql);
        Ok(sql)
    }

    /// The last document.
    pub fn last(&self, select: &str) -> Sql {
        let mut sql =
            Sql { text: format!("SELECT TOP 1 {select} FROM c WHERE {}", self.is_record()), ..Sql::default() };
        self.order("DESC", &mut sql);
        sql
    }

    fn is_record(&self) -> String {
        match self {
            Self::Encoded { .. } => format!("IS_DEFINED({})", path(KEY)),
            // What a Fides that writes this container has deleted.
            Self::Fields(_) => format!("NOT IS_DEFINED({})", path(GONE)),
        }
    }

    fn compare(&self, bound: Bound, key: &Key, sql: &mut Sql) -> Result<(), Fault> {
        let operator = match bound {
            Bound::After => ">",
            Bound::From => ">=",
            Bound::Before => "<",
        };
        match self {
            Self::Encoded { .. } => {
                sql.write(format_args!("{} {operator} ", path(KEY)));
                sql.bind(key_text(key.as_bytes()).into());
            }
            Self::Fields(fields) => compare_fields(fields, bound, &key.decode()?, sql),
        }
        Ok(())
    }

    fn order(&self, direction: &str, sql: &mut Sql) {
        let paths: Vec<String> = match self {
            Self::Encoded { .. } => vec![path(KEY)],
            Self::Fields(fields) => fields.iter().map(|field| path(field)).collect(),
        };
        let paths: Vec<String> = paths.into_iter().map(|path| format!("{path} {direction}")).collect();
        sql.write(format_args!(" ORDER BY {}", paths.join(", ")));
    }
}

/// `a > 1 OR (a = 1 AND b > 2)`. The first columns of a key alone stand before every key that begins with them.
fn compare_fields(fields: &[String], bound: Bound, values: &[Value<'_>], sql: &mut Sql) {
    let is_whole = values.len() == fields.len();
    sql.text.push('(');
    for at in 0..values.len() {
        let is_last = at + 1 == values.len();
        let operator = match bound {
            Bound::Before => "<",
            Bound::From if is_last => ">=",
            Bound::After if is_last && !is_whole => ">=",
            Bound::From | Bound::After => ">",
        };
        sql.text.push_str(if at == 0 { "(" } else { " OR (" });
        for (field, value) in fields[..at].iter().zip(values) {
            sql.write(format_args!("{} = ", path(field)));
            sql.bind(literal(value));
            sql.text.push_str(" AND ");
        }
        sql.write(format_args!("{} {operator} ", path(&fields[at])));
        sql.bind(literal(&values[at]));
        sql.text.push(')');
    }
    sql.text.push(')');
}

fn listed(path: &str, values: impl Iterator<Item = Json>, sql: &mut Sql) {
    sql.write(format_args!("{path} IN ("));
    for (at, value) in values.enumerate() {
        sql.text.push_str(if at == 0 { "" } else { ", " });
        sql.bind(value);
    }
    sql.text.push(')');
}

/// Words of the query language: as a name each of them stands in quotes.
const WORDS: &[&str] = &[
    "and",
    "array",
    "as",
    "asc",
    "between",
    "by",
    "cross",
    "desc",
    "distinct",
    "escape",
    "exists",
    "false",
    "for",
    "from",
    "group",
    "having",
    "in",
    "inner",
    "is",
    "join",
    "left",
    "let",
    "like",
    "limit",
    "not",
    "null",
    "offset",
    "or",
    "order",
    "over",
    "rank",
    "right",
    "select",
    "set",
    "top",
    "true",
    "udf",
    "undefined",
    "value",
    "where",
];

/// A field at the top of a document, whatever its name.
pub(crate) fn path(field: &str) -> String {
    if is_plain(field) { format!("c.{field}") } else { format!("c[{}]", json!(field)) }
}

/// Whether a field needs no quotes. The driver merges what the partitions answer, and orders it by such fields only.
pub(crate) fn is_plain(field: &str) -> bool {
    let mut chars = field.chars();
    chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && chars.all(|char| char.is_ascii_alphanumeric() || char == '_')
        && !WORDS.iter().any(|word| word.eq_ignore_ascii_case(field))
}

/// A key column as a query compares it.
fn literal(value: &Value<'_>) -> Json {
    match value {
        Value::Bool(value) => json!(value),
        Value::I64(value) => json!(value),
        Value::U64(value) => json!(value),
        Value::Uuid(value) => json!(uuid_text(value)),
        Value::Bytes(value) => json!(fides_format::text::bytes_text(value)),
        Value::String(text) => json!(text),
        _ => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_compares_column_by_column() {
        let keying = Keying::Fields(vec!["a".to_owned(), "b".to_owned()]);
        let key = |values: &[Value<'_>]| Key::encode(values).unwrap();
        let range = KeyRange { lower: Some(key(&[Value::I64(1)])), upper: Some(key(&[Value::I64(9), Value::I64(2)])) };
        let sql = keying.page("*", &range, None, 5).unwrap();
        assert_eq!(
            sql.text,
            "SELECT TOP 5 * FROM c WHERE NOT IS_DEFINED(c._fides_gone) AND ((c.a >= @p0)) \
             AND ((c.a < @p1) OR (c.a = @p2 AND c.b < @p3)) ORDER BY c.a ASC, c.b ASC"
        );
        let after = key(&[Value::I64(1), Value::I64(5)]);
        let sql = keying.page("*", &KeyRange::ALL, Some(&after), 5).unwrap();
        assert!(sql.text.contains("((c.a > @p0) OR (c.a = @p1 AND c.b > @p2))"), "{}", sql.text);
    }

    #[test]
    fn a_name_that_is_no_plain_one_stands_in_quotes() {
        for (field, shown) in [
            ("a_1", "c.a_1"),
            ("_x", "c._x"),
            ("1a", "c[\"1a\"]"),
            ("a b", "c[\"a b\"]"),
            ("ä\"]", "c[\"ä\\\"]\"]"),
            ("Order", "c[\"Order\"]"),
            ("", "c[\"\"]"),
        ] {
            assert_eq!(path(field), shown);
        }
    }
}
