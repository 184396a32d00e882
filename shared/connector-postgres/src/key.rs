//! The key in SQL: how it is ordered, compared and written as literals so that the server's order is the order of the
//! key encoding.

use fides_core::{Fault, Key, Kind, Selection, Value};
use fides_format::text::{bytes_text, uuid_text};

use crate::catalog::{Attribute, Collation, Relation};
use crate::kind::PgType;
use crate::quote;

/// One column of the key.
#[derive(Debug)]
pub(crate) struct KeyColumn {
    pub(crate) name: String,
    pub(crate) ty: PgType,
    /// The column as it is sorted and compared.
    sorted: String,
    /// The column as it is looked up: equality needs no collation, so that any index serves.
    equal: String,
}

/// The columns of a key, and whether an index keeps them in order.
#[derive(Debug)]
pub(crate) struct KeyColumns {
    pub(crate) columns: Vec<KeyColumn>,
    pub(crate) indexed: bool,
}

/// Which side of a key a bound keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// At or after the key.
    From,
    /// After the key.
    After,
    /// Before the key.
    Before,
}

impl KeyColumns {
    /// The key of a selection, refused clearly where Postgres does not order it as every store does.
    pub(crate) fn new(selection: &Selection, relation: &Relation) -> Result<Self, Fault> {
        let namespace = &selection.namespace;
        if selection.key.is_empty() || selection.key_positions().len() != selection.key.len() {
            return Err(Fault::permanent(format!(
                "table {namespace}: each key column must be one of the columns read"
            )));
        }
        let mut columns = Vec::with_capacity(selection.key.len());
        let mut indexed = relation.sorted_by(&selection.key);
        for &at in &selection.key_positions() {
            let declared = &selection.columns[at];
            let Some(found) = relation.column(&declared.name) else { continue };
            let column = format!("p.{}", quote::name(&declared.name));
            let ty = found.ty.clone().read_as(declared.kind);
            let is_text = matches!(found.base.as_str(), "text" | "varchar");
            let sorted = match found.base.as_str() {
                "int2" | "int4" | "int8" | "bool" | "bytea" => column.clone(),
                "uuid" if ty == PgType::Uuid => column.clone(),
                "oid" => format!("{column}::bigint"),
                "numeric" if matches!(declared.kind, Kind::U64 | Kind::I64) => column.clone(),
                "uuid" => {
                    indexed = false;
                    format!("{column}::text COLLATE \"C\"")
                }
                _ if is_text && found.collation == Collation::Bytes => column.clone(),
                _ if is_text => format!("{column} COLLATE \"C\""),
                _ => {
                    return Err(Fault::permanent(format!(
                        "key column {namespace}.{} is of type {}, which has no order that every store shares",
                        found.name, found.native
                    ))
                    .advise("use columns of type integer, text, varchar, uuid, bytea or boolean as the key"));
                }
            };
            let equal = if found.base == "uuid" && ty != PgType::Uuid { sorted.clone() } else { column };
            columns.push(KeyColumn { name: declared.name.clone(), ty, sorted, equal });
        }
        Ok(Self { columns, indexed })
    }

    /// `a, b COLLATE "C"`
    pub(crate) fn order(&self) -> String {
        list(self.columns.iter().map(|column| column.sorted.clone()))
    }

    /// The condition that keeps one side of `key`, which may name only the first columns.
    pub(crate) fn compare(&self, bound: Bound, key: &Key) -> Result<String, Fault> {
        let values = key.decode()?;
        if values.len() > self.columns.len() {
            return Err(self.foreign(key));
        }
        let mut operator = match bound {
            Bound::From => ">=",
            // What begins with these columns sorts after them.
            Bound::After if values.len() < self.columns.len() => ">=",
            Bound::After => ">",
            Bound::Before => "<",
        };
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for (column, value) in self.columns.iter().zip(&values) {
            left.push(column.sorted.clone());
            // No text of Postgres holds NUL: "a\0b" lies right after "a", whatever follows.
            if let Value::String(text) = value
                && let Some((before, _)) = text.split_once('\0')
            {
                right.push(quote::text(before));
                operator = if bound == Bound::Before { "<=" } else { ">" };
                break;
            }
            right.push(literal(value, &column.ty).ok_or_else(|| self.foreign(key))?);
        }
        Ok(match left.as_slice() {
            [] => "true".to_owned(),
            [one] => format!("{one} {operator} {}", right[0]),
            _ => format!("({}) {operator} ({})", left.join(", "), right.join(", ")),
        })
    }

    /// The condition that finds `keys`. What is left out counts as proven absent (L8), so that only keys are that no
    /// table of Postgres can hold; a key of another shape than the table's is a fault. `None` when none is left.
    pub(crate) fn among<'k>(&self, keys: impl Iterator<Item = &'k Key>) -> Result<Option<String>, Fault> {
        let mut rows = Vec::new();
        for key in keys {
            let values = key.decode()?;
            if values.len() != self.columns.len() {
                return Err(self.foreign(key));
            }
            if values.iter().any(|value| matches!(value, Value::String(text) if text.contains('\0'))) {
                continue;
            }
            let literals = values.iter().zip(&self.columns).map(|(value, column)| literal(value, &column.ty));
            let literals: Vec<String> = literals.collect::<Option<_>>().ok_or_else(|| self.foreign(key))?;
            rows.push(if literals.len() == 1 { literals.concat() } else { format!("({})", literals.join(", ")) });
        }
        if rows.is_empty() {
            return Ok(None);
        }
        Ok(Some(match self.columns.as_slice() {
            [one] => format!("{} IN ({})", one.equal, rows.join(", ")),
            several => {
                let columns = list(several.iter().map(|column| column.equal.clone()));
                format!("({columns}) IN (VALUES {})", rows.join(", "))
            }
        }))
    }

    fn foreign(&self, key: &Key) -> Fault {
        let columns = list(self.columns.iter().map(|column| column.name.clone()));
        Fault::permanent(format!("key {key} does not fit the key columns ({columns})"))
            .advise("the key's type was changed: import anew")
    }
}

/// Whether a column gives every key of `kind` that it takes back as it was written: `uuid` takes texts in many
/// spellings and gives back one, a number's column takes `007`. What is read back would be another key, which a walk over
/// host and target takes for one that only the target has, and whose deletion would hit the healthy record (L8).
pub(crate) fn keeps(column: &Attribute, kind: Kind) -> bool {
    // Under another collation `a` and `A` may be one record.
    column.collation != Collation::Folding
        && match column.base.as_str() {
            "bool" => matches!(kind, Kind::Bool | Kind::Any),
            "int2" | "int4" | "int8" => matches!(kind, Kind::I64 | Kind::U64 | Kind::Any),
            "numeric" => matches!(kind, Kind::I64 | Kind::U64) && is_whole(&column.base_native),
            "text" | "varchar" => matches!(kind, Kind::String | Kind::Uuid | Kind::Any),
            "uuid" => matches!(kind, Kind::Uuid | Kind::Any),
            "bytea" => matches!(kind, Kind::Bytes | Kind::Any),
            _ => false,
        }
}

/// Whether a numeric type neither rounds whole numbers nor writes them with a fraction.
fn is_whole(native: &str) -> bool {
    native == "numeric" || native.ends_with(",0)")
}

/// Whether a column that is read as `ty` gives this key value back: kinds are declared, values may differ.
pub(crate) fn is_of(value: &Value<'_>, ty: &PgType) -> bool {
    match value {
        Value::I64(_) | Value::U64(_) => matches!(ty, PgType::Int | PgType::Whole),
        Value::Bool(_) => *ty == PgType::Bool,
        Value::Uuid(_) => matches!(ty, PgType::Uuid | PgType::UuidText),
        Value::Bytes(_) => *ty == PgType::Bytea,
        Value::String(_) => matches!(ty, PgType::Text | PgType::UuidText),
        _ => false,
    }
}

fn list(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

/// A key value as a literal of its column's type; `None` when no such column can hold it.
fn literal(value: &Value<'_>, ty: &PgType) -> Option<String> {
    Some(match (value, ty) {
        (Value::I64(value), PgType::Int | PgType::Whole) => value.to_string(),
        (Value::U64(value), PgType::Int | PgType::Whole) => value.to_string(),
        (Value::Bool(value), PgType::Bool) => value.to_string(),
        (Value::Uuid(uuid), PgType::Uuid) => format!("'{}'::uuid", uuid_text(uuid)),
        (Value::Uuid(uuid), PgType::UuidText) => quote::text(&uuid_text(uuid)),
        (Value::Bytes(bytes), PgType::Bytea) => format!("{}::bytea", quote::text(&bytes_text(bytes))),
        (Value::String(text), PgType::Text | PgType::UuidText) if !text.contains('\0') => quote::text(text),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> KeyColumns {
        let column = |name: &str, ty, sorted: &str| KeyColumn {
            name: name.into(),
            ty,
            sorted: sorted.into(),
            equal: format!("p.{name}"),
        };
        let columns = vec![column("a", PgType::Text, "p.a COLLATE \"C\""), column("b", PgType::Int, "p.b")];
        KeyColumns { columns, indexed: true }
    }

    fn key(values: &[Value<'_>]) -> Key {
        Key::encode(values).unwrap()
    }

    #[test]
    fn bounds_compare_rows_prefixes_and_what_postgres_cannot_hold() {
        let compare = |bound, values: &[Value<'_>]| columns().compare(bound, &key(values)).unwrap();
        let both = [Value::String("it's".into()), Value::I64(-5)];
        assert_eq!(compare(Bound::After, &both), "(p.a COLLATE \"C\", p.b) > ('it''s', -5)");
        assert_eq!(compare(Bound::Before, &both[..1]), "p.a COLLATE \"C\" < 'it''s'");
        let nul = [Value::String("a\0z".into()), Value::I64(1)];
        assert_eq!(compare(Bound::From, &nul), "p.a COLLATE \"C\" > 'a'");
        assert_eq!(compare(Bound::Before, &nul), "p.a COLLATE \"C\" <= 'a'");
        let fault = columns().compare(Bound::From, &key(&[Value::I64(1)])).unwrap_err();
        assert!(fault.to_string().contains("does not fit"), "{fault}");
    }

    #[test]
    fn keys_that_cannot_exist_are_left_out() {
        let good = key(&[Value::String("x".into()), Value::I64(1)]);
        let keys = [good.clone(), key(&[Value::String("a\0".into()), Value::I64(1)])];
        assert_eq!(columns().among(keys.iter()).unwrap().unwrap(), "(p.a, p.b) IN (VALUES ('x', 1))");
        assert_eq!(columns().among(keys[1..].iter()).unwrap(), None);
    }

    #[test]
    fn keys_of_another_shape_are_never_left_out() {
        let text = |text: &'static str| Value::String(text.into());
        let good = key(&[text("x"), Value::I64(1)]);
        for other in [
            &[Value::I64(1)][..],
            &[text("x")],
            &[text("x"), text("1")],
            &[Value::Uuid([0; 16]), Value::I64(1)],
            &[text("x"), Value::I64(1), Value::I64(1)],
        ] {
            let fault = columns().among([&good, &key(other)].into_iter()).unwrap_err();
            assert!(fault.to_string().contains("does not fit the key columns (a, b)"), "{other:?}: {fault}");
        }
    }

    #[test]
    fn a_number_is_kept_by_numerics_without_a_fraction() {
        for (native, is_kept) in
            [("numeric", true), ("numeric(20,0)", true), ("numeric(9,2)", false), ("numeric(3,-1)", false)]
        {
            assert_eq!(is_whole(native), is_kept, "{native}");
        }
    }
}
